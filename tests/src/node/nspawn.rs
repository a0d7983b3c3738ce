//! Box machines: systemd-nspawn over an overlay of read-only layers.

use std::ffi::OsStr;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::PATH;
use super::record::Record;
use crate::cgroup::Cgroup;
use crate::command::command;

const SUPERVISE: &str = include_str!("supervise.sh");

/// Where nspawn puts the machine's PID 1, relative to the machine's cgroup.
const LEADER: &str = "payload/init.scope";

/// Starts the supervisor and returns at once; it tells over the notification socket how it goes on.
pub(super) fn start(record: &Record, cgroup: &Cgroup, network: &Path) -> Result<()> {
    cgroup.create()?;
    let root = record.disk().join("root");
    let log = File::options()
        .create(true)
        .append(true)
        .open(record.console())
        .with_context(|| format!("open {}", record.console().display()))?;
    command(
        "setsid",
        [
            "unshare",
            "--mount",
            "--propagation=slave",
            "--",
            "sh",
            "-c",
            SUPERVISE,
            "supervise",
        ],
    )
    .args(machine_arguments(record, &root, network))
    .env_clear()
    .env("PATH", PATH)
    .env("CGROUP", cgroup.path())
    .env("OVERLAY", overlay(record))
    .env("ROOT", &root)
    .env("NOTIFY_SOCKET", record.notify_socket())
    .env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1")
    .current_dir("/")
    .stdin(Stdio::null())
    .stdout(log.try_clone()?)
    .stderr(log)
    .spawn()
    .context("start the supervisor of the box")?;
    Ok(())
}

/// A command that enters all namespaces of the machine.
pub(super) fn enter<A: AsRef<OsStr>>(leader: u32, argv: impl IntoIterator<Item = A>) -> Result<Command> {
    let mut nsenter = command(
        "nsenter",
        ["--target", &leader.to_string(), "--all", "--wdns=/", "--"],
    );
    nsenter
        .args(argv)
        .env_clear()
        .envs([("PATH", PATH), ("HOME", "/root"), ("LANG", "C.UTF-8")]);
    if let Some(terminal) = std::env::var_os("TERM") {
        nsenter.env("TERM", terminal);
    }
    Ok(nsenter)
}

/// The host's process id of the machine's PID 1.
pub(super) fn leader(cgroup: &Cgroup) -> Result<u32> {
    cgroup
        .processes(LEADER)?
        .first()
        .copied()
        .context("it has no PID 1")
}

fn machine_arguments(record: &Record, root: &Path, network: &Path) -> Vec<String> {
    let mut arguments = vec![
        "systemd-nspawn".to_owned(),
        "--quiet".to_owned(),
        "--boot".to_owned(),
        // No systemd on the host is needed: no registration, no unit of its own.
        "--register=no".to_owned(),
        "--keep-unit".to_owned(),
        "--notify-ready=yes".to_owned(),
        "--console=read-only".to_owned(),
        "--link-journal=no".to_owned(),
        "--resolv-conf=off".to_owned(),
        "--timezone=off".to_owned(),
        // Containers are started inside: everything a node may do, a box may do.
        "--capability=all".to_owned(),
        "--system-call-filter=@known".to_owned(),
        format!("--hostname={}", record.name),
        format!("--machine={}", record.name),
        format!("--directory={}", root.display()),
        format!("--network-namespace-path={}", network.display()),
        format!("--bind={}:/var/lib/nodectl", record.state().display()),
    ];
    // Open vSwitch's userspace datapath needs it; a host without the tun module has none to give.
    let tun = Path::new("/dev/net/tun");
    if tun.exists() {
        arguments.push(format!("--bind={}", tun.display()));
    }
    arguments
}

fn overlay(record: &Record) -> String {
    let layers: Vec<String> = record
        .layers
        .iter()
        .map(|layer| layer.display().to_string())
        .collect();
    format!(
        "lowerdir={},upperdir={},workdir={}",
        layers.join(":"),
        record.upper().display(),
        record.disk().join("work").display()
    )
}

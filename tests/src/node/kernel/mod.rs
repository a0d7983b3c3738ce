//! Machines on a kernel of their own: the disk is an ext4 image, commands go over ssh, a cut ends the kernel.

mod disk;
mod qemu;
mod ssh;
mod uml;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use anyhow::{Context, Result};

use super::record::{Platform, Record};
use crate::cgroup::Cgroup;
use crate::lab;

pub(super) use disk::make;
pub(super) use ssh::{enter, shell};

const SUPERVISE: &str = include_str!("supervise.sh");

/// What user-mode-linux becomes to reboot; the supervisor knows the status.
const AGAIN: &str = "#!/bin/sh\nexit 133\n";

const MEMORY_MIB: u32 = 2048;

/// Starts the supervisor and returns at once; it tells over the notification socket how it goes on.
pub(super) fn start(record: &Record, cgroup: &Cgroup) -> Result<()> {
    cgroup.create()?;
    let kernel = match &record.platform {
        Platform::Box => anyhow::bail!("{} has no kernel of its own", record.name),
        Platform::Uml(kernels) => uml::command(record, kernels),
        Platform::Vm(kernels) => qemu::command(record, kernels)?,
    };
    let again = record.disk().join("again");
    fs::write(&again, AGAIN).with_context(|| format!("write {}", again.display()))?;
    fs::set_permissions(&again, fs::Permissions::from_mode(0o755))?;
    let inside = lab::command_inside("bash");
    crate::command::command("setsid", [inside.get_program()])
        .args(inside.get_args())
        .args(["-c", SUPERVISE, "supervise"])
        .args(kernel)
        .arg("--")
        .args(ssh::arguments(record)?)
        .env_clear()
        .env("PATH", super::PATH)
        .env("AGAIN", again)
        .env("CGROUP", cgroup.path())
        .env("CONSOLE", record.console())
        .env("CONTROL", record.ssh_control())
        .env("NOTIFY_SOCKET", record.notify_socket())
        // The memory of user-mode-linux is a file without a name.
        .env("TMPDIR", "/dev/shm")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("start the supervisor of the machine")?;
    Ok(())
}

/// What both kernels are told: where the root is, where the console is, who the machine is.
fn parameters(record: &Record, disk: &str) -> Vec<String> {
    vec![
        format!("root={disk}"),
        "rw".to_owned(),
        "net.ifnames=0".to_owned(),
        // The older hierarchy does not exist on these machines, whatever their systemd was built with.
        "systemd.unified_cgroup_hierarchy=1".to_owned(),
        format!("testnode.address={}/24", record.address),
    ]
}

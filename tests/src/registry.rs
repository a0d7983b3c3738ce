//! The distribution registry (Debian's docker-registry) in the lab's namespace.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::cache;
use crate::cgroup::Cgroup;
use crate::command::command;
use crate::{lab, paths};

/// Its port, on every address of the lab's namespace.
pub const PORT: u16 = 5000;

/// What processes in the lab's namespace call it, see [`lab::command_inside`].
pub const FROM_LAB: &str = "127.0.0.1:5000";

const START: Duration = Duration::from_secs(20);

// exec keeps the process that joined the cgroup, so the registry is all there is to kill.
const JOIN: &str = "echo $$ >\"$CGROUP/cgroup.procs\" && exec \"$@\"";

/// Starts the registry if it does not run; returns when it answers. What was pushed to an earlier one is still there
/// until [`down`].
///
/// # Errors
/// docker-registry is missing, or does not answer in time.
pub fn up() -> Result<()> {
    lab::up()?;
    let cgroup = cgroup()?;
    if cgroup.populated()? {
        return Ok(());
    }
    let directory = directory();
    fs::create_dir_all(directory.join("data")).with_context(|| format!("create {}", directory.display()))?;
    let file = directory.join("config.yml");
    fs::write(&file, configuration(&directory)).with_context(|| format!("write {}", file.display()))?;
    let log = File::create(directory.join("log")).context("create the registry's log")?;
    cgroup.create()?;
    let registry = lab::command_inside("docker-registry");
    let mut child = command("setsid", ["sh", "-c", JOIN, "join"])
        .arg(registry.get_program())
        .args(registry.get_args())
        .arg("serve")
        .arg(&file)
        .env("CGROUP", cgroup.path())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("start docker-registry")?;
    let deadline = Instant::now() + START;
    while !answers() {
        if let Some(status) = child.try_wait()? {
            bail!("docker-registry: {status}: {}", last_line(&directory.join("log")));
        }
        if Instant::now() > deadline {
            bail!(
                "docker-registry does not answer: {}",
                last_line(&directory.join("log"))
            );
        }
        // It has no way to tell that it listens.
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Stops the registry and forgets what was pushed.
///
/// # Errors
/// It cannot be killed, or its data not removed.
pub fn down() -> Result<()> {
    let cgroup = cgroup()?;
    cgroup.kill(Instant::now() + START)?;
    cgroup.remove()?;
    cache::remove(&directory())
}

/// Kills the registry in the middle of what it does; what was pushed stays for the next [`up`].
///
/// # Errors
/// It cannot be killed.
pub fn cut() -> Result<()> {
    cgroup()?.kill(Instant::now() + START)
}

/// The file in which it keeps a blob, by its digest (`sha256:…`).
pub fn blob(digest: &str) -> PathBuf {
    let hex = digest.trim_start_matches("sha256:");
    let blobs = directory().join("data/docker/registry/v2/blobs/sha256");
    blobs
        .join(hex.get(..2).unwrap_or_default())
        .join(hex)
        .join("data")
}

/// Whether it runs.
///
/// # Errors
/// The state cannot be read.
pub fn running() -> Result<bool> {
    cgroup()?.populated()
}

/// What nodes call it, as `host:port`.
pub fn from_nodes() -> String {
    format!("{}:{PORT}", lab::LAB)
}

fn cgroup() -> Result<Cgroup> {
    // An upper-case name can never be a machine's.
    Cgroup::named("REGISTRY")
}

fn directory() -> PathBuf {
    paths::work().join("REGISTRY")
}

fn configuration(directory: &Path) -> String {
    let data = directory.join("data");
    format!(
        "version: 0.1\nlog:\n  level: warn\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    \
         rootdirectory: {}\n  delete:\n    enabled: true\nhttp:\n  addr: 0.0.0.0:{PORT}\n",
        data.display()
    )
}

fn answers() -> bool {
    lab::inside(|| {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
        Ok(TcpStream::connect_timeout(&address, Duration::from_secs(1))?)
    })
    .is_ok()
}

fn last_line(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    text.trim_end()
        .lines()
        .next_back()
        .unwrap_or("its log is empty")
        .to_owned()
}

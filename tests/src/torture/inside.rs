//! Where the work is done: a mount namespace of its own, which takes every mount and loop device with it, and the
//! lab's network, where the registry is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::cast::{Cast, Size};
use super::disk::{Disks, FileSystem, Mounted};
use super::inspect::Inspector;
use super::machine::Machine;
use super::step::Step;
use super::worker::Worker;
use crate::command::{command, output};
use crate::{lab, paths, registry, teardown};

/// The disk of a node that runs version 1.
pub const BASE: &str = "base";

/// The disk that is worked on.
pub const LIVE: &str = "live";

/// Disks, the node and who looks at it.
#[derive(Debug)]
pub struct Place {
    base: PathBuf,
    /// The disks.
    pub disks: Disks,
    /// The node.
    pub machine: Machine,
    /// Who looks at it.
    pub inspector: Inspector,
}

/// Publishes what is needed and runs this program again, with the same arguments and `--inside`, where it can do what it
/// wants. Network and registry are those of this process's instance. Returns whether it ended well.
///
/// # Errors
/// No privileges, no registry, no namespaces.
pub fn enter(stage: &Path, size: Size) -> Result<bool> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "this mounts file systems: run it as root"
    );
    ensure!(
        stage.join("usr/bin/nodectl").exists(),
        "{} has no usr/bin/nodectl: run `make stage` first",
        stage.display()
    );
    teardown::everything()?;
    registry::up()?;
    let cast = Cast::publish(stage, size)?;
    let base = base();
    fs::create_dir_all(&base)?;
    fs::write(cast_file(&base), serde_json::to_vec(&cast)?)?;
    let mut inside: Command = lab::command_inside("unshare");
    inside
        .args([
            "--mount",
            "--propagation",
            "private",
            "--fork",
            "--kill-child",
            "--",
        ])
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .arg("--inside")
        .stdin(Stdio::null())
        .stdout(Stdio::inherit())
        .stderr(Stdio::inherit());
    let status = inside.status().context("enter the namespaces")?;
    teardown::everything()?;
    Ok(status.success())
}

/// The directory that holds everything; its name is the same outside and inside, what is in it is not.
pub fn base() -> PathBuf {
    paths::work().join("node")
}

fn cast_file(base: &Path) -> PathBuf {
    base.with_extension("cast")
}

/// What was published.
///
/// # Errors
/// It cannot be read.
pub fn cast(base: &Path) -> Result<Cast> {
    let file = cast_file(base);
    let bytes = fs::read(&file).with_context(|| format!("read {}", file.display()))?;
    Ok(serde_json::from_slice(&bytes)?)
}

impl Place {
    /// Makes the disks in memory, and installs version 1 on one of them.
    ///
    /// # Errors
    /// The file systems cannot be made, or the installation fails.
    pub fn make(kind: FileSystem) -> Result<Self> {
        let base = base();
        // In memory nothing waits for the host's own disk, and everything is gone with the namespace.
        output(command("mount", ["-t", "tmpfs", "-o", "size=80%", "tmpfs"]).arg(&base))?;
        let cast = cast(&base)?;
        let disks = Disks::make(&base, kind)?;
        let machine = Machine::new(&base);
        let inspector = Inspector::new(&cast, &base.join("expected"))?;
        let place = Self {
            base,
            disks,
            machine,
            inspector,
        };
        place.install(&cast)?;
        Ok(place)
    }

    fn install(&self, cast: &Cast) -> Result<()> {
        self.disks.format(BASE)?;
        let mounted = self.disks.mount(BASE, &self.machine.disk())?;
        self.machine.configure(&cast.key)?;
        self.machine.boot("install")?;
        let mut worker = Worker::start(self, &[Step::Upgrade("1".into())], &[])?;
        worker.go()?;
        worker.finish()?;
        mounted.sync()?;
        mounted.unmount()
    }

    /// Mounts a copy of the disk that has version 1 and boots the node from it.
    ///
    /// # Errors
    /// It cannot be mounted.
    pub fn begin(&self, quiet: bool) -> Result<Mounted> {
        self.disks.clone_disk(BASE, LIVE)?;
        let at = self.machine.disk();
        let mounted = if quiet {
            self.disks.mount_quiet(LIVE, &at)?
        } else {
            self.disks.mount(LIVE, &at)?
        };
        self.machine.boot("first")?;
        self.machine.engine()?.1.start_all()?;
        Ok(mounted)
    }

    /// The directory that holds everything.
    pub fn base(&self) -> &Path {
        &self.base
    }
}

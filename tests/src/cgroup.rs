//! One cgroup (v2) per machine: its name is the machine's life line.
//!
//! Everything of a machine, supervisor included, lives under it; so `cgroup.kill` cuts the power of all
//! processes in the same instant, and "populated" says whether the machine runs, without any process id that
//! could have been used again. Also, without one each, two nspawn containers would share one subtree.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::paths;

/// A cgroup directory that need not exist.
#[derive(Debug, Clone)]
pub struct Cgroup(PathBuf);

impl Cgroup {
    /// The cgroup for a machine of this instance, at the top of the unified hierarchy.
    ///
    /// # Errors
    /// No cgroup2 file system is mounted.
    pub fn named(name: &str) -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts").context("read /proc/self/mounts")?;
        let top = unified(&mounts).context("no cgroup2 file system is mounted on this host")?;
        Ok(Self(
            Path::new(top).join(format!("{}-testnode-{name}", paths::instance())),
        ))
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Makes the directory.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn create(&self) -> Result<()> {
        fs::create_dir_all(&self.0).with_context(|| format!("create cgroup {}", self.0.display()))
    }

    /// Whether any process is in it or below it.
    ///
    /// # Errors
    /// Its state cannot be read.
    pub fn populated(&self) -> Result<bool> {
        match fs::read_to_string(self.0.join("cgroup.events")) {
            Ok(events) => Ok(events.lines().any(|line| line == "populated 1")),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error).with_context(|| format!("read state of cgroup {}", self.0.display())),
        }
    }

    /// The processes directly in the child of that relative path.
    ///
    /// # Errors
    /// The list cannot be read.
    pub fn processes(&self, child: &str) -> Result<Vec<u32>> {
        let path = self.0.join(child).join("cgroup.procs");
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        Ok(text
            .lines()
            .filter_map(|line| line.parse().ok())
            .filter(|pid| *pid != 0)
            .collect())
    }

    /// SIGKILL to everything at once; returns when all of it is gone.
    ///
    /// # Errors
    /// Something is left at the deadline.
    pub fn kill(&self, deadline: Instant) -> Result<()> {
        if !self.populated()? {
            return Ok(());
        }
        let path = self.0.join("cgroup.kill");
        fs::write(&path, "1").with_context(|| format!("write {}", path.display()))?;
        self.wait_empty(deadline)
    }

    /// Waits until no process is left in it.
    ///
    /// # Errors
    /// Something is left at the deadline.
    pub fn wait_empty(&self, deadline: Instant) -> Result<()> {
        let path = self.0.join("cgroup.events");
        let mut events = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error).with_context(|| format!("open {}", path.display())),
        };
        loop {
            let mut text = String::new();
            events.rewind()?;
            events.read_to_string(&mut text)?;
            if !text.lines().any(|line| line == "populated 1") {
                return Ok(());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("processes are left in cgroup {}", self.0.display());
            }
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            poll(&mut [PollFd::new(events.as_fd(), PollFlags::POLLPRI)], timeout)?;
        }
    }

    /// Removes the empty directories, children first.
    ///
    /// # Errors
    /// One of them is in use.
    pub fn remove(&self) -> Result<()> {
        remove_tree(&self.0).with_context(|| format!("remove cgroup {}", self.0.display()))
    }
}

fn remove_tree(path: &Path) -> std::io::Result<()> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}

fn unified(mounts: &str) -> Option<&str> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let target = fields.next()?;
        (fields.next()? == "cgroup2").then_some(target)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unified_hierarchy_is_found_in_both_layouts() {
        let hybrid =
            "cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(unified(hybrid), Some("/sys/fs/cgroup/unified"));
        assert_eq!(
            unified("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n"),
            Some("/sys/fs/cgroup")
        );
        assert_eq!(unified("proc /proc proc rw 0 0\n"), None);
    }
}

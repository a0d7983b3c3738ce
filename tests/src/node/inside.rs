//! What can be done in a running machine.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, bail};

use super::record::Platform;
use super::{Node, kernel, nspawn};
use crate::command;

impl Node {
    /// A command that will run inside, as root, in all namespaces of the machine, with a clean environment. On a kernel
    /// of its own, a signal that ends the command is told as the exit status 128 and its number.
    ///
    /// # Errors
    /// The machine is off.
    pub fn command<A: AsRef<OsStr>>(&self, argv: impl IntoIterator<Item = A>) -> Result<Command> {
        match &self.record.platform {
            Platform::Box => nspawn::enter(self.leader()?, argv),
            Platform::Uml(_) | Platform::Vm(_) => {
                self.ensure_on()?;
                kernel::enter(&self.record, argv)
            }
        }
    }

    /// A login shell on the caller's terminal.
    ///
    /// # Errors
    /// The machine is off.
    pub fn shell(&self) -> Result<Command> {
        match &self.record.platform {
            Platform::Box => nspawn::enter(self.leader()?, ["/bin/bash", "-l"]),
            Platform::Uml(_) | Platform::Vm(_) => {
                self.ensure_on()?;
                kernel::shell(&self.record)
            }
        }
    }

    /// Runs inside, whatever the exit status.
    ///
    /// # Errors
    /// The machine is off.
    pub fn attempt<A: AsRef<OsStr>>(&self, argv: impl IntoIterator<Item = A>) -> Result<Output> {
        command::attempt(&mut self.command(argv)?)
    }

    /// Runs inside and returns standard output.
    ///
    /// # Errors
    /// The machine is off, or the command does not succeed.
    pub fn run<A: AsRef<OsStr>>(&self, argv: impl IntoIterator<Item = A>) -> Result<String> {
        command::output(&mut self.command(argv)?).with_context(|| format!("on {}", self.name()))
    }

    /// Starts a command as `UNIT.service`, which is forgotten when it has ended, and leaves it running.
    ///
    /// # Errors
    /// The machine is off, there is such a unit, or the program cannot be executed.
    pub fn start<A: AsRef<OsStr>>(&self, unit: &str, argv: impl IntoIterator<Item = A>) -> Result<()> {
        let run = [
            "systemd-run",
            "--quiet",
            "--collect",
            "--service-type=exec",
            "--unit",
        ];
        let mut words: Vec<OsString> = run.iter().map(OsString::from).collect();
        words.extend([unit, "--"].map(OsString::from));
        words.extend(argv.into_iter().map(|word| word.as_ref().to_owned()));
        self.run(words).map(drop)
    }

    /// Writes a file inside the running machine, with its parent directories.
    ///
    /// # Errors
    /// The machine is off, or the file cannot be written.
    pub fn write(&self, inside: &str, content: impl AsRef<[u8]>) -> Result<()> {
        const WRITE: &str = r#"mkdir -p -- "$(dirname -- "$1")" && cat >"$1""#;
        command::feed(
            &mut self.command(["sh", "-c", WRITE, "write", inside])?,
            content.as_ref(),
        )
        .map(drop)
        .with_context(|| format!("write {inside} on {}", self.name()))
    }

    /// The path on the host of a path inside, while a box runs. Absolute links in it lead to the host: do not
    /// follow any that the machine could have made.
    ///
    /// # Errors
    /// The machine is off, or the host's kernel does not see its files.
    pub fn path(&self, inside: &str) -> Result<PathBuf> {
        Ok(Path::new(&format!("/proc/{}/root", self.leader()?)).join(inside.trim_start_matches('/')))
    }

    /// The host's process id of PID 1 inside.
    ///
    /// # Errors
    /// The machine is off, or its processes are not the host's.
    pub fn leader(&self) -> Result<u32> {
        match &self.record.platform {
            Platform::Box => {
                nspawn::leader(&self.cgroup()?).with_context(|| format!("{} is off", self.name()))
            }
            Platform::Uml(_) | Platform::Vm(_) => {
                bail!(
                    "{} runs on a kernel of its own: its processes are not the host's",
                    self.name()
                )
            }
        }
    }

    fn ensure_on(&self) -> Result<()> {
        if !self.running()? {
            bail!("{} is off", self.name());
        }
        Ok(())
    }

    /// The host's process id of a process inside.
    ///
    /// # Errors
    /// The machine is off, or there is no such process.
    pub fn host_pid(&self, inside: u32) -> Result<u32> {
        let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid"));
        let machine = namespace(&self.leader()?.to_string()).context("find the machine's pid namespace")?;
        for entry in fs::read_dir("/proc").context("list /proc")? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            // What is no process, or has just ended, is not it.
            if namespace(&name).ok().as_ref() != Some(&machine) {
                continue;
            }
            let status = fs::read_to_string(format!("/proc/{name}/status")).unwrap_or_default();
            if innermost(&status) == Some(inside) {
                return name.parse().with_context(|| format!("{name} is no process id"));
            }
        }
        bail!("{} has no process {inside}", self.name())
    }
}

/// The process id in the innermost namespace, from the text of /proc/PID/status.
fn innermost(status: &str) -> Option<u32> {
    let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    ids.split_whitespace().next_back()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_process_id_is_the_last_one() {
        assert_eq!(innermost("Name:\tnoded\nNSpid:\t4711\t12\nNSsid:\t1\n"), Some(12));
        assert_eq!(innermost("Name:\tnoded\n"), None);
    }
}

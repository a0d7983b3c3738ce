//! Runs scripts in the container of ovs-vswitchd.

use std::fs::File;
use std::io::{Seek, Write};
use std::path::PathBuf;
use std::process::Command;

use super::saved::Bridge;
use super::{script, text};
use crate::error::{AgentError, Result};
use crate::root::Roots;

/// The service whose process is ovs-vswitchd.
#[derive(Debug, Clone)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Where everything is.
    pub roots: Roots,
    /// The launcher.
    pub node_run: PathBuf,
}

impl Service {
    /// All bridges with what they have in memory.
    ///
    /// # Errors
    /// The service does not run, or its ovs-vswitchd or database does not answer within seconds.
    pub fn bridges(&self) -> Result<Vec<Bridge>> {
        let unreadable = |what: String| {
            AgentError::other(format!("can't read the bridges of service {}", self.name)).because(what)
        };
        let mut bridges = text::bridges(&self.run(script::BRIDGES)?).map_err(unreadable)?;
        let output = self.run(&script::observe(&bridges))?;
        text::fill(&mut bridges, &output).map_err(unreadable)?;
        Ok(bridges)
    }

    /// Whether the ovs-vswitchd that starts next, or the present one if it was just started, is told to wait.
    ///
    /// # Errors
    /// As for [`Service::bridges`].
    pub fn is_held(&self) -> Result<bool> {
        Ok(self.run(script::HELD)?.contains("true"))
    }

    /// Runs a script of sh(1) and returns what it printed.
    pub(super) fn run(&self, script: &str) -> Result<String> {
        let output = Command::new(&self.node_run)
            .arg("exec")
            .arg("--state-root")
            .arg(&self.roots.state)
            .arg("--run-root")
            .arg(&self.roots.run)
            .args([&self.name, "--", "/bin/sh", "-s"])
            .stdin(self.input(script)?)
            .output()
            .map_err(|e| AgentError::other(format!("can't run {}", self.node_run.display())).because(e))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let errors = String::from_utf8_lossy(&output.stderr);
        let said: Vec<String> = errors.lines().map(str::to_owned).collect();
        let last = said.last().cloned().unwrap_or_else(|| "it said nothing".into());
        let name = &self.name;
        Err(AgentError::other(format!("Open vSwitch in service {name} said no")).because(last))
    }

    /// A script may be longer than a pipe holds: a file without a name has no such limit.
    fn input(&self, script: &str) -> Result<File> {
        let written = || -> std::io::Result<File> {
            let mut file = tempfile::tempfile_in(&self.roots.run)?;
            file.write_all(script.as_bytes())?;
            file.rewind()?;
            Ok(file)
        };
        written().map_err(|e| AgentError::io("write a script under", &self.roots.run, e))
    }
}

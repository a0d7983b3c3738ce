//! `nodectl exec`: a command inside a service's container.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::Context as _;
use clap::Args;

use super::{Context, Exit};

/// Run a command inside a running service's container; its exit status is passed on.
#[derive(Debug, Args)]
pub struct Exec {
    /// Service name, as `nodectl status` lists it.
    #[arg(value_parser = super::service_name)]
    service: String,

    /// Command and its arguments, after `--`.
    #[arg(required = true, last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

impl Exec {
    /// Becomes `node-run exec`.
    pub(super) fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let program = context.libexec_dir.join("node-run");
        let error = Command::new(&program)
            .arg("exec")
            .arg("--state-root")
            .arg(&context.roots.state)
            .arg("--run-root")
            .arg(&context.roots.run)
            .arg(&self.service)
            .arg("--")
            .args(&self.command)
            .exec();
        Err(error).with_context(|| format!("can't run {}", program.display()))
    }
}

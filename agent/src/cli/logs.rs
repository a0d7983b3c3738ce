//! `nodectl logs`: the journal of a service.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::Context as _;
use clap::Args;

use super::{Context, Exit};

/// Show the journal of a service.
#[derive(Debug, Args)]
pub struct Logs {
    /// Service name, as `nodectl status` lists it.
    #[arg(value_parser = super::service_name)]
    service: String,

    /// Keep showing new lines.
    #[arg(short, long)]
    follow: bool,

    /// At most the last COUNT lines.
    #[arg(short = 'n', long, value_name = "COUNT")]
    lines: Option<u32>,

    /// Begin at this time, as journalctl(1) takes it.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,

    /// Only since the last boot.
    #[arg(short, long)]
    boot: bool,
}

impl Logs {
    /// Becomes journalctl; with `--json` its output is one JSON document a line.
    pub(super) fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let error = Command::new("journalctl")
            .args(self.arguments(context.output.is_json()))
            .exec();
        Err(error).context("can't run journalctl")
    }

    fn arguments(&self, json: bool) -> Vec<String> {
        let mut arguments = vec![
            format!("--unit={}.service", self.service),
            "--no-hostname".to_owned(),
        ];
        if json {
            arguments.push("--output=json".to_owned());
        }
        if self.follow {
            arguments.push("--follow".to_owned());
        }
        if self.boot {
            arguments.push("--boot".to_owned());
        }
        arguments.extend(self.lines.map(|count| format!("--lines={count}")));
        arguments.extend(self.since.as_ref().map(|time| format!("--since={time}")));
        arguments
    }
}

#[cfg(test)]
mod tests {
    use super::Logs;

    #[test]
    fn options_become_journalctl_options() {
        let logs = Logs {
            service: "nova-compute".into(),
            follow: true,
            lines: Some(5),
            since: Some("-1h".into()),
            boot: true,
        };
        assert_eq!(
            logs.arguments(true),
            [
                "--unit=nova-compute.service",
                "--no-hostname",
                "--output=json",
                "--follow",
                "--boot",
                "--lines=5",
                "--since=-1h"
            ]
        );
    }
}

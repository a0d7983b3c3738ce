//! The command line: what can be typed, and one file for what each verb does.
//!
//! To add a verb: write its file with a clap struct and `run`, then add one variant and one arm here.

mod context;
mod doctor;
mod events;
mod exec;
mod exit;
mod fsck;
mod gc;
mod generate;
mod global;
mod handover;
mod history;
mod image;
mod logs;
mod pin;
mod places;
mod plan;
mod recover;
mod reference;
mod release;
mod rollback;
mod service;
mod session;
mod set;
mod status;
mod upgrade;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

pub use context::Context;
pub use exit::Exit;
pub use global::Global;

/// Runs a compute node's services from one signed, image-based release.
#[derive(Debug, Parser)]
#[command(
    name = "nodectl",
    version,
    max_term_width = 100,
    arg_required_else_help = true,
    after_help = "Exit status: 0 done, 77 nothing to do, 64 usage, 65 verification failed, 69 registry or\n\
                  bus unavailable, 70 rolled back, 73 no space or can't write, 75 locked or vetoed (try\n\
                  again), 78 configuration error, 1 anything else."
)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Move the node to a release in one step, and back by itself if it fails.
    Upgrade(upgrade::Upgrade),
    /// Say what an upgrade would fetch, restart and risk.
    Plan(plan::Plan),
    /// Go back to the previous deployment, or to deployment N.
    Rollback(rollback::Rollback),
    /// Show what the node runs and in which state.
    Status(status::Status),
    /// Show what was done on this node.
    History(history::History),
    /// Set parameters, as a new deployment of the same release.
    Set(set::Set),
    /// Return parameters to the defaults of the release.
    Unset(set::Unset),
    /// Show the journal of a service.
    Logs(logs::Logs),
    /// Run a command inside a service's container.
    Exec(exec::Exec),
    /// Start services.
    Start(service::Start),
    /// Stop services.
    Stop(service::Stop),
    /// Restart services.
    Restart(service::Restart),
    /// Keep a deployment from garbage collection.
    Pin(pin::Pin),
    /// Let garbage collection have a deployment again.
    Unpin(pin::Unpin),
    /// Delete what nothing refers to.
    Gc(gc::Gc),
    /// Verify everything that is stored.
    Fsck(fsck::Fsck),
    /// Check whether this host can run its release.
    Doctor(doctor::Doctor),
    /// Follow what the node is doing.
    Events(events::Events),
    /// Finish or revert an interrupted transaction.
    Recover(recover::Recover),
    /// Build, push and inspect images.
    #[command(subcommand)]
    Image(image::Image),
    /// Build, sign, verify, push and bundle releases.
    #[command(subcommand)]
    Release(release::Release),
    /// Hand what a service has in memory to its successor: for units.
    #[command(hide = true)]
    Handover(handover::Handover),
    /// Write man pages, shell completions and JSON schemas.
    #[command(hide = true)]
    Generate(generate::Generate),
}

impl Verb {
    fn run(self, context: &Context) -> anyhow::Result<Exit> {
        match self {
            Self::Upgrade(verb) => verb.run(context),
            Self::Plan(verb) => verb.run(context),
            Self::Rollback(verb) => verb.run(context),
            Self::Status(verb) => verb.run(context),
            Self::History(verb) => verb.run(context),
            Self::Set(verb) => verb.run(context),
            Self::Unset(verb) => verb.run(context),
            Self::Logs(verb) => verb.run(context),
            Self::Exec(verb) => verb.run(context),
            Self::Start(verb) => verb.run(context),
            Self::Stop(verb) => verb.run(context),
            Self::Restart(verb) => verb.run(context),
            Self::Pin(verb) => verb.run(context),
            Self::Unpin(verb) => verb.run(context),
            Self::Gc(verb) => verb.run(context),
            Self::Fsck(verb) => verb.run(context),
            Self::Doctor(verb) => verb.run(context),
            Self::Events(verb) => verb.run(context),
            Self::Recover(verb) => verb.run(context),
            Self::Image(verb) => verb.run(context),
            Self::Release(verb) => verb.run(context),
            Self::Handover(verb) => verb.run(context),
            Self::Generate(verb) => verb.run(context),
        }
    }
}

/// Parses the arguments, runs the verb, reports a failure once, and says how it went.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return exit::of_usage(&error),
    };
    crate::log::for_command(cli.global.verbose);
    let context = Context::new(&cli.global);
    match cli.verb.run(&context) {
        Ok(exit) => exit.into(),
        Err(error) => exit::report(&context.output, &error),
    }
}

/// The whole command tree, for manuals and completions.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// A deployment number as typed.
fn deployment_number(text: &str) -> Result<crate::deployment::Seq, String> {
    crate::deployment::Seq::parse(text)
        .ok_or_else(|| "expected a deployment number, as `nodectl status` shows it".to_owned())
}

/// A service name as typed: it ends up in unit names and paths.
fn service_name(text: &str) -> Result<String, String> {
    let name = text.strip_suffix(".service").unwrap_or(text);
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@');
    if !name.is_empty() && name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(legal) {
        Ok(name.to_owned())
    } else {
        Err("not a service name".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_tree_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn service_names_can_not_become_options_or_paths() {
        assert_eq!(service_name("nova-compute.service"), Ok("nova-compute".into()));
        for bad in ["", "-x", "../x", "a b", ".service", "a/b", "a*"] {
            assert!(service_name(bad).is_err(), "{bad:?}");
        }
    }
}

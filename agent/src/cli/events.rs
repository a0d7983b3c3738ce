//! `nodectl events`: follow what the node is doing.

use std::io;

use clap::Args;

use super::session::Session;
use super::{Context, Exit};
use crate::error::ExitCode;
use crate::protocol::Failure;

/// Follow what the node is doing: one line, or with --json one JSON document, an event.
#[derive(Debug, Args)]
pub struct Events {
    /// Begin after event number SEQ; 0 replays everything that noded remembers
    /// [default: what happens from now on].
    #[arg(long, value_name = "SEQ")]
    since: Option<u64>,

    /// End when nothing is going on any more.
    #[arg(long)]
    no_follow: bool,
}

impl Events {
    pub(super) fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let Session::Bus(client) = context.session() else {
            let failure = Failure::new(
                ExitCode::Unavailable,
                "events come from noded, and noded can't be reached",
            );
            return Err(failure.with_hint("nodectl history shows what was done").into());
        };
        let mut broken = None;
        client.follow(
            self.since,
            !self.no_follow,
            &mut |event| match context.output.element(event) {
                Ok(()) => true,
                Err(error) => {
                    broken = (error.kind() != io::ErrorKind::BrokenPipe).then_some(error);
                    false
                }
            },
        )?;
        broken.map_or(Ok(Exit::DONE), |error| Err(error.into()))
    }
}

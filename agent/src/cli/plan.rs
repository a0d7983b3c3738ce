//! `nodectl plan`: what an upgrade would do.

use clap::Args;

use super::reference::for_the_daemon;
use super::{Context, Exit};
use crate::protocol::Request;

/// Say what an upgrade would fetch, restart and risk, without doing it.
#[derive(Debug, Args)]
pub struct Plan {
    /// Release, as for `nodectl upgrade` [default: the reference in node.toml].
    reference: Option<String>,
}

impl Plan {
    pub(super) fn run(self, context: &Context) -> anyhow::Result<Exit> {
        context.operate(&Request::Plan {
            reference: self.reference.map(for_the_daemon),
        })
    }
}

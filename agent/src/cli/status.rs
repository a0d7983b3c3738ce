//! `nodectl status`: what the node runs.

use clap::Args;

use super::{Context, Exit};
use crate::protocol::Query;

/// Show what the node runs and in which state.
#[derive(Debug, Args)]
pub struct Status {}

impl Status {
    pub(super) fn run(self, context: &Context) -> anyhow::Result<Exit> {
        context.ask(&Query::Status)
    }
}

//! `nodectl history`: what was done on this node.

use clap::Args;

use super::{Context, Exit};
use crate::protocol::Query;

/// Show what was done on this node, newest last.
#[derive(Debug, Args)]
pub struct History {
    /// At most the last COUNT entries; 0 for all.
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 20)]
    limit: u32,
}

impl History {
    pub(super) fn run(self, context: &Context) -> anyhow::Result<Exit> {
        context.ask(&Query::History {
            limit: self.limit,
            with_journal: true,
        })
    }
}

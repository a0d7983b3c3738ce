//! `nodectl recover`: finish or revert what was interrupted.

use clap::Args;

use super::{Context, Exit};
use crate::protocol::Request;

/// Finish or revert an interrupted transaction.
#[derive(Debug, Args)]
pub struct Recover {
    /// Before the services start at boot: takes one try off, works without D-Bus.
    #[arg(long)]
    boot: bool,
}

impl Recover {
    pub(super) fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let request = Request::Recover { boot: self.boot };
        if self.boot {
            return context.operate_here(&request);
        }
        context.operate(&request)
    }
}

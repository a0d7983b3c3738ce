//! `nodectl fsck`: verify everything that is stored.

use clap::Args;

use super::{Context, Exit};
use crate::protocol::Request;

/// Verify every file of every image and deployment that is stored.
#[derive(Debug, Args)]
pub struct Fsck {
    /// Fetch back what is broken, and only that.
    #[arg(long)]
    repair: bool,

    /// Look at everything, but read only the objects whose turn it is: what nodectl-fsck.timer does every day.
    #[arg(long, conflicts_with = "repair")]
    light: bool,
}

impl Fsck {
    pub(super) fn run(self, context: &Context) -> anyhow::Result<Exit> {
        context.operate(&Request::Fsck {
            repair: self.repair,
            light: self.light,
        })
    }
}

//! `nodectl gc`: delete what nothing refers to.

use clap::Args;

use super::{Context, Exit};
use crate::protocol::Request;

/// Delete deployments, images and files that nothing refers to.
#[derive(Debug, Args)]
pub struct Gc {
    /// Only say what would go.
    #[arg(short = 'n', long)]
    dry_run: bool,
}

impl Gc {
    pub(super) fn run(self, context: &Context) -> anyhow::Result<Exit> {
        context.operate(&Request::Gc {
            dry_run: self.dry_run,
        })
    }
}

//! `nodectl rollback`: go back on purpose.

use clap::Args;

use super::{Context, Exit};
use crate::deployment::Seq;
use crate::protocol::Request;

/// Go back to the previous deployment, or to deployment N.
#[derive(Debug, Args)]
pub struct Rollback {
    /// Deployment number [default: the previous deployment].
    #[arg(value_name = "N", value_parser = super::deployment_number)]
    deployment: Option<Seq>,

    /// Go back even where that loses guests or is refused by a control plane.
    #[arg(long)]
    force: bool,
}

impl Rollback {
    pub(super) fn run(self, context: &Context) -> anyhow::Result<Exit> {
        context.operate(&Request::Rollback {
            deployment: self.deployment,
            force: self.force,
        })
    }
}

//! `nodectl pin` and `nodectl unpin`: deployments that garbage collection keeps.

use clap::Args;

use super::{Context, Exit};
use crate::deployment::Seq;
use crate::protocol::Request;

/// Keep a deployment from garbage collection.
#[derive(Debug, Args)]
pub struct Pin {
    /// Deployment number [default: the current deployment].
    #[arg(value_name = "N", value_parser = super::deployment_number)]
    deployment: Option<Seq>,

    /// Why, for whoever wonders later.
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

/// Let garbage collection have a deployment again.
#[derive(Debug, Args)]
pub struct Unpin {
    /// Deployment number [default: the current deployment].
    #[arg(value_name = "N", value_parser = super::deployment_number)]
    deployment: Option<Seq>,
}

impl Pin {
    pub(super) fn run(self, context: &Context) -> anyhow::Result<Exit> {
        context.operate(&Request::Pin {
            deployment: self.deployment,
            reason: self.reason,
        })
    }
}

impl Unpin {
    pub(super) fn run(self, context: &Context) -> anyhow::Result<Exit> {
        context.operate(&Request::Unpin {
            deployment: self.deployment,
        })
    }
}

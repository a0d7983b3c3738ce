//! `nodectl start`, `stop` and `restart`: services of the current deployment.

use clap::Args;

use super::{Context, Exit};
use crate::protocol::Request;

/// Services by name.
#[derive(Debug, Args)]
struct Services {
    /// Service names, as `nodectl status` lists them.
    #[arg(required = true, value_name = "SERVICE", value_parser = super::service_name)]
    services: Vec<String>,
}

/// Start services.
#[derive(Debug, Args)]
pub struct Start {
    #[command(flatten)]
    of: Services,
}

/// Stop services, unless their gates object; they start again at the next boot.
#[derive(Debug, Args)]
pub struct Stop {
    #[command(flatten)]
    of: Services,

    /// Stop them also where a gate objects or a guest needs them.
    #[arg(long)]
    force: bool,
}

/// Restart services, with their gates before and after.
#[derive(Debug, Args)]
pub struct Restart {
    #[command(flatten)]
    of: Services,

    /// Restart them also where a gate objects or a guest needs them.
    #[arg(long)]
    force: bool,
}

impl Start {
    pub(super) fn run(self, context: &Context) -> anyhow::Result<Exit> {
        context.operate(&Request::Start {
            services: self.of.services,
        })
    }
}

impl Stop {
    pub(super) fn run(self, context: &Context) -> anyhow::Result<Exit> {
        context.operate(&Request::Stop {
            services: self.of.services,
            force: self.force,
        })
    }
}

impl Restart {
    pub(super) fn run(self, context: &Context) -> anyhow::Result<Exit> {
        context.operate(&Request::Restart {
            services: self.of.services,
            force: self.force,
        })
    }
}

//! `nodectl doctor`: whether this host can run its release.

use clap::Args;

use super::{Context, Exit};
use crate::protocol::Request;

/// Check whether this host can run its release, and say what to fix.
#[derive(Debug, Args)]
pub struct Doctor {}

impl Doctor {
    pub(super) fn run(self, context: &Context) -> anyhow::Result<Exit> {
        context.operate(&Request::Doctor)
    }
}

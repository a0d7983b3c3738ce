//! `nodectl image`: build, push and inspect images.

use clap::Subcommand;

use super::{Context, Exit};

/// Build, push and inspect images.
#[derive(Debug, Subcommand)]
pub enum Image {}

impl Image {
    pub(super) fn run(self, _context: &Context) -> anyhow::Result<Exit> {
        match self {}
    }
}

//! `nodectl release`: build, push and inspect releases.

use clap::Subcommand;

use super::{Context, Exit};

/// Build, push and inspect releases.
#[derive(Debug, Subcommand)]
pub enum Release {}

impl Release {
    pub(super) fn run(self, _context: &Context) -> anyhow::Result<Exit> {
        match self {}
    }
}

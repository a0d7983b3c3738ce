//! How images and releases are reached, as options.

use std::path::PathBuf;

use clap::Args;

use super::Context;
use crate::authoring::Places;

/// How registries are reached, on top of what node.toml says.
#[derive(Debug, Args)]
pub struct PlaceOptions {
    /// Registry that is spoken to over plain HTTP; loopback always is.
    #[arg(long, value_name = "HOST")]
    insecure_http: Vec<String>,

    /// Credentials, as containers-auth.json(5) has them.
    #[arg(long, value_name = "FILE")]
    auth_file: Option<PathBuf>,
}

impl PlaceOptions {
    pub(super) fn open(self, context: &Context) -> anyhow::Result<Places> {
        Ok(Places::new(&context.roots, &self.insecure_http, self.auth_file)?)
    }
}

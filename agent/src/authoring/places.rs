//! Registries, layouts and archives by reference.

use std::path::PathBuf;

use node_images::reference::Reference;
use node_images::registry::RegistryConfig;
use node_images::source::Sources;

use super::trouble;
use crate::config;
use crate::error::{AgentError, Kind, Result};
use crate::root::Roots;

/// Opens what references lead to.
pub struct Places {
    /// The opened sources.
    pub sources: Sources,
}

impl Places {
    /// With the node's registry settings where this machine is a node, and what the command line adds.
    ///
    /// # Errors
    ///
    /// When the node's configuration is wrong or the HTTP client can't be set up.
    pub fn new(roots: &Roots, insecure_http: &[String], auth_file: Option<PathBuf>) -> Result<Self> {
        let mut registries = if roots.node_toml().exists() {
            config::load(roots)?.registries.client()
        } else {
            RegistryConfig::default()
        };
        registries.insecure_http.extend_from_slice(insecure_http);
        registries.auth_file = auth_file.or(registries.auth_file);
        let sources = Sources::new(registries).map_err(trouble::place("can't set up the registry client"))?;
        Ok(Self { sources })
    }
}

/// Reads a reference as typed.
pub(super) fn parse(text: &str) -> Result<Reference> {
    text.parse().map_err(|error| {
        AgentError::new(Kind::Usage, "bad reference")
            .because(error)
            .hint("write HOST/NAME:TAG, oci:DIRECTORY or ./FILE.tar")
    })
}

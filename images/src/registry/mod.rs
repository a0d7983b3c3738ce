//! Client of the OCI distribution API (distribution-spec 1.1), for pull and push.
//!
//! ```text
//! client.rs     the requests: manifests, blobs, tags, referrers
//! push.rs       the requests that write
//! transport.rs  one request: redirects, retries, error answers
//! authorize.rs  the answer to a challenge
//! challenge.rs  WWW-Authenticate, and who may be given credentials
//! auth_file.rs  credentials from auth.json
//! clients.rs    the HTTP clients: proxies, certificates, patience
//! retry.rs      when to ask again (pure)
//! endpoint.rs   which host is asked over which scheme, mirrors first (pure)
//! ```
//!
//! The requests go through `reqwest` directly: `oci-client` neither shows `Retry-After`, nor bounds
//! the size of a manifest, nor lets its caller decide about redirects and token realms, and a node
//! that upgrades itself from a registry it does not control needs all four.

mod auth_file;
mod authorize;
mod challenge;
mod client;
mod clients;
mod endpoint;
mod error;
mod push;
mod retry;
mod transport;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use auth_file::{AuthFiles, Credentials};
pub use challenge::{Challenge, may_have_credentials};
pub use client::{Blob, Client, Repository};
pub use error::RegistryError;
pub use retry::{Patience, Pauses, RealPauses, RetryPolicy, Verdict, retry_after};

/// How registries are reached. Proxies come from `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`
/// (loopback is never asked through one).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RegistryConfig {
    /// Registry host → hosts that are asked before it, in this order. A mirror may carry a path
    /// (`mirror.example/hub`), which is put in front of the repository.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// Hosts (`host` or `host:port`) that are spoken to over plain HTTP. Loopback always is.
    pub insecure_http: Vec<String>,
    /// Credentials file in the format of containers-auth.json(5). Without it the usual places of
    /// podman and docker are searched.
    pub auth_file: Option<PathBuf>,
    /// Registry host → hosts that its credentials may be sent to for a token, besides itself, its
    /// parent domain and those right below it.
    pub auth_realms: BTreeMap<String, Vec<String>>,
    /// Registry host (`host` or `host:port`) → file with the certificates (PEM) that alone may vouch for it.
    /// Hosts that are not named are checked against the system's certificates.
    pub ca_files: BTreeMap<String, PathBuf>,
    /// Layers fetched at the same time.
    pub parallel: u8,
    /// How often one request is repeated after a failure that may pass.
    pub retries: u8,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        RegistryConfig {
            mirrors: BTreeMap::new(),
            insecure_http: Vec::new(),
            auth_file: None,
            auth_realms: BTreeMap::new(),
            ca_files: BTreeMap::new(),
            parallel: 3,
            retries: 5,
        }
    }
}

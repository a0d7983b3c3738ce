//! The node's configuration: what the operator sets on this node.
//!
//! `node.toml` and then `node.toml.d/*.toml` in the order of their names; tables are merged, later
//! values win, and each value remembers its file.

mod fragment;
mod load;
mod merge;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;

use node_images::registry::RegistryConfig;
use serde_json::Value;

pub use fragment::{
    CheckFragment, DrainFragment, Fragment, PolicyFragment, ProbationFragment, RegistriesFragment,
    RetentionFragment, ServiceOverrides, Treatment,
};
pub use load::{Changes, load, load_with, write_parameters};

use crate::release::Probation;

/// The node's configuration, merged and checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The release this node should run, where the command line names none.
    pub release: Option<String>,
    /// How to reach registries.
    pub registries: Registries,
    /// The services to run; all of the release that the choices leave if absent.
    pub services: Option<Vec<String>>,
    /// Choice of the release → the option that this node takes.
    pub choices: BTreeMap<String, String>,
    /// Parameter values by name.
    pub parameters: BTreeMap<String, Value>,
    /// Paths of secrets that are not under `secrets/`.
    pub secrets: BTreeMap<String, PathBuf>,
    /// Overrides of rendered files: service → target → content to merge.
    pub overrides: BTreeMap<String, BTreeMap<PathBuf, Value>>,
    /// Deployments to keep besides the current and the previous one.
    pub keep: u32,
    /// How a new deployment is watched, where it differs from the release.
    pub probation: ProbationFragment,
    /// What image layers may contain.
    pub policy: PolicyFragment,
    /// In how many daily checks every object is read once; 0 for never.
    pub check_days: u16,
    /// Whether the compute service is disabled while nova-compute is moved.
    pub drain: bool,
    /// Which file set a value: dotted key → file.
    pub origins: BTreeMap<String, PathBuf>,
    /// All files merged, as they are written.
    pub document: toml::Table,
}

/// How to reach registries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registries {
    /// Registry host → hosts to ask first.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// Hosts that are spoken to without TLS. Loopback always may.
    pub insecure_http: Vec<String>,
    /// Credentials, containers-auth.json(5).
    pub auth_file: Option<PathBuf>,
    /// Registry host → hosts that its credentials may be sent to for a token.
    pub auth_realms: BTreeMap<String, Vec<String>>,
    /// Registry host → file with the certificates (PEM) that alone may vouch for it.
    pub ca_files: BTreeMap<String, PathBuf>,
    /// Downloads at a time.
    pub parallel: Option<u8>,
    /// Attempts for each request.
    pub retries: Option<u8>,
}

impl Registries {
    /// What the registry client has to know; its own defaults where nothing is configured.
    pub fn client(&self) -> RegistryConfig {
        let defaults = RegistryConfig::default();
        RegistryConfig {
            mirrors: self.mirrors.clone(),
            insecure_http: self.insecure_http.clone(),
            auth_file: self.auth_file.clone(),
            auth_realms: self.auth_realms.clone(),
            ca_files: self.ca_files.clone(),
            parallel: self.parallel.unwrap_or(defaults.parallel),
            retries: self.retries.unwrap_or(defaults.retries),
        }
    }
}

impl Settings {
    /// How a new deployment is watched: as its release says, except for what this node says.
    pub fn probation(&self, release: &Probation) -> Probation {
        let here = &self.probation;
        Probation {
            window_sec: here.window_sec.unwrap_or(release.window_sec),
            tries: here.tries.map_or(release.tries, NonZeroU32::get),
            hold_sec: here.hold_sec.unwrap_or(release.hold_sec),
        }
    }

    /// The file that set this key, for error messages.
    pub fn origin(&self, key: &str) -> Option<&PathBuf> {
        self.origins.get(key)
    }
}

impl From<Fragment> for Settings {
    fn from(f: Fragment) -> Settings {
        let registries = f.registries.unwrap_or_default();
        let overrides = f
            .overrides
            .into_iter()
            .map(|(service, o)| (service, o.files))
            .collect();
        Settings {
            release: f.release.and_then(|r| r.reference),
            registries: Registries {
                mirrors: registries.mirrors,
                insecure_http: registries.insecure_http,
                auth_file: registries.auth_file,
                auth_realms: registries.auth_realms,
                ca_files: registries.ca_files,
                parallel: registries.parallel,
                retries: registries.retries,
            },
            services: f.services,
            choices: f.choices,
            parameters: f.parameters,
            secrets: f.secrets,
            overrides,
            keep: f.retention.and_then(|r| r.keep).unwrap_or(3),
            probation: f.probation.unwrap_or_default(),
            policy: f.policy.unwrap_or_default(),
            check_days: f.check.and_then(|c| c.days).unwrap_or(28),
            drain: f.drain.and_then(|d| d.nova).unwrap_or(false),
            origins: BTreeMap::new(),
            document: toml::Table::new(),
        }
    }
}

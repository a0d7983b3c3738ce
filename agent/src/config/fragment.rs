//! One configuration file as it is written.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;

use node_images::layer::Limits;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// `node.toml` or a file of `node.toml.d/`. Everything is optional.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Fragment {
    /// Which release to run.
    pub release: Option<ReleaseFragment>,
    /// How to reach registries.
    pub registries: Option<RegistriesFragment>,
    /// The services to run; all of the release that the choices leave if absent.
    pub services: Option<Vec<String>>,
    /// Choice of the release → the option that this node takes.
    pub choices: BTreeMap<String, String>,
    /// Parameter values by name.
    pub parameters: BTreeMap<String, Value>,
    /// Paths of secrets that are not under `secrets/`.
    pub secrets: BTreeMap<String, PathBuf>,
    /// Overrides by service.
    pub overrides: BTreeMap<String, ServiceOverrides>,
    /// How much to keep.
    pub retention: Option<RetentionFragment>,
    /// How a new deployment is watched, where it differs from the release.
    pub probation: Option<ProbationFragment>,
    /// What image layers may contain.
    pub policy: Option<PolicyFragment>,
    /// How everything that is stored is checked.
    pub check: Option<CheckFragment>,
    /// What is done in the cloud around a move.
    pub drain: Option<DrainFragment>,
}

/// `[drain]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DrainFragment {
    /// Disable the node's compute service while nova-compute is moved, and enable it afterwards. What somebody else
    /// disabled stays as it is. Off if absent.
    pub nova: Option<bool>,
}

/// `[check]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CheckFragment {
    /// In how many daily checks every object is read once; 28 if absent. With 0 none is read, and only names, sizes,
    /// modes and owners are compared.
    pub days: Option<u16>,
}

/// `[release]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReleaseFragment {
    /// The release this node should run, where the command line names none.
    pub reference: Option<String>,
}

/// `[registries]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RegistriesFragment {
    /// Registry host → hosts to ask first.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// Hosts that are spoken to without TLS. Loopback always may.
    pub insecure_http: Vec<String>,
    /// Credentials, containers-auth.json(5).
    pub auth_file: Option<PathBuf>,
    /// Registry host → hosts that its credentials may be sent to for a token, besides itself, its parent
    /// domain and those right below it.
    pub auth_realms: BTreeMap<String, Vec<String>>,
    /// Registry host → file with the certificates (PEM) that alone may vouch for it.
    pub ca_files: BTreeMap<String, PathBuf>,
    /// Downloads at a time.
    pub parallel: Option<u8>,
    /// Attempts for each request.
    pub retries: Option<u8>,
}

/// `[overrides.<service>]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServiceOverrides {
    /// Target of a rendered file → content merged over the release's.
    pub files: BTreeMap<PathBuf, Value>,
}

/// `[retention]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionFragment {
    /// Deployments to keep besides the current and the previous one.
    pub keep: Option<u32>,
}

/// `[probation]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProbationFragment {
    /// How long a new deployment is watched, in seconds.
    pub window_sec: Option<u32>,
    /// How many attempts it gets in all.
    pub tries: Option<NonZeroU32>,
    /// How long it is held open, in seconds, while gates say no whose trouble is not this node's.
    pub hold_sec: Option<u32>,
}

/// `[policy]`: what image layers may contain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyFragment {
    /// Setuid and setgid files.
    pub setuid: Option<Treatment>,
    /// Files with capabilities.
    pub file_capabilities: Option<Treatment>,
    /// Bounds on each layer.
    pub limits: Option<Limits>,
}

/// What to do with something that gives privileges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Treatment {
    /// Take it as it is.
    Keep,
    /// Take the file without the privilege.
    Strip,
    /// Refuse the image.
    Refuse,
}

//! What a service keeps on the host, and what it needs from it.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// State that is saved before the service is switched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StatePath {
    /// Absolute path of a file on the host. One that does not exist is remembered as absent.
    pub path: PathBuf,
    /// Whether the way back restores it.
    #[serde(default)]
    pub restore: Restore,
}

/// Whether the way back restores a saved state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Restore {
    /// When the transaction that saved it is reverted.
    #[default]
    OnRevert,
    /// When the transaction that saved it is reverted and the schema of this OVSDB file (ovsdb(5)) is another by then.
    /// Under the same schema the old version reads what is there, and what was added since stays.
    OnSchemaChange,
    /// Never: it is kept for a human.
    Never,
}

/// What the host must offer. Checked before anything is fetched or touched.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Requires {
    /// Kernel modules that are loaded, built in or loadable.
    pub kernel_modules: Vec<String>,
    /// Kernel modules that it can do without: missing ones are a warning.
    pub optional_kernel_modules: Vec<String>,
    /// Programs on the host, by absolute path.
    pub commands: Vec<PathBuf>,
    /// Device nodes on the host.
    pub devices: Vec<PathBuf>,
    /// Names on the system bus that have an owner or can be activated.
    pub dbus_names: Vec<String>,
}

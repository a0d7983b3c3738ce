//! System call filters: which one a service asks for. Compilation to BPF is in [`crate::seccomp`].

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The system call filter of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", tag = "kind")]
pub enum Seccomp {
    /// The built-in profile of nodectl.
    #[default]
    Default,
    /// No filter, and why this service can have none.
    Unconfined {
        /// Why, for whoever reviews the definition.
        reason: String,
    },
    /// A profile that comes with the release, in the format of the OCI runtime specification
    /// (config-linux.md, seccomp).
    Profile {
        /// Its name among the release's files.
        name: String,
    },
}

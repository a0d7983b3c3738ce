//! What a layer may contain.

use serde::{Deserialize, Serialize};

/// What happens to device nodes in a layer. They are never created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DevicePolicy {
    /// The layer is refused.
    Refuse,
    /// The entry is left out: a container gets its /dev from its runtime.
    #[default]
    Skip,
}

/// What happens to a privilege that is attached to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PrivilegePolicy {
    /// It is kept as it is.
    #[default]
    Keep,
    /// The file is kept without it.
    Strip,
    /// The layer is refused.
    Refuse,
}

/// Bounds on one layer. They stop hostile archives; real layers stay far below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Most entries in the archive.
    pub entries: u64,
    /// Most components in a name.
    pub depth: usize,
    /// Longest name in bytes.
    pub path_bytes: usize,
    /// Most bytes of the uncompressed stream and, counted apart, of the files it unpacks to (sparse
    /// files with their holes).
    pub unpacked_bytes: u64,
    /// Most bytes of names, link targets and extended attributes in all, which are held in memory.
    pub metadata_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 2_000_000,
            depth: 128,
            path_bytes: 4095,
            unpacked_bytes: 64 << 30,
            metadata_bytes: 256 << 20,
        }
    }
}

/// What a layer may contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Device nodes.
    pub devices: DevicePolicy,
    /// Setuid and setgid bits of regular files.
    pub setuid: PrivilegePolicy,
    /// File capabilities (`security.capability`).
    pub file_capabilities: PrivilegePolicy,
    /// Bounds on size and number.
    pub limits: Limits,
}

//! What a layer may contain.

use schemars::JsonSchema;
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
    /// How many times its compressed size a layer may unpack to, if that is more than
    /// [`Limits::ALWAYS_UNPACKED`].
    pub ratio: u64,
}

impl Limits {
    /// So many bytes may come out of a layer however small it is: empty disk images and databases compress
    /// a thousandfold.
    pub const ALWAYS_UNPACKED: u64 = 256 << 20;

    /// The same for a layer of which the compressed size is known: a bomb does not have the whole disk.
    #[must_use]
    pub fn for_compressed(self, size: u64) -> Self {
        let by_ratio = size.saturating_mul(self.ratio).max(Self::ALWAYS_UNPACKED);
        Self {
            unpacked_bytes: self.unpacked_bytes.min(by_ratio),
            ..self
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 2_000_000,
            depth: 128,
            path_bytes: 4095,
            unpacked_bytes: 64 << 30,
            metadata_bytes: 256 << 20,
            ratio: 200,
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

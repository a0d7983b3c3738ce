//! What the store knows about an image.

use jiff::Timestamp;
use oci_spec::image::ImageConfiguration;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// Version of the record's format; a larger one in a file is refused.
pub(crate) const RECORD_VERSION: u32 = 1;

/// One layer of an image, as the manifest and the config name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRef {
    /// Digest of the blob as it is transferred (compressed).
    pub blob: Digest,
    /// Size of that blob in bytes.
    pub size: u64,
    /// Media type of that blob.
    pub media_type: String,
    /// Digest of the uncompressed archive.
    pub diff_id: Digest,
}

/// Why an image's digest was trusted when it was stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Verification {
    /// The image itself carries a valid signature.
    Signature {
        /// Name of the key in the trust directory.
        key: String,
    },
    /// A verified release names the digest.
    Release {
        /// Digest of the release's manifest.
        release: Digest,
    },
    /// The caller named the digest and nothing else vouches for it.
    Digest,
}

/// An image to be stored: everything but its layers' content.
#[derive(Debug, Clone)]
pub struct NewImage {
    /// Digest of the platform manifest.
    pub manifest: Digest,
    /// The manifest's bytes; their digest is checked against `manifest`.
    pub manifest_bytes: Vec<u8>,
    /// The config's bytes; their digest is checked against the manifest's config descriptor.
    pub config_bytes: Vec<u8>,
    /// The layers, lowest first. The diff_ids are checked against the config, the blobs against the manifest.
    pub layers: Vec<LayerRef>,
    /// What the operator or the release called the image.
    pub reference: String,
    /// Why the digest is trusted.
    pub verification: Verification,
    /// When it was pulled.
    pub pulled: Timestamp,
}

/// An image in the store. Once this exists, the tree and the layers are durable and whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageRecord {
    /// Version of this document.
    pub version: u32,
    /// Digest of the platform manifest.
    pub manifest: Digest,
    /// What the operator or the release called the image.
    pub reference: String,
    /// The manifest, byte for byte.
    pub manifest_json: String,
    /// The image config, byte for byte.
    pub config_json: String,
    /// The layers, lowest first.
    pub layers: Vec<LayerRef>,
    /// Bytes of the files in the tree.
    pub unpacked_size: u64,
    /// Number of entries in the tree.
    pub files: u64,
    /// When it was pulled.
    pub pulled: Timestamp,
    /// Why the digest was trusted.
    pub verification: Verification,
}

impl ImageRecord {
    /// The image config, parsed.
    ///
    /// # Errors
    /// The parser's error; the store checks this when the image comes in.
    pub fn config(&self) -> Result<ImageConfiguration, serde_json::Error> {
        serde_json::from_str(&self.config_json)
    }
}

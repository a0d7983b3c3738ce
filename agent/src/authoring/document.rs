//! What the authoring commands print.

use std::collections::BTreeMap;
use std::path::PathBuf;

use node_images::digest::Digest;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::release::ReleaseDocument;

/// One layer of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LayerInfo {
    /// Digest of the blob.
    pub digest: Digest,
    /// Size of the blob in bytes.
    pub size: u64,
    /// Media type of the blob.
    pub media_type: String,
}

/// An image that was built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ImageBuilt {
    /// Name of the definition.
    pub name: String,
    /// OCI layout directory with the image.
    pub layout: PathBuf,
    /// Digest of its manifest.
    pub digest: Digest,
    /// Its layers, the lowest first.
    pub layers: Vec<LayerInfo>,
    /// Number of packages in it.
    pub packages: usize,
    /// File with the exact package versions.
    pub lock: PathBuf,
    /// Bill of materials, SPDX 2.3 JSON.
    pub sbom: PathBuf,
}

/// Something that was pushed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pushed {
    /// Where to.
    pub reference: String,
    /// Digest of its manifest.
    pub digest: Digest,
    /// Blobs sent.
    pub blobs: u64,
    /// Bytes sent.
    pub bytes: u64,
    /// Blobs that were there already.
    pub present: u64,
    /// Digest of the bill of materials that was attached.
    pub sbom: Option<Digest>,
}

/// What an image is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ImageInspected {
    /// Where it is.
    pub reference: String,
    /// Digest of the manifest for this machine's platform.
    pub digest: Digest,
    /// Operating system and processor, for example `linux/amd64`.
    pub platform: String,
    /// When it was made, as the image says.
    pub created: Option<String>,
    /// Size of all blobs in bytes.
    pub size: u64,
    /// Its layers, the lowest first.
    pub layers: Vec<LayerInfo>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Artifacts that refer to it (bills of materials, signatures): digest to type.
    pub referrers: BTreeMap<String, String>,
}

/// A release that was built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReleaseBuilt {
    /// Name of the release.
    pub name: String,
    /// Version of the release.
    pub version: String,
    /// OCI layout directory with the release.
    pub layout: PathBuf,
    /// Digest of its manifest: what a signature will cover.
    pub digest: Digest,
    /// Its services.
    pub services: Vec<String>,
    /// Its images by name.
    pub images: BTreeMap<String, Digest>,
}

/// A release that was signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Signed {
    /// Where the release and now its signature are.
    pub reference: String,
    /// Digest of its manifest.
    pub digest: Digest,
    /// Repository that the signature speaks of.
    pub repository: String,
    /// Fingerprint of the public key, sha256 over its DER form.
    pub key: Digest,
}

/// A release whose signatures hold here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReleaseVerified {
    /// Where it is.
    pub reference: String,
    /// Digest of its manifest.
    pub digest: Digest,
    /// Name of the release.
    pub name: String,
    /// Version of the release.
    pub version: String,
    /// Keys that signed it; empty where the policy asks for none.
    pub signed_by: Vec<String>,
    /// When as many of them as the policy wants had signed; absent if they did not say.
    #[schemars(with = "Option<String>")]
    pub signed: Option<jiff::Timestamp>,
    /// The rule of the policy that asks for no signature.
    pub unchecked: Option<String>,
}

/// What a release is. Nobody has vouched for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReleaseInspected {
    /// Where it is.
    pub reference: String,
    /// Digest of its manifest.
    pub digest: Digest,
    /// The release document.
    pub release: ReleaseDocument,
}

/// A bundle that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Bundled {
    /// The file.
    pub file: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// Digest of the release's manifest.
    pub digest: Digest,
    /// Number of images in it.
    pub images: usize,
}

//! The JSON documents of an OCI image as far as this crate reads and writes them: descriptor,
//! image manifest, image index and the parts of an image configuration that an import needs.
//!
//! Own types rather than `oci_spec::image`, for two reasons: a digest is a [`Digest`] (sha256 or
//! refused while parsing), and annotations are ordered, so that the same input gives the same bytes.
//! Unknown fields are ignored as the image specification demands.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// Media type of an OCI image manifest, which artifacts use too.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of an OCI image index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Media type of an OCI image configuration.
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// Media type of the two bytes `{}` that stand for "no configuration" in an artifact.
pub const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// Docker's name for an image manifest.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker's name for an image index.
pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Annotation of an index entry in a layout: the tag or full name it has.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Annotation of an index entry as containerd writes it: always the full name.
pub const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// Largest manifest, index or configuration that is read into memory, in bytes
/// (the distribution specification asks registries to take 4 MiB).
pub const MAX_DOCUMENT: u64 = 4 << 20;

/// Points at content by media type, digest and size (image-spec `descriptor.md`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the content is.
    pub media_type: String,
    /// The content's sha256.
    pub digest: Digest,
    /// The content's length in bytes.
    pub size: u64,
    /// Free key/value pairs, ordered.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", with = "nullable")]
    pub annotations: BTreeMap<String, String>,
    /// For an entry of an index: what it runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// For an entry of an index: the artifact's type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

impl Descriptor {
    /// Describes `bytes`, without annotations.
    pub fn of(media_type: &str, bytes: &[u8]) -> Self {
        Descriptor {
            media_type: media_type.to_owned(),
            digest: Digest::of(bytes),
            size: bytes.len() as u64,
            annotations: BTreeMap::new(),
            platform: None,
            artifact_type: None,
        }
    }
}

/// What an image of an index runs on (image-spec `image-index.md`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// GOARCH name, for example `amd64`.
    pub architecture: String,
    /// GOOS name, for example `linux`.
    pub os: String,
    /// CPU variant, for example `v8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// The platform of the machine this program was built for.
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "powerpc64" => "ppc64le",
            "x86" => "386",
            "loongarch64" => "loong64",
            other => other,
        };
        Platform {
            architecture: architecture.to_owned(),
            os: "linux".to_owned(),
            variant: None,
        }
    }

    /// Whether an image for `self` runs on `host`. A host without a variant takes any.
    pub fn runs_on(&self, host: &Platform) -> bool {
        self.os == host.os
            && self.architecture == host.architecture
            && (host.variant.is_none() || self.variant.is_none() || self.variant == host.variant)
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

/// An image manifest, or an artifact that is stored as one (image-spec `manifest.md`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// [`MANIFEST`] or [`DOCKER_MANIFEST`]; older writers leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// What kind of artifact this is, if it is none of the images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The configuration blob.
    pub config: Descriptor,
    /// The layers, the lowest first.
    #[serde(default)]
    pub layers: Vec<Descriptor>,
    /// The manifest this one says something about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free key/value pairs, ordered.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", with = "nullable")]
    pub annotations: BTreeMap<String, String>,
}

impl Manifest {
    /// The artifact's type: `artifactType`, else the configuration's media type
    /// (image-spec `manifest.md`, guidelines for artifact usage).
    pub fn kind(&self) -> &str {
        self.artifact_type.as_deref().unwrap_or(&self.config.media_type)
    }
}

/// A list of manifests (image-spec `image-index.md`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// [`INDEX`] or [`DOCKER_INDEX`]; layouts often leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The entries.
    #[serde(default)]
    pub manifests: Vec<Descriptor>,
    /// Free key/value pairs, ordered.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", with = "nullable")]
    pub annotations: BTreeMap<String, String>,
}

impl Index {
    /// An index over `manifests`.
    pub fn new(manifests: Vec<Descriptor>) -> Self {
        Index {
            schema_version: 2,
            media_type: Some(INDEX.to_owned()),
            manifests,
            annotations: BTreeMap::new(),
        }
    }

    /// The first image for `host`, as the image specification prefers.
    pub fn select(&self, host: &Platform) -> Option<&Descriptor> {
        self.manifests.iter().find(|entry| {
            entry
                .platform
                .as_ref()
                .is_some_and(|platform| platform.runs_on(host))
        })
    }
}

/// The part of an image configuration that an import checks against.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ConfigFacts {
    /// The uncompressed layers, lowest first.
    pub rootfs: RootFs,
    /// GOARCH name.
    pub architecture: String,
    /// GOOS name.
    pub os: String,
}

/// `rootfs` of an image configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RootFs {
    /// sha256 of each uncompressed layer, lowest first.
    pub diff_ids: Vec<Digest>,
}

/// Either of the two documents a manifest endpoint answers with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// One image or artifact.
    Manifest(Box<Manifest>),
    /// A list of them.
    Index(Index),
}

/// Why bytes are no manifest.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// No JSON, or JSON of another shape.
    #[error("not a manifest")]
    Json(#[from] serde_json::Error),
    /// A schema that this crate does not read.
    #[error("schemaVersion is {0}, only 2 is supported")]
    Schema(u32),
    /// A media type that is neither manifest nor index.
    #[error("media type `{0}` is neither an image manifest nor an index")]
    MediaType(String),
    /// Claims to be both, which has been used to show different content to different readers.
    #[error("has both `manifests` and `layers`")]
    Ambiguous,
}

impl Document {
    /// Parses manifest or index bytes. What they are is decided by their own `mediaType`, or by
    /// their shape where that is missing; never by what a server claims in a header.
    pub fn parse(bytes: &[u8]) -> Result<Self, DocumentError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Shape {
            schema_version: u32,
            media_type: Option<String>,
            manifests: Option<serde::de::IgnoredAny>,
            layers: Option<serde::de::IgnoredAny>,
            config: Option<serde::de::IgnoredAny>,
        }
        let shape: Shape = serde_json::from_slice(bytes)?;
        if shape.schema_version != 2 {
            return Err(DocumentError::Schema(shape.schema_version));
        }
        let looks_like_image = shape.layers.is_some() || shape.config.is_some();
        if shape.manifests.is_some() && looks_like_image {
            return Err(DocumentError::Ambiguous);
        }
        match shape.media_type.as_deref() {
            Some(MANIFEST | DOCKER_MANIFEST) => Ok(Document::Manifest(serde_json::from_slice(bytes)?)),
            Some(INDEX | DOCKER_INDEX) => Ok(Document::Index(serde_json::from_slice(bytes)?)),
            Some(other) => Err(DocumentError::MediaType(other.to_owned())),
            None if looks_like_image => Ok(Document::Manifest(serde_json::from_slice(bytes)?)),
            None => Ok(Document::Index(serde_json::from_slice(bytes)?)),
        }
    }

    /// The media type to store these bytes under.
    pub fn media_type(&self) -> &str {
        match self {
            Document::Manifest(manifest) => manifest.media_type.as_deref().unwrap_or(MANIFEST),
            Document::Index(index) => index.media_type.as_deref().unwrap_or(INDEX),
        }
    }
}

/// `annotations: null`, which some writers emit, reads as no annotations.
mod nullable {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(
        map: &BTreeMap<String, String>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        map.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<String, String>, D::Error> {
        Ok(Option::deserialize(deserializer)?.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(byte: &str) -> String {
        format!("sha256:{}", byte.repeat(32))
    }

    #[test]
    fn a_document_is_what_it_says_or_looks_like() {
        let descriptor = format!(r#"{{"mediaType":"x","digest":"{}","size":2}}"#, hex("ab"));
        let image = format!(r#"{{"schemaVersion":2,"config":{descriptor},"layers":[]}}"#);
        assert!(matches!(
            Document::parse(image.as_bytes()),
            Ok(Document::Manifest(_))
        ));
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{descriptor}]}}"#);
        assert!(matches!(
            Document::parse(index.as_bytes()),
            Ok(Document::Index(_))
        ));
        let both = format!(r#"{{"schemaVersion":2,"manifests":[],"layers":[],"config":{descriptor}}}"#);
        assert!(matches!(
            Document::parse(both.as_bytes()),
            Err(DocumentError::Ambiguous)
        ));
        let old = r#"{"schemaVersion":1}"#;
        assert!(matches!(
            Document::parse(old.as_bytes()),
            Err(DocumentError::Schema(1))
        ));
        let odd = r#"{"schemaVersion":2,"mediaType":"text/html"}"#;
        assert!(matches!(
            Document::parse(odd.as_bytes()),
            Err(DocumentError::MediaType(_))
        ));
        assert!(matches!(Document::parse(b"<html>"), Err(DocumentError::Json(_))));
    }

    #[test]
    fn null_annotations_are_none_and_sha512_is_refused() {
        let null = format!(
            r#"{{"mediaType":"x","digest":"{}","size":2,"annotations":null}}"#,
            hex("ab")
        );
        let descriptor: Descriptor = serde_json::from_str(&null).expect("null annotations");
        assert!(descriptor.annotations.is_empty());
        let sha512 = format!(
            r#"{{"mediaType":"x","digest":"sha512:{}","size":2}}"#,
            "ab".repeat(64)
        );
        serde_json::from_str::<Descriptor>(&sha512).expect_err("sha512 is not ours");
    }

    #[test]
    fn platforms_match_by_os_architecture_and_a_known_variant() {
        let platform = |arch: &str, variant: Option<&str>| Platform {
            architecture: arch.to_owned(),
            os: "linux".to_owned(),
            variant: variant.map(str::to_owned),
        };
        let table = [
            (platform("amd64", None), platform("amd64", None), true),
            (platform("arm64", Some("v8")), platform("arm64", None), true),
            (platform("arm", Some("v7")), platform("arm", Some("v6")), false),
            (platform("arm64", None), platform("amd64", None), false),
        ];
        for (image, host, expected) in table {
            assert_eq!(image.runs_on(&host), expected, "{image} on {host}");
        }
    }
}

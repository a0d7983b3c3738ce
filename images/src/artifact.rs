//! OCI artifacts: small documents with a type, stored as a manifest (image-spec `manifest.md`,
//! "guidelines for artifact usage"). A release is one; signatures and SBOMs are others.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::digest::Digest;
use crate::manifest::{Descriptor, Document, EMPTY, MANIFEST, Manifest};
use crate::source::{Memory, Sink, Source, SourceError, document, read_blob};

/// `artifactType` of a release.
pub const RELEASE_TYPE: &str = "application/vnd.nodectl.release.v1+json";

/// Most layers an artifact may have.
const MAX_LAYERS: usize = 64;
/// Most bytes an artifact may have in all.
const MAX_BYTES: u64 = 16 << 20;

/// An artifact that was read: every part has the digest the manifest gives, and the manifest has
/// the digest it was asked by. Whether anybody vouches for that digest is another question
/// ([`crate::verify`]).
#[derive(Debug, Clone)]
pub struct Artifact {
    /// The manifest's digest.
    pub digest: Digest,
    /// The manifest.
    pub manifest: Manifest,
    /// The manifest, byte for byte.
    pub manifest_bytes: Bytes,
    /// The configuration blob.
    pub config: Bytes,
    /// The layers, in order.
    pub layers: Vec<(Descriptor, Bytes)>,
}

impl Artifact {
    /// The first layer of a media type.
    pub fn layer(&self, media_type: &str) -> Option<&Bytes> {
        let found = self
            .layers
            .iter()
            .find(|(descriptor, _)| descriptor.media_type == media_type);
        found.map(|(_, bytes)| bytes)
    }
}

/// Reads an artifact whole.
///
/// # Errors
/// If it is not there, an index, larger than 16 MiB, or any digest is wrong.
pub async fn fetch_artifact(source: &dyn Source, digest: &Digest) -> Result<Artifact, SourceError> {
    let (manifest_bytes, document) = document(source, digest).await?;
    let Document::Manifest(manifest) = document else {
        return Err(SourceError::NestedIndex {
            place: source.name(),
            digest: *digest,
        });
    };
    let sizes = manifest.layers.iter().map(|layer| layer.size);
    let total = sizes.fold(manifest.config.size, u64::saturating_add);
    if manifest.layers.len() > MAX_LAYERS || total > MAX_BYTES {
        return Err(SourceError::TooLarge {
            place: source.name(),
            what: format!("artifact {digest}"),
            limit: MAX_BYTES,
        });
    }
    let config = read_blob(source, &manifest.config).await?;
    let mut layers = Vec::with_capacity(manifest.layers.len());
    for layer in &manifest.layers {
        layers.push((layer.clone(), read_blob(source, layer).await?));
    }
    Ok(Artifact {
        digest: *digest,
        manifest: *manifest,
        manifest_bytes,
        config,
        layers,
    })
}

/// An artifact to be written.
#[derive(Debug, Clone, Default)]
pub struct NewArtifact {
    /// `artifactType`.
    pub artifact_type: String,
    /// Media type and bytes of the configuration; none stands for the empty one.
    pub config: Option<(String, Bytes)>,
    /// The parts.
    pub layers: Vec<NewLayer>,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
    /// What it says something about: makes it a referrer.
    pub subject: Option<Descriptor>,
}

/// A part of an artifact to be written.
#[derive(Debug, Clone)]
pub struct NewLayer {
    /// Its media type.
    pub media_type: String,
    /// Its content.
    pub bytes: Bytes,
    /// Annotations of its descriptor.
    pub annotations: BTreeMap<String, String>,
}

impl NewLayer {
    /// A part without annotations.
    pub fn new(media_type: &str, bytes: impl Into<Bytes>) -> Self {
        NewLayer {
            media_type: media_type.to_owned(),
            bytes: bytes.into(),
            annotations: BTreeMap::new(),
        }
    }
}

impl NewArtifact {
    /// The manifest's bytes and the blobs it names. The same artifact gives the same bytes.
    pub fn assemble(&self) -> (Vec<u8>, Memory) {
        let mut memory = Memory::default();
        let config = match &self.config {
            Some((media_type, bytes)) => memory.add(media_type, bytes.clone()),
            None => memory.add(EMPTY, Bytes::from_static(b"{}")),
        };
        let layers = self.layers.iter().map(|layer| {
            let mut descriptor = memory.add(&layer.media_type, layer.bytes.clone());
            descriptor.annotations.clone_from(&layer.annotations);
            descriptor
        });
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(MANIFEST.to_owned()),
            artifact_type: Some(self.artifact_type.clone()).filter(|kind| !kind.is_empty()),
            config,
            layers: layers.collect(),
            subject: self.subject.clone(),
            annotations: self.annotations.clone(),
        };
        (serde_json::to_vec(&manifest).expect("a manifest is JSON"), memory)
    }

    /// The descriptor the artifact will have.
    pub fn descriptor(&self) -> Descriptor {
        let (bytes, _) = self.assemble();
        let mut descriptor = Descriptor::of(MANIFEST, &bytes);
        descriptor.artifact_type = Some(self.artifact_type.clone()).filter(|kind| !kind.is_empty());
        descriptor
    }
}

/// Writes an artifact, under a name (tag) if there is one, and gives its descriptor. One with a
/// subject is also listed among that subject's referrers, by the registry or in the fallback tag.
///
/// # Errors
/// The first failure; the manifest comes last, so that nothing incomplete has a name.
pub async fn push_artifact(
    sink: &dyn Sink,
    artifact: &NewArtifact,
    name: Option<&str>,
) -> Result<Descriptor, SourceError> {
    let (bytes, memory) = artifact.assemble();
    let manifest: Manifest = serde_json::from_slice(&bytes).expect("it was just written");
    let memory: Arc<dyn Source> = Arc::new(memory);
    for blob in manifest.layers.iter().chain([&manifest.config]) {
        if !sink.has_blob(blob).await? {
            sink.put_blob(blob, Arc::clone(&memory)).await?;
        }
    }
    sink.put_manifest(&bytes, name).await?;
    Ok(artifact.descriptor())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> NewArtifact {
        NewArtifact {
            artifact_type: RELEASE_TYPE.to_owned(),
            layers: vec![NewLayer::new("application/json", &b"{\"a\":1}"[..])],
            annotations: [("b".to_owned(), "2".to_owned()), ("a".to_owned(), "1".to_owned())].into(),
            ..NewArtifact::default()
        }
    }

    #[tokio::test]
    async fn an_artifact_survives_a_layout() {
        let directory = tempfile::tempdir().expect("a directory");
        let layout = crate::source::Layout::create(directory.path()).expect("a layout");
        let written = push_artifact(&layout, &sample(), Some("r.example/x:1"))
            .await
            .expect("pushed");
        let again = push_artifact(&layout, &sample(), Some("r.example/x:1"))
            .await
            .expect("again");
        assert_eq!(written, again, "the same artifact has the same digest");
        let read = fetch_artifact(&layout, &written.digest).await.expect("fetched");
        assert_eq!(read.manifest.kind(), RELEASE_TYPE);
        assert_eq!(
            read.layer("application/json").map(AsRef::as_ref),
            Some(&b"{\"a\":1}"[..])
        );
        let selector = crate::reference::Selector::Only;
        assert_eq!(
            layout.resolve(&selector).await.expect("the only one"),
            written.digest
        );
    }

    #[tokio::test]
    async fn a_flipped_byte_is_refused_in_every_part() {
        let directory = tempfile::tempdir().expect("a directory");
        let layout = crate::source::Layout::create(directory.path()).expect("a layout");
        let written = push_artifact(&layout, &sample(), None).await.expect("pushed");
        let blobs = directory.path().join("blobs/sha256");
        let mut parts = 0;
        for entry in std::fs::read_dir(&blobs).expect("blobs") {
            let path = entry.expect("an entry").path();
            let good = std::fs::read(&path).expect("a blob");
            let mut bad = good.clone();
            bad[0] ^= 1;
            std::fs::write(&path, &bad).expect("written");
            let error = fetch_artifact(&layout, &written.digest)
                .await
                .expect_err("refused");
            assert!(matches!(error, SourceError::Digest { .. }), "{error}");
            std::fs::write(&path, &good).expect("restored");
            parts += 1;
        }
        assert_eq!(parts, 3);
    }

    #[tokio::test]
    async fn referrers_of_a_layout_are_found_by_type() {
        let directory = tempfile::tempdir().expect("a directory");
        let layout = crate::source::Layout::create(directory.path()).expect("a layout");
        let subject = push_artifact(&layout, &sample(), Some("1"))
            .await
            .expect("pushed");
        let sbom = NewArtifact {
            artifact_type: "application/spdx+json".to_owned(),
            subject: Some(subject.clone()),
            ..NewArtifact::default()
        };
        let sbom = push_artifact(&layout, &sbom, None).await.expect("attached");
        for (kind, expected) in [
            (None, 1),
            (Some("application/spdx+json"), 1),
            (Some("application/other"), 0),
        ] {
            let found = layout.referrers(&subject.digest, kind).await.expect("listed");
            assert_eq!(found.len(), expected, "{kind:?}");
            assert!(found.iter().all(|entry| entry.digest == sbom.digest));
        }
    }
}

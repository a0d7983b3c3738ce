//! A repository of a registry as source and sink.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{StreamExt, TryStreamExt, try_unfold};

use super::{ByteStream, Sink, Source, SourceError};
use crate::digest::Digest;
use crate::manifest::{Descriptor, Document, Index};
use crate::reference::Selector;
use crate::registry::{RegistryError, Repository};

/// One repository.
pub struct RegistrySource {
    repository: Repository,
}

impl RegistrySource {
    /// Wraps a repository.
    pub fn new(repository: Repository) -> Self {
        RegistrySource { repository }
    }

    fn not_found(&self, what: String) -> SourceError {
        SourceError::NotFound {
            place: self.repository.name().to_owned(),
            what,
        }
    }

    fn index(&self, bytes: &[u8], subject: &Digest) -> Result<Index, SourceError> {
        match Document::parse(bytes) {
            Ok(Document::Index(index)) => Ok(index),
            Ok(Document::Manifest(_)) => Err(SourceError::Registry(RegistryError::Protocol {
                url: self.repository.name().to_owned(),
                reason: format!("the referrers of {subject} are not an index"),
            })),
            Err(source) => Err(SourceError::Registry(RegistryError::Document {
                url: self.repository.name().to_owned(),
                source,
            })),
        }
    }
}

/// The tag under which registries without the referrers API keep the list of referrers
/// (distribution-spec, "referrers tag schema").
pub(crate) fn fallback_tag(subject: &Digest) -> String {
    format!("sha256-{}", subject.hex())
}

#[async_trait]
impl Source for RegistrySource {
    fn name(&self) -> String {
        self.repository.name().to_owned()
    }

    fn repository(&self) -> Option<String> {
        Some(self.repository.name().to_owned())
    }

    async fn resolve(&self, selector: &Selector) -> Result<Digest, SourceError> {
        match selector {
            Selector::Digest(digest) => Ok(*digest),
            // The bytes are hashed here; what a server says in a header is not believed.
            Selector::Name(tag) => Ok(Digest::of(&self.repository.tagged(tag).await?)),
            Selector::Only => Err(self.not_found("default entry".to_owned())),
        }
    }

    async fn manifest(&self, digest: &Digest) -> Result<Bytes, SourceError> {
        Ok(self.repository.manifest(digest).await?)
    }

    async fn blob(&self, blob: &Descriptor, offset: u64) -> Result<ByteStream, SourceError> {
        let transfer = self.repository.blob(blob.digest, blob.size, offset);
        let stream = try_unfold(transfer, |mut transfer| async move {
            let chunk = transfer.chunk().await.map_err(SourceError::from)?;
            Ok(chunk.map(|chunk| (chunk, transfer)))
        });
        Ok(stream.boxed())
    }

    async fn referrers(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>, SourceError> {
        let bytes = match self.repository.referrers(subject).await? {
            Some(bytes) => Some(bytes),
            None => {
                let tag = fallback_tag(subject);
                super::optional(self.repository.tagged(&tag).await.map_err(SourceError::from))?
            }
        };
        let Some(bytes) = bytes else { return Ok(Vec::new()) };
        let mut found = self.index(&bytes, subject)?.manifests;
        if let Some(wanted) = artifact_type {
            found.retain(|entry| entry.artifact_type.as_deref() == Some(wanted));
        }
        Ok(found)
    }
}

#[async_trait]
impl Sink for RegistrySource {
    fn name(&self) -> String {
        self.repository.name().to_owned()
    }

    async fn has_blob(&self, blob: &Descriptor) -> Result<bool, SourceError> {
        Ok(self.repository.has_blob(&blob.digest).await?)
    }

    async fn put_blob(&self, blob: &Descriptor, from: Arc<dyn Source>) -> Result<(), SourceError> {
        let wanted = blob.clone();
        let open = move || {
            let (from, wanted) = (Arc::clone(&from), wanted.clone());
            futures_util::stream::once(
                async move { from.blob(&wanted, 0).await.map_err(std::io::Error::other) },
            )
            .map_ok(|stream| stream.map_err(std::io::Error::other))
            .try_flatten()
            .boxed()
        };
        Ok(self.repository.put_blob(&blob.digest, blob.size, &open).await?)
    }

    async fn put_manifest(&self, bytes: &[u8], name: Option<&str>) -> Result<Digest, SourceError> {
        let digest = Digest::of(bytes);
        let document = Document::parse(bytes).map_err(|source| SourceError::Document {
            place: self.repository.name().to_owned(),
            digest,
            source,
        })?;
        let by_digest = digest.to_string();
        let name = name.unwrap_or(&by_digest);
        self.repository
            .put_manifest(name, document.media_type(), bytes)
            .await?;
        if let Document::Manifest(manifest) = &document
            && let Some(subject) = &manifest.subject
        {
            self.list_as_referrer(&subject.digest, bytes, manifest.kind(), &manifest.annotations)
                .await?;
        }
        Ok(digest)
    }
}

impl RegistrySource {
    /// Adds a manifest to its subject's list where the registry does not keep that list itself.
    async fn list_as_referrer(
        &self,
        subject: &Digest,
        bytes: &[u8],
        kind: &str,
        annotations: &std::collections::BTreeMap<String, String>,
    ) -> Result<(), SourceError> {
        if self.repository.referrers(subject).await?.is_some() {
            return Ok(());
        }
        let tag = fallback_tag(subject);
        let old = super::optional(self.repository.tagged(&tag).await.map_err(SourceError::from))?;
        let mut index = match old {
            Some(old) => self.index(&old, subject)?,
            None => Index::new(Vec::new()),
        };
        let mut entry = Descriptor::of(crate::manifest::MANIFEST, bytes);
        entry.artifact_type = Some(kind.to_owned());
        entry.annotations.clone_from(annotations);
        index.manifests.retain(|other| other.digest != entry.digest);
        index.manifests.push(entry);
        let body = serde_json::to_vec(&index).expect("an index is JSON");
        self.repository
            .put_manifest(&tag, crate::manifest::INDEX, &body)
            .await?;
        Ok(())
    }
}

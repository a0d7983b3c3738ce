//! Blobs in memory.

use std::collections::HashMap;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::StreamExt;

use super::{ByteStream, Source, SourceError};
use crate::digest::Digest;
use crate::manifest::Descriptor;
use crate::reference::Selector;

/// A source of a few small blobs, with which an artifact is put together before it is written.
#[derive(Debug, Default)]
pub struct Memory {
    blobs: HashMap<Digest, Bytes>,
}

impl Memory {
    /// Adds bytes and describes them.
    pub fn add(&mut self, media_type: &str, bytes: impl Into<Bytes>) -> Descriptor {
        let bytes = bytes.into();
        let descriptor = Descriptor::of(media_type, &bytes);
        self.blobs.insert(descriptor.digest, bytes);
        descriptor
    }

    fn get(&self, digest: &Digest) -> Result<Bytes, SourceError> {
        self.blobs
            .get(digest)
            .cloned()
            .ok_or_else(|| SourceError::NotFound {
                place: self.name(),
                what: format!("blob {digest}"),
            })
    }
}

#[async_trait]
impl Source for Memory {
    fn name(&self) -> String {
        "memory".to_owned()
    }

    async fn resolve(&self, selector: &Selector) -> Result<Digest, SourceError> {
        match selector {
            Selector::Digest(digest) => Ok(*digest),
            Selector::Name(_) | Selector::Only => Err(SourceError::NotFound {
                place: self.name(),
                what: format!("entry {selector}"),
            }),
        }
    }

    async fn manifest(&self, digest: &Digest) -> Result<Bytes, SourceError> {
        self.get(digest)
    }

    async fn blob(&self, blob: &Descriptor, offset: u64) -> Result<ByteStream, SourceError> {
        let bytes = self.get(&blob.digest)?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let rest = bytes.slice(start..);
        Ok(futures_util::stream::once(async move { Ok(rest) }).boxed())
    }

    async fn referrers(
        &self,
        _subject: &Digest,
        _artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>, SourceError> {
        Ok(Vec::new())
    }
}

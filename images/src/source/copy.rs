//! Everything that belongs to an image or artifact, from one place to another: push, mirror, bundle.

use std::sync::Arc;

use super::{Sink, Source, SourceError, document};
use crate::digest::Digest;
use crate::manifest::{Descriptor, Document, Manifest};

/// Copies what `digest` names (a manifest, or an index with all its manifests) with all blobs the
/// sink lacks, and names it there. Blobs first, so that a manifest never refers to what is missing.
///
/// # Errors
/// The first failure ends the copy; blobs that arrived stay and are not sent again.
pub async fn copy_image(
    from: &Arc<dyn Source>,
    digest: &Digest,
    to: &dyn Sink,
    name: Option<&str>,
) -> Result<CopyReport, SourceError> {
    let mut report = CopyReport::default();
    let (bytes, first) = document(from.as_ref(), digest).await?;
    match first {
        Document::Manifest(manifest) => copy_blobs(from, &manifest, to, &mut report).await?,
        Document::Index(index) => {
            for entry in &index.manifests {
                let (bytes, inner) = document(from.as_ref(), &entry.digest).await?;
                let Document::Manifest(manifest) = inner else {
                    return Err(SourceError::NestedIndex {
                        place: from.name(),
                        digest: entry.digest,
                    });
                };
                copy_blobs(from, &manifest, to, &mut report).await?;
                to.put_manifest(&bytes, None).await?;
            }
        }
    }
    to.put_manifest(&bytes, name).await?;
    Ok(report)
}

/// What a copy moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CopyReport {
    /// Blobs sent.
    pub blobs: u64,
    /// Bytes sent.
    pub bytes: u64,
    /// Blobs that were there already.
    pub present: u64,
}

async fn copy_blobs(
    from: &Arc<dyn Source>,
    manifest: &Manifest,
    to: &dyn Sink,
    report: &mut CopyReport,
) -> Result<(), SourceError> {
    let blobs: Vec<&Descriptor> = manifest.layers.iter().chain([&manifest.config]).collect();
    for blob in blobs {
        if to.has_blob(blob).await? {
            report.present += 1;
            continue;
        }
        to.put_blob(blob, Arc::clone(from)).await?;
        report.blobs += 1;
        report.bytes += blob.size;
    }
    Ok(())
}

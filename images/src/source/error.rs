//! What can go wrong with a source or a sink.

use std::io;
use std::path::PathBuf;

use crate::digest::Digest;
use crate::manifest::DocumentError;
use crate::registry::RegistryError;

/// Failure to read from or write to a place. Names the place and the content.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A registry request failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A file can't be read or written.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A durable write failed.
    #[error(transparent)]
    Durable(#[from] crate::durable::DurableError),
    /// The content is not there.
    #[error("{place} has no {what}")]
    NotFound {
        /// The place.
        place: String,
        /// The content.
        what: String,
    },
    /// A layout with several entries was asked for "the" one.
    #[error("{place} holds several images; name one of: {}", names.join(", "))]
    Several {
        /// The place.
        place: String,
        /// The names it has.
        names: Vec<String>,
    },
    /// Not an OCI layout.
    #[error("{place} is no OCI layout: {reason}")]
    NoLayout {
        /// The place.
        place: String,
        /// What is missing or wrong.
        reason: String,
    },
    /// The bytes are not the ones asked for.
    #[error("{what} from {place} has digest {actual}, expected {expected}")]
    Digest {
        /// The place.
        place: String,
        /// Manifest, blob, layer.
        what: String,
        /// The digest asked for.
        expected: Digest,
        /// The digest of what came.
        actual: Digest,
    },
    /// The bytes end early, or the file has another size than its descriptor.
    #[error("blob {blob} from {place} has {got} bytes, expected {size}")]
    Size {
        /// The place.
        place: String,
        /// The blob.
        blob: Digest,
        /// Bytes there are.
        got: u64,
        /// Bytes there should be.
        size: u64,
    },
    /// Larger than anything sensible.
    #[error("{what} from {place} is larger than {limit} bytes")]
    TooLarge {
        /// The place.
        place: String,
        /// The content.
        what: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// A manifest or index that can't be used.
    #[error("manifest {digest} from {place} is not usable")]
    Document {
        /// The place.
        place: String,
        /// Its digest.
        digest: Digest,
        /// Why.
        source: DocumentError,
    },
    /// An index without an image for this machine.
    #[error("{digest} from {place} has no image for {wanted}, only for {offered}")]
    Platform {
        /// The place.
        place: String,
        /// The index.
        digest: Digest,
        /// This machine.
        wanted: String,
        /// What it has.
        offered: String,
    },
    /// An index inside an index.
    #[error("{digest} from {place} is an index inside an index")]
    NestedIndex {
        /// The place.
        place: String,
        /// The inner one.
        digest: Digest,
    },
    /// Something that can't be written to.
    #[error("{place} is an archive, which is written as a whole")]
    ReadOnly {
        /// The place.
        place: String,
    },
    /// A registry is needed here.
    #[error("{} is a file, not a registry", path.display())]
    NoRegistry {
        /// The file.
        path: PathBuf,
    },
}

impl SourceError {
    /// Whether the content is known not to be there.
    pub fn is_not_found(&self) -> bool {
        matches!(
            self,
            SourceError::NotFound { .. } | SourceError::Registry(RegistryError::NotFound { .. })
        )
    }

    /// Whether the place could not be asked: no network, no answer, an answer that breaks off.
    pub fn is_unavailable(&self) -> bool {
        match self {
            SourceError::Registry(error) => match error {
                RegistryError::Unreachable { .. }
                | RegistryError::Status { .. }
                | RegistryError::Busy { .. }
                | RegistryError::Slow { .. }
                | RegistryError::NotFound { .. }
                | RegistryError::Unauthorized { .. }
                | RegistryError::ForeignRealm { .. }
                | RegistryError::Challenge { .. }
                | RegistryError::Redirect { .. }
                | RegistryError::Protocol { .. }
                | RegistryError::Truncated { .. }
                | RegistryError::Setup(_) => true,
                RegistryError::TooLarge { .. }
                | RegistryError::Digest { .. }
                | RegistryError::Document { .. }
                | RegistryError::Oversized { .. }
                | RegistryError::AuthFile { .. }
                | RegistryError::CaFile { .. }
                | RegistryError::Host { .. }
                | RegistryError::Source { .. } => false,
            },
            SourceError::NotFound { .. } => true,
            SourceError::Io { .. }
            | SourceError::Durable(_)
            | SourceError::Several { .. }
            | SourceError::NoLayout { .. }
            | SourceError::Digest { .. }
            | SourceError::Size { .. }
            | SourceError::TooLarge { .. }
            | SourceError::Document { .. }
            | SourceError::Platform { .. }
            | SourceError::NestedIndex { .. }
            | SourceError::ReadOnly { .. }
            | SourceError::NoRegistry { .. } => false,
        }
    }

    pub(crate) fn io(action: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| SourceError::Io { action, path, source }
    }
}

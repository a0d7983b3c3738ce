//! Why a pull ended. Whatever it was, the store is as it was before.

use std::path::PathBuf;

use crate::digest::Digest;
use crate::error::{ImportError, StoreError};
use crate::source::SourceError;

/// Failure of a pull. Names the image, and the layer where it is about one.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The place of an image could not give it, or gave something else.
    #[error("cannot fetch {image}")]
    Source {
        /// The reference asked for.
        image: String,
        /// Why.
        source: Box<SourceError>,
    },
    /// The parts of an image contradict each other or this machine.
    #[error("image {image} cannot be used: {problem}")]
    Image {
        /// The reference asked for.
        image: String,
        /// What is wrong.
        problem: String,
    },
    /// A layer of a format that is not read.
    #[error("layer {blob} of {image} has media type `{media_type}`, which is not supported")]
    LayerType {
        /// The reference asked for.
        image: String,
        /// The compressed blob.
        blob: Digest,
        /// Its media type.
        media_type: String,
    },
    /// A layer came whole and right, but its content is not acceptable.
    #[error("cannot import layer {blob} of {image}")]
    Import {
        /// The reference asked for.
        image: String,
        /// The compressed blob.
        blob: Digest,
        /// Why.
        source: Box<ImportError>,
    },
    /// The partial download can't be used.
    #[error("cannot {action} {}", path.display())]
    Partial {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The caller changed its mind.
    #[error("the pull was cancelled")]
    Cancelled,
    /// A thread of the pull ended without a result.
    #[error("a worker of the pull panicked")]
    Worker,
}

impl PullError {
    /// Whether the disk is full: what earlier tries and this one have left there is in the way then.
    pub(super) fn is_no_space(&self) -> bool {
        match self {
            Self::Store(store) => store.is_no_space(),
            Self::Import { source, .. } => {
                matches!(&**source, ImportError::Store(store) if store.is_no_space())
            }
            Self::Partial { source, .. } => matches!(
                source.kind(),
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
            ),
            Self::Source { .. }
            | Self::Image { .. }
            | Self::LayerType { .. }
            | Self::Cancelled
            | Self::Worker => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_full_disk_is_seen_wherever_it_is_met() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let store = || StoreError::io("write", "/x".as_ref())(full());
        let import = PullError::Import {
            image: "r.example/x".to_owned(),
            blob: Digest::of(b"x"),
            source: Box::new(ImportError::Store(store())),
        };
        let partial = |kind| PullError::Partial {
            action: "open",
            path: "/x".into(),
            source: io::Error::from(kind),
        };
        for error in [
            PullError::Store(store()),
            import,
            partial(io::ErrorKind::QuotaExceeded),
        ] {
            assert!(error.is_no_space(), "{error}");
        }
        for error in [PullError::Cancelled, partial(io::ErrorKind::PermissionDenied)] {
            assert!(!error.is_no_space(), "{error}");
        }
    }
}

//! Where things are in the store.

use std::path::{Path, PathBuf};

use super::object::ObjectId;
use crate::digest::Digest;

/// The paths of one store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn format(&self) -> PathBuf {
        self.root.join("format")
    }

    pub fn objects(&self) -> PathBuf {
        self.root.join("objects")
    }

    pub fn object(&self, id: &ObjectId) -> PathBuf {
        let hex = id.hex();
        self.root.join("objects").join(&hex[..2]).join(&hex[2..])
    }

    pub fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    pub fn layer(&self, diff_id: &Digest) -> PathBuf {
        self.layers().join(format!("{}.json", diff_id.hex()))
    }

    pub fn trees(&self) -> PathBuf {
        self.root.join("trees")
    }

    pub fn tree(&self, manifest: &Digest) -> PathBuf {
        self.trees().join(manifest.hex())
    }

    pub fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    pub fn image(&self, manifest: &Digest) -> PathBuf {
        self.images().join(format!("{}.json", manifest.hex()))
    }

    pub fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// Partial downloads, which outlive a failed pull so that the next one resumes.
    pub fn blobs(&self) -> PathBuf {
        self.root.join("tmp/blobs")
    }

    /// Everything that must exist in an open store.
    pub fn directories(&self) -> [PathBuf; 6] {
        [
            self.objects(),
            self.layers(),
            self.trees(),
            self.images(),
            self.tmp(),
            self.blobs(),
        ]
    }
}

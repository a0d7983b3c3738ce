//! The image store: objects, layers, trees and image records under one directory.
//!
//! `layout` says where things are, `object` what an object is, `writer` and `tree` put things on disk, `seal` has the
//! kernel guard them, `ingest` and `commit` are a pull, `documents` the JSON files; `mounts` and `gc` take things away, `fsck` and `repair`
//! look after what is there.

mod commit;
mod documents;
mod finding;
mod format;
mod fsck;
mod gc;
mod ingest;
mod layout;
mod lock;
mod metadata;
mod mounts;
mod object;
mod pipe;
mod record;
mod remove;
mod repair;
mod seal;
mod tree;
mod treecheck;
mod writer;

use std::fs::File;
use std::path::{Path, PathBuf};

pub use commit::CommitReport;
pub use finding::{Fault, Finding};
pub use fsck::{Content, FsckOptions, FsckReport, SHARDS};
pub use gc::GcReport;
pub use ingest::{Ingest, LayerSummary};
pub use lock::Locked;
pub use mounts::Holders;
pub use object::ObjectId;
pub use record::{ImageRecord, LayerRef, NewImage, Verification};
pub use repair::{Fetch, RepairReport};

use crate::digest::Digest;
use crate::durable::why_not_created;
use crate::error::StoreError;
use layout::Layout;
use seal::Sealing;

/// The store of images under one directory.
#[derive(Debug, Clone)]
pub struct Store {
    layout: Layout,
    sealing: Sealing,
}

impl Store {
    /// Opens the store at `root`, or creates it.
    ///
    /// # Errors
    /// [`StoreError::Format`] if a newer version wrote it in a way this one does not know; I/O errors.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let layout = Layout::new(root);
        if let Some(parent) = root.parent() {
            crate::durable::create_directories(parent).map_err(StoreError::io("create", parent))?;
        }
        ensure_directory(root)?;
        format::check_or_create(&layout.format())?;
        for dir in layout.directories() {
            ensure_directory(&dir)?;
        }
        let format = layout.format();
        let file = File::open(&format).map_err(StoreError::io("open", &format))?;
        let sealing = Sealing::of(&file);
        Ok(Self { layout, sealing })
    }

    /// The directory the store was opened at.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.layout.root()
    }

    /// Whether its file system has fs-verity: what a pull or a repair writes is sealed with it then.
    #[must_use]
    pub fn seals(&self) -> bool {
        self.sealing != Sealing::Absent
    }

    /// The record of one image, if the image is in the store.
    ///
    /// # Errors
    /// The record cannot be read or is damaged.
    pub fn image(&self, manifest: &Digest) -> Result<Option<ImageRecord>, StoreError> {
        documents::read_record(&self.layout, manifest)
    }

    /// All images, sorted by digest.
    ///
    /// # Errors
    /// A record cannot be read or is damaged.
    pub fn images(&self) -> Result<Vec<ImageRecord>, StoreError> {
        let digests = documents::digests_in(&self.layout.images())?;
        let records = digests.iter().map(|digest| self.image(digest));
        records.filter_map(Result::transpose).collect()
    }

    /// Whether a layer is in the store, whole.
    ///
    /// # Errors
    /// I/O errors.
    pub fn has_layer(&self, diff_id: &Digest) -> Result<bool, StoreError> {
        ingest::exists(&self.layout.layer(diff_id))
    }

    /// Where the file tree of an image is, or would be.
    #[must_use]
    pub fn tree_path(&self, manifest: &Digest) -> PathBuf {
        self.layout.tree(manifest)
    }

    /// Begins a pull. What an interrupted pull of the same name left is removed.
    ///
    /// # Errors
    /// [`StoreError::TransactionName`] for anything but letters, digits, `-` and `_`; I/O errors.
    pub fn begin(&self, _lock: &Locked, txn: &str) -> Result<Ingest, StoreError> {
        Ingest::begin(&self.layout, self.sealing, txn)
    }
}

/// Creates a directory that only its owner may enter: trees hold setuid files of other systems.
fn ensure_directory(path: &Path) -> Result<(), StoreError> {
    match tree::create_directory(path) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists || !path.is_dir() => {
            Err(StoreError::io("create", path)(why_not_created(path, e)))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn a_root_that_cannot_be_looked_at_is_told_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("around");
        std::os::unix::fs::symlink(&root, &root).unwrap();
        let error = Store::open(&root).unwrap_err();
        let why = error.source().unwrap().to_string();
        assert!(why.contains("symbolic links"), "{error}: {why}");
    }
}

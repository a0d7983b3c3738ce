//! The image store.

mod lock;
mod record;

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

pub use lock::Locked;
pub use record::{ImageRecord, LayerRef, NewImage, Verification};

use crate::digest::Digest;
use crate::error::{ImportError, StoreError};
use crate::layer::Policy;

/// The store of images under one directory.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

/// What one layer amounted to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerSummary {
    /// Digest of the uncompressed archive.
    pub diff_id: Digest,
    /// Entries in the layer.
    pub entries: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// Objects that the store did not have before.
    pub new_objects: u64,
    /// Bytes of those.
    pub new_bytes: u64,
}

/// One pull.
#[derive(Debug)]
pub struct Ingest {
    store: Store,
}

/// What a commit made visible.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CommitReport {
    /// Objects that got their final name.
    pub objects: u64,
    /// Layers that got their final name.
    pub layers: u64,
    /// Images that got their record.
    pub images: u64,
}

/// What garbage collection removed, or would remove.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GcReport {
    /// Images whose record and tree went.
    pub images: BTreeSet<Digest>,
    /// Layers whose index went.
    pub layers: u64,
    /// Objects that went.
    pub objects: u64,
    /// Bytes on disk that became free.
    pub bytes: u64,
}

/// How thorough a check is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FsckOptions {
    /// Read and hash every object; otherwise only names, metadata and structure are compared.
    pub content: bool,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FsckReport {
    /// Objects looked at.
    pub objects: u64,
    /// Bytes hashed.
    pub bytes: u64,
    /// What is wrong; empty if nothing is.
    pub findings: Vec<String>,
}

/// What repair did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RepairReport {
    /// What could not be repaired.
    pub remaining: FsckReport,
}

impl Store {
    /// Opens or creates the store at `root`.
    ///
    /// # Errors
    /// [`StoreError::Format`] if a newer version wrote it; I/O errors.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        Ok(Self {
            root: root.to_owned(),
        })
    }

    /// The record of one image, if it is in the store.
    ///
    /// # Errors
    /// The record cannot be read or is damaged.
    pub fn image(&self, _manifest: &Digest) -> Result<Option<ImageRecord>, StoreError> {
        unimplemented!()
    }

    /// All images.
    ///
    /// # Errors
    /// A record cannot be read or is damaged.
    pub fn images(&self) -> Result<Vec<ImageRecord>, StoreError> {
        unimplemented!()
    }

    /// Whether a layer is in the store, whole.
    ///
    /// # Errors
    /// I/O errors.
    pub fn has_layer(&self, _diff_id: &Digest) -> Result<bool, StoreError> {
        unimplemented!()
    }

    /// Where the file tree of an image is (or would be).
    #[must_use]
    pub fn tree_path(&self, manifest: &Digest) -> PathBuf {
        self.root.join("trees").join(manifest.hex())
    }

    /// Begins a pull.
    ///
    /// # Errors
    /// I/O errors.
    pub fn begin(&self, _lock: &Locked, _txn: &str) -> Result<Ingest, StoreError> {
        Ok(Ingest { store: self.clone() })
    }

    /// Images whose trees living processes have mounted.
    ///
    /// # Errors
    /// I/O errors.
    pub fn roots_in_use(&self) -> Result<BTreeSet<Digest>, StoreError> {
        unimplemented!()
    }

    /// Removes what is not needed by `keep` and not in use.
    ///
    /// # Errors
    /// I/O errors.
    pub fn gc(
        &self,
        _lock: &Locked,
        _keep: &BTreeSet<Digest>,
        _dry_run: bool,
    ) -> Result<GcReport, StoreError> {
        unimplemented!()
    }

    /// Checks the store.
    ///
    /// # Errors
    /// The check could not be made.
    pub fn fsck(&self, _options: FsckOptions) -> Result<FsckReport, StoreError> {
        unimplemented!()
    }

    /// Repairs what a check found; `fetch` opens a layer's **uncompressed** archive.
    ///
    /// # Errors
    /// The repair could not be made.
    pub fn repair(
        &self,
        _lock: &Locked,
        _report: &FsckReport,
        _fetch: &mut dyn FnMut(&LayerRef) -> io::Result<Box<dyn Read + Send>>,
    ) -> Result<RepairReport, ImportError> {
        unimplemented!()
    }
}

impl Ingest {
    /// Unpacks one **uncompressed** tar stream. May be called by several threads at once.
    ///
    /// # Errors
    /// [`ImportError`]; nothing of the layer is kept then.
    pub fn layer(
        &self,
        _tar: impl Read + Send,
        _expect_diff_id: &Digest,
        _policy: &Policy,
    ) -> Result<LayerSummary, ImportError> {
        unimplemented!()
    }

    /// Adds an image whose layers are all imported or in the store.
    ///
    /// # Errors
    /// [`StoreError`] naming the image.
    pub fn image(&self, _image: NewImage) -> Result<(), StoreError> {
        unimplemented!()
    }

    /// Makes everything durable and visible.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn commit(self) -> Result<CommitReport, StoreError> {
        unimplemented!()
    }

    /// Where a partial download of `blob` is kept across pulls.
    #[must_use]
    pub fn download_path(&self, blob: &Digest) -> PathBuf {
        self.store
            .root
            .join("tmp/blobs")
            .join(format!("{}.part", blob.hex()))
    }
}

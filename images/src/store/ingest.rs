//! One pull: layers and images come in under the transaction's own directory and get their final names at
//! the commit, all at once.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use oci_spec::image::{ImageConfiguration, ImageManifest};

use super::layout::Layout;
use super::pipe;
use super::record::{ImageRecord, NewImage, RECORD_VERSION};
use super::seal::Sealing;
use super::tree;
use super::writer::ObjectWriter;
use super::{documents, remove};
use crate::digest::Digest;
use crate::error::{ImportError, StoreError};
use crate::layer::{LayerIndex, Policy, Tree};

/// One pull. Nothing has a final name until [`Ingest::commit`]; dropped without it, it leaves nothing but
/// partial downloads.
#[derive(Debug)]
pub struct Ingest {
    pub(super) layout: Layout,
    pub(super) sealing: Sealing,
    pub(super) txn: String,
    pub(super) dir: PathBuf,
    pub(super) writer: ObjectWriter,
    pub(super) layers: Mutex<BTreeMap<Digest, Arc<LayerIndex>>>,
    pub(super) images: Mutex<Vec<ImageRecord>>,
    /// Held shared by imports and exclusively while a tree is built, so that every object which an index
    /// names is written when a tree links to it.
    importing: RwLock<()>,
}

/// What one layer amounted to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerSummary {
    /// Digest of the uncompressed archive.
    pub diff_id: Digest,
    /// Entries that the layer adds or replaces.
    pub entries: u64,
    /// Bytes of its files when unpacked.
    pub bytes: u64,
    /// Bytes of the uncompressed archive.
    pub archive_bytes: u64,
}

impl Ingest {
    /// Starts anew: what an interrupted transaction of the same name left is removed.
    pub(super) fn begin(layout: &Layout, sealing: Sealing, txn: &str) -> Result<Self, StoreError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        if txn.is_empty() || txn.len() > 200 || txn == "blobs" || !txn.bytes().all(plain) {
            return Err(StoreError::TransactionName(txn.to_owned()));
        }
        let dir = layout.tmp().join(txn);
        remove::tree(&dir)?;
        let writer = Self::make(layout, &dir);
        if writer.is_err() {
            // As when it is dropped: a disk that is full gets the space back at once.
            let _ = remove::tree(&dir);
        }
        Ok(Self {
            layout: layout.clone(),
            sealing,
            txn: txn.to_owned(),
            writer: writer?,
            dir,
            layers: Mutex::default(),
            images: Mutex::default(),
            importing: RwLock::default(),
        })
    }

    fn make(layout: &Layout, dir: &Path) -> Result<ObjectWriter, StoreError> {
        for dir in [dir, &dir.join("layers"), &dir.join("trees")] {
            tree::create_directory(dir).map_err(StoreError::io("create", dir))?;
        }
        ObjectWriter::create(layout.clone(), dir.join("objects"))
    }

    /// Unpacks one **uncompressed** tar stream into objects and checks that it is `expect_diff_id`.
    ///
    /// Any number of threads may call this at once. Reading and hashing the stream happen in a thread of
    /// their own, beside the writing; the memory used does not depend on the layer's bytes, only on the
    /// number and names of its entries.
    ///
    /// # Errors
    /// [`ImportError`]; nothing of this layer is committed then, and the layer may be tried again
    /// unless the error is [`ImportError::Store`].
    pub fn layer(
        &self,
        tar: impl Read + Send,
        expect_diff_id: &Digest,
        policy: &Policy,
    ) -> Result<LayerSummary, ImportError> {
        let importing = self.importing.read().unwrap_or_else(PoisonError::into_inner);
        let imported = pipe::import(tar, expect_diff_id, policy, &self.writer)?;
        drop(importing);
        let index = imported.index;
        documents::write_layer(&self.layer_path(expect_diff_id), &index)?;
        let summary = LayerSummary {
            diff_id: *expect_diff_id,
            entries: index.entries.len() as u64,
            bytes: index.objects().map(|(_, size)| size).sum(),
            archive_bytes: imported.archive_bytes,
        };
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        layers.insert(*expect_diff_id, Arc::new(index));
        Ok(summary)
    }

    /// Adds an image whose layers are all imported here or in the store already, and builds its tree.
    /// Waits for running imports to end.
    ///
    /// # Errors
    /// The documents do not belong together, a layer is missing, layers do not fit onto each other, or
    /// the tree cannot be written. The other images of this pull are not affected.
    pub fn image(&self, image: NewImage) -> Result<(), StoreError> {
        check_documents(&image)?;
        let _alone = self.importing.write().unwrap_or_else(PoisonError::into_inner);
        let mut plan = Tree::default();
        for layer in &image.layers {
            let index = self.index(&image.manifest, &layer.diff_id)?;
            plan.apply(&index).map_err(|problem| StoreError::Layers {
                image: image.manifest,
                diff_id: layer.diff_id,
                problem: Box::new(problem),
            })?;
        }
        if !exists(&self.layout.tree(&image.manifest))? {
            let dest = self.tree_path(&image.manifest);
            remove::tree(&dest)?;
            tree::build(&dest, &plan, &|id| self.writer.locate(id), self.sealing)?;
        }
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let record = ImageRecord {
            version: RECORD_VERSION,
            manifest: image.manifest,
            reference: image.reference,
            manifest_json: text(image.manifest_bytes),
            config_json: text(image.config_bytes),
            layers: image.layers,
            unpacked_size: plan.bytes(),
            files: plan.entries().len() as u64,
            pulled: image.pulled,
            verification: image.verification,
        };
        let mut images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        images.push(record);
        Ok(())
    }

    /// Where a partial download of `blob` is kept. It outlives a failed pull, so that the next one can
    /// resume; garbage collection removes it.
    #[must_use]
    pub fn download_path(&self, blob: &Digest) -> PathBuf {
        self.layout.blobs().join(format!("{}.part", blob.hex()))
    }

    /// Objects and bytes that the store did not have before this pull.
    #[must_use]
    pub fn written(&self) -> (u64, u64) {
        self.writer.written()
    }

    pub(super) fn layer_path(&self, diff_id: &Digest) -> PathBuf {
        self.dir.join("layers").join(format!("{}.json", diff_id.hex()))
    }

    pub(super) fn tree_path(&self, manifest: &Digest) -> PathBuf {
        self.dir.join("trees").join(manifest.hex())
    }

    fn index(&self, image: &Digest, diff_id: &Digest) -> Result<Arc<LayerIndex>, StoreError> {
        let layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = layers.get(diff_id) {
            return Ok(Arc::clone(index));
        }
        drop(layers);
        let index = documents::read_layer(&self.layout, diff_id)?;
        index.map(Arc::new).ok_or(StoreError::MissingLayer {
            image: *image,
            diff_id: *diff_id,
        })
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        // A pull that failed gives its space back at once; what cannot be removed here, gc removes.
        let _ = remove::tree(&self.dir);
    }
}

/// Manifest, config and layer list must belong together: each digest is checked.
fn check_documents(image: &NewImage) -> Result<(), StoreError> {
    let fail = |problem: String| {
        Err(StoreError::Image {
            image: image.manifest,
            problem,
        })
    };
    let actual = Digest::of(&image.manifest_bytes);
    if actual != image.manifest {
        return fail(format!("the manifest's digest is {actual}"));
    }
    let manifest: ImageManifest = match serde_json::from_slice(&image.manifest_bytes) {
        Ok(manifest) => manifest,
        Err(e) => return fail(format!("the manifest is not valid: {e}")),
    };
    let config_digest = Digest::of(&image.config_bytes).to_string();
    let named = manifest.config().digest().to_string();
    if config_digest != named {
        return fail(format!(
            "the config's digest is {config_digest}, the manifest names {named}"
        ));
    }
    let config: ImageConfiguration = match serde_json::from_slice(&image.config_bytes) {
        Ok(config) => config,
        Err(e) => return fail(format!("the config is not valid: {e}")),
    };
    let blobs = manifest.layers().iter().map(|layer| layer.digest().to_string());
    if !blobs.eq(image.layers.iter().map(|layer| layer.blob.to_string())) {
        return fail("the layers are not those of the manifest".to_owned());
    }
    let diff_ids = config.rootfs().diff_ids().iter().map(String::as_str);
    if !diff_ids.eq(image.layers.iter().map(|l| l.diff_id.to_string())) {
        return fail("the layers are not those of the config".to_owned());
    }
    Ok(())
}

pub(super) fn exists(path: &Path) -> Result<bool, StoreError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(StoreError::io("look at", path)(e)),
    }
}

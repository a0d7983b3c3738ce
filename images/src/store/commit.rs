//! The commit of a pull, in the one order that a power cut cannot spoil.
//!
//! Everything is written under the transaction's directory, and objects are sealed there; one syncfs makes it durable;
//! only then do objects, layers and trees get their names, each kind after the one it depends on is durable; the image
//! records come last. So what has a name is whole, and an interruption leaves garbage in tmp and nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::PoisonError;

use super::documents;
use super::ensure_directory;
use super::ingest::{Ingest, exists};
use crate::durable;
use crate::error::StoreError;

/// What a commit made visible.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CommitReport {
    /// Objects that got their final name.
    pub objects: u64,
    /// Layers that got their final name.
    pub layers: u64,
    /// Trees that got their final name.
    pub trees: u64,
    /// Images that got their record.
    pub images: u64,
}

impl Ingest {
    /// Makes everything durable and visible.
    ///
    /// # Errors
    /// [`StoreError`]. Before the barrier nothing is visible; after it, objects and layers may be, whole,
    /// and the next pull uses them; an image is visible only with its record.
    pub fn commit(self) -> Result<CommitReport, StoreError> {
        if self.writer.is_poisoned() {
            let txn = self.txn.clone();
            return Err(StoreError::Poisoned { txn });
        }
        self.seal_objects()?;
        durable::sync_filesystem(&self.dir)?;
        Ok(CommitReport {
            objects: self.name_objects()?,
            layers: self.name_layers()?,
            trees: self.name_trees()?,
            images: self.write_records()?,
        })
    }

    fn seal_objects(&self) -> Result<(), StoreError> {
        let layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        let objects = layers.values().flat_map(|index| index.objects());
        let new: BTreeSet<_> = objects.filter_map(|(id, _)| self.writer.pending(&id)).collect();
        self.sealing.seal_all(&new.into_iter().collect::<Vec<_>>())
    }

    /// Only objects of layers that were verified to the end get names.
    fn name_objects(&self) -> Result<u64, StoreError> {
        let layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut touched = BTreeSet::new();
        let mut count = 0;
        for (id, _) in layers.values().flat_map(|index| index.objects()) {
            let Some(from) = self.writer.pending(&id) else {
                continue;
            };
            let to = self.layout.object(&id);
            if let Some(dir) = to.parent()
                && !touched.contains(dir)
            {
                ensure_directory(dir)?;
                touched.insert(dir.to_owned());
            }
            match fs::rename(&from, &to) {
                Ok(()) => count += 1,
                // Several entries may name one object.
                Err(e) if e.kind() == io::ErrorKind::NotFound && exists(&to)? => {}
                Err(e) => return Err(StoreError::io("rename", &from)(e)),
            }
        }
        touched.insert(self.layout.objects());
        sync_directories(&touched)?;
        Ok(count)
    }

    fn name_layers(&self) -> Result<u64, StoreError> {
        let layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        for diff_id in layers.keys() {
            let (from, to) = (self.layer_path(diff_id), self.layout.layer(diff_id));
            // What has no index is no layer yet: the sum first.
            for (from, to) in [(documents::sum_of(&from), documents::sum_of(&to)), (from, to)] {
                fs::rename(&from, to).map_err(StoreError::io("rename", &from))?;
            }
        }
        durable::sync_dir(&self.layout.layers())?;
        Ok(layers.len() as u64)
    }

    fn name_trees(&self) -> Result<u64, StoreError> {
        let images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        let mut count = 0;
        for image in images.iter() {
            let from = self.tree_path(&image.manifest);
            if exists(&from)? {
                let to = self.layout.tree(&image.manifest);
                fs::rename(&from, &to).map_err(StoreError::io("rename", &from))?;
                count += 1;
            }
        }
        durable::sync_dir(&self.layout.trees())?;
        Ok(count)
    }

    fn write_records(&self) -> Result<u64, StoreError> {
        let images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        for record in images.iter() {
            documents::write_record(&self.layout, record)?;
        }
        Ok(images.len() as u64)
    }
}

fn sync_directories(dirs: &BTreeSet<PathBuf>) -> Result<(), StoreError> {
    for dir in dirs {
        durable::sync_dir(dir)?;
    }
    Ok(())
}

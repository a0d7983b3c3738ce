//! Garbage collection: images that nobody needs, then layers, then objects.
//!
//! Things go in the reverse order of the commit, each kind durably before the one it depends on, so that
//! an interruption leaves things without use but nothing that is named and incomplete.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::object::ObjectId;
use super::{Locked, Store, documents, remove};
use crate::digest::Digest;
use crate::durable;
use crate::error::StoreError;

/// What garbage collection removed, or would remove.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GcReport {
    /// Images whose record or tree went.
    pub images: BTreeSet<Digest>,
    /// Images that nothing in `keep` names but a living process has mounted.
    pub in_use: BTreeSet<Digest>,
    /// Layers whose index went.
    pub layers: u64,
    /// Objects that went.
    pub objects: u64,
    /// Bytes on disk that became free (objects and leftovers; directories are not counted).
    pub bytes: u64,
}

/// What is to go.
#[derive(Debug, Default)]
struct Garbage {
    images: BTreeSet<Digest>,
    layers: Vec<Digest>,
    objects: Vec<PathBuf>,
    leftovers: Vec<PathBuf>,
}

/// Called with each file under objects/, and its identity if the name is one.
pub(super) type Visit<'a> = &'a mut dyn FnMut(Option<ObjectId>, &Path) -> Result<(), StoreError>;

impl Store {
    /// Removes every image that is neither in `keep` nor mounted by a living process, the layers and objects
    /// that no kept image needs, and what interrupted pulls left, partial downloads included.
    /// No [`Ingest`](super::Ingest) may be open. With `dry_run` nothing is changed.
    ///
    /// # Errors
    /// A mount table, a kept record or a kept layer cannot be read: nothing was removed then. A removal
    /// failed: what was not removed is garbage still, and the next run takes it.
    pub fn gc(&self, _lock: &Locked, keep: &BTreeSet<Digest>, dry_run: bool) -> Result<GcReport, StoreError> {
        let used: BTreeSet<Digest> = self.roots_in_use()?.into_keys().collect();
        let garbage = self.find_garbage(&keep.union(&used).copied().collect())?;
        let mut report = GcReport {
            images: garbage.images.clone(),
            in_use: used.difference(keep).copied().collect(),
            layers: garbage.layers.len() as u64,
            objects: garbage.objects.len() as u64,
            bytes: 0,
        };
        for path in garbage.objects.iter().chain(&garbage.leftovers) {
            report.bytes += disk_usage(path)?;
        }
        if !dry_run {
            self.remove_garbage(&garbage)?;
        }
        Ok(report)
    }

    fn find_garbage(&self, keep: &BTreeSet<Digest>) -> Result<Garbage, StoreError> {
        let mut layers = BTreeMap::new();
        for image in keep {
            if let Some(record) = self.image(image)? {
                layers.extend(record.layers.iter().map(|layer| (layer.diff_id, *image)));
            }
        }
        let mut objects = HashSet::new();
        for (diff_id, image) in &layers {
            // Without the index its objects would look unused.
            let index = documents::read_layer(&self.layout, diff_id)?;
            let index = index.ok_or(StoreError::MissingLayer {
                image: *image,
                diff_id: *diff_id,
            })?;
            objects.extend(index.objects().map(|(id, _)| id));
        }
        let mut images = BTreeSet::new();
        for dir in [self.layout.images(), self.layout.trees()] {
            let there = documents::digests_in(&dir)?;
            images.extend(there.into_iter().filter(|image| !keep.contains(image)));
        }
        let mut all_layers = documents::digests_in(&self.layout.layers())?;
        all_layers.retain(|layer| !layers.contains_key(layer));
        Ok(Garbage {
            images,
            layers: all_layers,
            objects: self.objects_besides(&objects)?,
            leftovers: self.leftovers()?,
        })
    }

    fn objects_besides(&self, keep: &HashSet<ObjectId>) -> Result<Vec<PathBuf>, StoreError> {
        let mut garbage = Vec::new();
        self.for_each_object(&mut |id, path| {
            if id.is_none_or(|id| !keep.contains(&id)) {
                garbage.push(path.to_owned());
            }
            Ok(())
        })?;
        Ok(garbage)
    }

    /// Looks at every file under objects/.
    pub(super) fn for_each_object(&self, visit: Visit<'_>) -> Result<(), StoreError> {
        for shard in list(&self.layout.objects())? {
            let dir = file_name(&shard);
            for path in list(&shard)? {
                visit(ObjectId::from_names(&dir, &file_name(&path)), &path)?;
            }
        }
        Ok(())
    }

    /// Everything in tmp (interrupted transactions and partial downloads), and documents that got no name.
    fn leftovers(&self) -> Result<Vec<PathBuf>, StoreError> {
        let mut leftovers = list(&self.layout.tmp())?;
        let blobs = self.layout.blobs();
        leftovers.retain(|path| *path != blobs);
        leftovers.extend(list(&blobs)?);
        for dir in [self.layout.root(), &self.layout.images(), &self.layout.layers()] {
            let unfinished = |path: &PathBuf| path.file_name().is_some_and(durable::is_unfinished);
            leftovers.extend(list(dir)?.into_iter().filter(unfinished));
        }
        for sum in list(&self.layout.layers())? {
            let alone = !sum.with_extension("json").exists();
            if alone && sum.extension().is_some_and(|end| end == "sum") {
                leftovers.push(sum);
            }
        }
        Ok(leftovers)
    }

    fn remove_garbage(&self, garbage: &Garbage) -> Result<(), StoreError> {
        for image in &garbage.images {
            remove::file(&self.layout.image(image))?;
        }
        durable::sync_dir(&self.layout.images())?;
        // A tree leaves its name in one step, so that no half of one is ever found under it.
        let doomed = self.layout.tmp().join("gc");
        for image in &garbage.images {
            let tree = self.layout.tree(image);
            if super::ingest::exists(&tree)? {
                remove::tree(&doomed)?;
                durable::rename_dir(&tree, &doomed)?;
                remove::tree(&doomed)?;
            }
        }
        for layer in &garbage.layers {
            let index = self.layout.layer(layer);
            remove::file(&index)?;
            remove::file(&documents::sum_of(&index))?;
        }
        durable::sync_dir(&self.layout.layers())?;
        for object in &garbage.objects {
            remove::file(object)?;
        }
        for leftover in &garbage.leftovers {
            let is_dir = leftover.symlink_metadata().is_ok_and(|m| m.is_dir());
            let removed = if is_dir {
                remove::tree(leftover)
            } else {
                remove::file(leftover)
            };
            removed?;
        }
        Ok(())
    }
}

fn list(dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let entries = fs::read_dir(dir).map_err(StoreError::io("list", dir))?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    paths
        .collect::<Result<_, _>>()
        .map_err(StoreError::io("list", dir))
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// Bytes that removing `path` frees, without counting a file twice that has more names.
fn disk_usage(path: &Path) -> Result<u64, StoreError> {
    let metadata = path.symlink_metadata().map_err(StoreError::io("look at", path))?;
    if !metadata.is_dir() {
        return Ok(metadata.blocks() * 512);
    }
    let mut sum = 0;
    for path in list(path)? {
        sum += disk_usage(&path)?;
    }
    Ok(sum)
}

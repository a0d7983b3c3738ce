//! Repair: only what a check found broken is fetched and replaced.
//!
//! A broken object is written anew from its layer and takes the old one's place by rename, under its own
//! name and in every tree; a tree is mended entry by entry, because a living process may have it mounted.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::finding::Finding;
use super::fsck::{Content, FsckOptions, FsckReport, Loaded};
use super::object::ObjectId;
use super::tree::Builder;
use super::writer::ObjectWriter;
use super::{LayerRef, Locked, Store, documents, ensure_directory, ingest, pipe, remove, tree};
use crate::digest::Digest;
use crate::durable;
use crate::error::{ImportError, StoreError};
use crate::layer::{EntryPath, Node, Policy, Tree};

/// Opens the **uncompressed** archive of a layer.
pub type Fetch<'a> = &'a mut dyn FnMut(&LayerRef) -> io::Result<Box<dyn Read + Send>>;

/// What a repair did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RepairReport {
    /// Layers that were fetched.
    pub layers: u64,
    /// Objects that were written anew.
    pub objects: u64,
    /// Entries of trees that were put right.
    pub entries: u64,
    /// Images whose unreadable record was removed, so that the next pull writes it anew.
    pub records: BTreeSet<Digest>,
    /// What is still wrong.
    pub remaining: FsckReport,
}

impl Store {
    /// Repairs what `report` names and checks again. `policy` must be the one of the import: it decides what
    /// the files of a layer become.
    ///
    /// # Errors
    /// A layer could not be fetched or is not what its digest says; I/O errors. Nothing is worse then.
    pub fn repair(
        &self,
        lock: &Locked,
        report: &FsckReport,
        policy: &Policy,
        fetch: Fetch<'_>,
    ) -> Result<RepairReport, ImportError> {
        let dir = self.layout.tmp().join("repair");
        remove::tree(&dir)?;
        tree::create_directory(&dir).map_err(StoreError::io("create", &dir))?;
        let mut repair = Repair {
            store: self,
            dir: dir.clone(),
            done: RepairReport::default(),
        };
        let result = repair.run(lock, report, policy, fetch);
        remove::tree(&dir)?;
        result?;
        let mut done = repair.done;
        // Content that was replaced is read back; the rest was read for `report`.
        done.remaining = self.fsck(FsckOptions {
            content: Content::All,
        })?;
        Ok(done)
    }
}

struct Repair<'a> {
    store: &'a Store,
    dir: PathBuf,
    done: RepairReport,
}

impl Repair<'_> {
    fn run(
        &mut self,
        _lock: &Locked,
        report: &FsckReport,
        policy: &Policy,
        fetch: Fetch<'_>,
    ) -> Result<(), ImportError> {
        let before = self.store.load(&mut FsckReport::default())?;
        let wanted = Wanted::from_findings(&report.findings);
        let replaced = self.import(&wanted, &before, policy, fetch)?;
        // Indexes that were missing are there now.
        let loaded = self.store.load(&mut FsckReport::default())?;
        self.mend_trees(&report.findings, &replaced, &loaded)?;
        for image in &wanted.records {
            durable::remove_file(&self.store.layout.image(image)).map_err(StoreError::from)?;
            self.done.records.insert(*image);
        }
        Ok(())
    }

    /// Reads the layers again, keeps the objects that are wanted, and gives them their names.
    fn import(
        &mut self,
        wanted: &Wanted,
        loaded: &Loaded,
        policy: &Policy,
        fetch: Fetch<'_>,
    ) -> Result<HashSet<ObjectId>, ImportError> {
        let layout = &self.store.layout;
        let objects = self.dir.join("objects");
        let writer = ObjectWriter::create_for(layout.clone(), objects, wanted.objects.clone())?;
        let mut indexes = Vec::new();
        for layer in loaded.layer_refs() {
            let Some(part) = wanted.layers.get(&layer.diff_id) else {
                continue;
            };
            let read_error = |source| ImportError::Read {
                diff_id: layer.diff_id,
                source,
            };
            let enough = AtomicBool::new(false);
            let tar = UntilEnough {
                tar: fetch(layer).map_err(read_error)?,
                writer: &writer,
                missing: part.iter().copied().collect(),
                whole: wanted.indexes.contains(&layer.diff_id),
                enough: &enough,
            };
            self.done.layers += 1;
            match pipe::import(tar, &layer.diff_id, policy, &writer) {
                Ok(imported) => {
                    let path = self.dir.join(format!("{}.json", layer.diff_id.hex()));
                    documents::write_layer(&path, &imported.index)?;
                    indexes.push((layer.diff_id, path));
                }
                // Each of the objects is what its name says, whatever the rest of the layer is.
                Err(_) if enough.load(Ordering::Acquire) => {}
                Err(error) => return Err(error),
            }
        }
        self.put_in_place(wanted, &writer, indexes)
    }

    /// Makes all of it durable before anything gets its name.
    fn put_in_place(
        &mut self,
        wanted: &Wanted,
        writer: &ObjectWriter,
        indexes: Vec<(Digest, PathBuf)>,
    ) -> Result<HashSet<ObjectId>, ImportError> {
        let layout = &self.store.layout;
        let fresh: Vec<_> = wanted
            .objects
            .iter()
            .filter_map(|id| writer.pending(id))
            .collect();
        self.store.sealing.seal_all(&fresh)?;
        durable::sync_filesystem(&self.dir).map_err(StoreError::from)?;
        let mut replaced = HashSet::new();
        for id in &wanted.objects {
            if let Some(from) = writer.pending(id) {
                let to = layout.object(id);
                if let Some(dir) = to.parent() {
                    ensure_directory(dir)?;
                }
                durable::rename_dir(&from, &to).map_err(StoreError::from)?;
                replaced.insert(*id);
            }
        }
        durable::sync_dir(&layout.objects()).map_err(StoreError::from)?;
        for (diff_id, from) in indexes {
            let to = layout.layer(&diff_id);
            // In between the two do not fit together, and another repair is needed.
            for (from, to) in [(documents::sum_of(&from), documents::sum_of(&to)), (from, to)] {
                durable::rename_dir(&from, &to).map_err(StoreError::from)?;
            }
        }
        self.done.objects = replaced.len() as u64;
        Ok(replaced)
    }

    fn mend_trees(
        &mut self,
        findings: &[Finding],
        replaced: &HashSet<ObjectId>,
        loaded: &Loaded,
    ) -> Result<(), StoreError> {
        for (image, record) in &loaded.records {
            let Some(plan) = loaded.tree(record) else {
                continue;
            };
            let root = self.store.layout.tree(image);
            if !ingest::exists(&root)? {
                self.rebuild(&root, &plan)?;
                continue;
            }
            let mut paths = broken_entries(findings, image);
            paths.extend(plan.entries().iter().filter_map(|(path, node)| match node {
                Node::File { object, .. } => replaced.contains(object).then(|| path.clone()),
                Node::Directory(_)
                | Node::Empty(_)
                | Node::Symlink { .. }
                | Node::Fifo(_)
                | Node::Link { .. } => None,
            }));
            self.mend(&root, &plan, &paths)?;
        }
        Ok(durable::sync_filesystem(&self.dir)?)
    }

    fn rebuild(&mut self, root: &Path, plan: &Tree) -> Result<(), StoreError> {
        let fresh = self.dir.join("tree");
        remove::tree(&fresh)?;
        let locate = |id: &ObjectId| self.store.layout.object(id);
        tree::build(&fresh, plan, &locate, self.store.sealing)?;
        durable::sync_filesystem(&fresh)?;
        durable::rename_dir(&fresh, root)?;
        self.done.entries += plan.entries().len() as u64;
        Ok(())
    }

    /// Puts single entries right, parents first, then the attributes of the directories concerned.
    fn mend(&mut self, root: &Path, plan: &Tree, paths: &BTreeSet<EntryPath>) -> Result<(), StoreError> {
        let mut directories = BTreeSet::new();
        for path in paths {
            directories.extend(path.parent());
            let full = root.join(path.as_path());
            match plan.entries().get(path) {
                None => remove_any(&full)?,
                Some(Node::Directory(_)) => {
                    if !full.symlink_metadata().is_ok_and(|found| found.is_dir()) {
                        remove_any(&full)?;
                        tree::create_directory(&full).map_err(StoreError::io("create", &full))?;
                    }
                    directories.insert(path.clone());
                }
                Some(node) => self.replace(&full, node)?,
            }
            self.done.entries += 1;
        }
        let locate = |id: &ObjectId| self.store.layout.object(id);
        let builder = Builder::open(root, &locate, self.store.sealing)?;
        for path in directories.iter().rev() {
            if let Some(Node::Directory(attributes)) = plan.entries().get(path) {
                builder.finish_directory(path, attributes)?;
            }
        }
        Ok(())
    }

    /// Makes the entry aside and renames it into place.
    fn replace(&self, full: &Path, node: &Node) -> Result<(), StoreError> {
        let fresh = self.dir.join("entry");
        remove_any(&fresh)?;
        let locate = |id: &ObjectId| self.store.layout.object(id);
        let name = EntryPath::root().join(b"entry");
        Builder::open(&self.dir, &locate, self.store.sealing)?.create(&name, node)?;
        if full.symlink_metadata().is_ok_and(|found| found.is_dir()) {
            remove::tree(full)?;
        }
        fs::rename(&fresh, full).map_err(StoreError::io("replace", full))?;
        // Renaming over another name of the same inode does nothing and leaves both.
        remove_any(&fresh)
    }
}

/// An archive that ends with an error as soon as all that is wanted of it was written: nothing more is fetched then.
struct UntilEnough<'a> {
    tar: Box<dyn Read + Send>,
    writer: &'a ObjectWriter,
    missing: Vec<ObjectId>,
    /// It is read to its end whatever was written.
    whole: bool,
    enough: &'a AtomicBool,
}

impl Read for UntilEnough<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if !self.whole {
            self.missing.retain(|id| self.writer.pending(id).is_none());
            if self.missing.is_empty() {
                self.enough.store(true, Ordering::Release);
                return Err(io::Error::other("nothing more is wanted"));
            }
        }
        self.tar.read(buf)
    }
}

/// What has to be fetched.
#[derive(Default)]
struct Wanted {
    /// Layers, and the objects that each is read for.
    layers: BTreeMap<Digest, BTreeSet<ObjectId>>,
    /// Layers whose index is made anew, for which all of them has to be read.
    indexes: BTreeSet<Digest>,
    objects: HashSet<ObjectId>,
    records: BTreeSet<Digest>,
}

impl Wanted {
    fn from_findings(findings: &[Finding]) -> Self {
        let mut wanted = Self::default();
        for finding in findings {
            match finding {
                Finding::Record { image, .. } => drop(wanted.records.insert(*image)),
                Finding::Layer { diff_id, .. } => {
                    wanted.layers.entry(*diff_id).or_default();
                    wanted.indexes.insert(*diff_id);
                }
                Finding::Object { object, layers, .. } => {
                    wanted.objects.insert(*object);
                    // One of them is enough; one that is fetched anyway is best.
                    let fetched = layers.iter().find(|layer| wanted.layers.contains_key(*layer));
                    if let Some(layer) = fetched.or(layers.first()).copied() {
                        wanted.layers.entry(layer).or_default().insert(*object);
                    }
                }
                Finding::Tree { .. } => {}
            }
        }
        wanted
    }
}

impl Loaded {
    /// Every layer of every image, once.
    fn layer_refs(&self) -> impl Iterator<Item = &LayerRef> {
        let layers = self.records.values().flat_map(|record| &record.layers);
        let once: BTreeMap<_, _> = layers.map(|layer| (layer.diff_id, layer)).collect();
        once.into_values()
    }
}

fn broken_entries(findings: &[Finding], of: &Digest) -> BTreeSet<EntryPath> {
    let paths = findings.iter().filter_map(|finding| match finding {
        Finding::Tree { image, path, .. } if image == of => Some(path.clone()),
        Finding::Tree { .. } | Finding::Record { .. } | Finding::Layer { .. } | Finding::Object { .. } => {
            None
        }
    });
    paths.collect()
}

fn remove_any(path: &Path) -> Result<(), StoreError> {
    if path.symlink_metadata().is_ok_and(|found| found.is_dir()) {
        return remove::tree(path);
    }
    remove::file(path)
}

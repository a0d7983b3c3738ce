//! Checking the store: every object against its name, every tree against its layers.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::Serialize;

use super::finding::{Fault, Finding};
use super::object::ObjectId;
use super::seal::is_sealed;
use super::{ImageRecord, Store, documents, metadata, treecheck};
use crate::digest::{Digest, Hasher};
use crate::error::StoreError;
use crate::layer::{EntryPath, LayerIndex, Node, Tree};

/// How thorough a check is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FsckOptions {
    /// Of which objects the content is read and hashed. Of all others only names and sizes are compared, and of trees
    /// structure and attributes, which takes seconds.
    pub content: Content,
}

/// Whose content is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// That of every object.
    All,
    /// That of the objects in so many of the [`SHARDS`] directories, from this one on.
    Shards {
        /// The first directory.
        first: u8,
        /// How many; after the last one it goes on with the first.
        count: u16,
    },
}

/// How many directories the objects are spread over, evenly.
pub const SHARDS: u16 = 256;

impl Content {
    fn includes(self, id: &ObjectId) -> bool {
        match self {
            Self::All => true,
            Self::Shards { first, count } => u16::from(id.shard().wrapping_sub(first)) < count,
        }
    }
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct FsckReport {
    /// Images looked at.
    pub images: u64,
    /// Objects looked at.
    pub objects: u64,
    /// Bytes hashed.
    pub bytes: u64,
    /// Objects that are sealed; `None` where the file system has no fs-verity.
    pub sealed: Option<u64>,
    /// What is wrong; empty if nothing is.
    pub findings: Vec<Finding>,
}

/// The readable part of the store, loaded once for a check.
#[derive(Default)]
pub(super) struct Loaded {
    pub records: BTreeMap<Digest, ImageRecord>,
    pub layers: BTreeMap<Digest, LayerIndex>,
}

impl Store {
    /// Checks everything; changes nothing. A pull or a collection must not run meanwhile.
    ///
    /// # Errors
    /// The check itself could not be made; what is wrong with the store is in the report.
    pub fn fsck(&self, options: FsckOptions) -> Result<FsckReport, StoreError> {
        let mut report = FsckReport {
            sealed: self.seals().then_some(0),
            ..FsckReport::default()
        };
        let loaded = self.load(&mut report)?;
        self.check_objects(&loaded, options, &mut report)?;
        for (image, record) in &loaded.records {
            if let Some(tree) = loaded.tree(record) {
                treecheck::check(&self.layout, image, &tree, &mut report.findings)?;
            }
        }
        Ok(report)
    }

    /// Reads records and indexes; what cannot be used becomes a finding.
    pub(super) fn load(&self, report: &mut FsckReport) -> Result<Loaded, StoreError> {
        let mut loaded = Loaded::default();
        for image in documents::digests_in(&self.layout.images())? {
            report.images += 1;
            match self.image(&image) {
                Ok(Some(record)) => drop(loaded.records.insert(image, record)),
                Ok(None) => {}
                Err(error) => report.findings.push(Finding::Record {
                    image,
                    problem: chain(&error),
                }),
            }
        }
        let mut wanted: BTreeMap<Digest, BTreeSet<Digest>> = BTreeMap::new();
        for diff_id in documents::digests_in(&self.layout.layers())? {
            wanted.insert(diff_id, BTreeSet::new());
        }
        for (image, record) in &loaded.records {
            for layer in &record.layers {
                wanted.entry(layer.diff_id).or_default().insert(*image);
            }
        }
        for (diff_id, images) in wanted {
            let problem = match documents::read_layer(&self.layout, &diff_id) {
                Ok(Some(index)) => {
                    loaded.layers.insert(diff_id, index);
                    continue;
                }
                Ok(None) => "its index is missing".to_owned(),
                Err(error) => chain(&error),
            };
            report.findings.push(Finding::Layer {
                diff_id,
                images,
                problem,
            });
        }
        Ok(loaded)
    }

    fn check_objects(
        &self,
        loaded: &Loaded,
        options: FsckOptions,
        report: &mut FsckReport,
    ) -> Result<(), StoreError> {
        let mut unseen: HashMap<ObjectId, u64> = HashMap::new();
        for index in loaded.layers.values() {
            unseen.extend(index.objects());
        }
        let mut faults = Vec::new();
        self.for_each_object(&mut |id, path| {
            let Some(id) = id else { return Ok(()) };
            report.objects += 1;
            let size = unseen.remove(&id);
            let checked = check_object(path, &id, size, options.content.includes(&id), report);
            if let Some(fault) = checked.or_else(refused).map_err(StoreError::io("read", path))? {
                faults.push((id, fault));
            }
            Ok(())
        })?;
        faults.extend(unseen.into_keys().map(|id| (id, Fault::Missing)));
        faults.sort_by_key(|(id, _)| *id);
        for (object, problem) in faults {
            report.findings.push(Finding::Object {
                object,
                problem,
                layers: loaded.layers_with(&object),
                files: loaded.files_with(&object),
            });
        }
        Ok(())
    }
}

impl Loaded {
    /// What the image's tree should be, if all its layers are readable and fit.
    pub fn tree(&self, record: &ImageRecord) -> Option<Tree> {
        let mut tree = Tree::default();
        for layer in &record.layers {
            tree.apply(self.layers.get(&layer.diff_id)?).ok()?;
        }
        Some(tree)
    }

    fn layers_with(&self, object: &ObjectId) -> BTreeSet<Digest> {
        let has = |index: &&LayerIndex| index.objects().any(|(id, _)| id == *object);
        self.layers
            .values()
            .filter(has)
            .map(|index| index.diff_id)
            .collect()
    }

    fn files_with(&self, object: &ObjectId) -> BTreeMap<Digest, Vec<EntryPath>> {
        let mut files = BTreeMap::new();
        for (image, record) in &self.records {
            let Some(tree) = self.tree(record) else { continue };
            let is = |node: &Node| matches!(node, Node::File { object: o, .. } if o == object);
            let entries = tree.entries().iter();
            let paths: Vec<_> = entries.filter(|(_, n)| is(n)).map(|(p, _)| p.clone()).collect();
            if !paths.is_empty() {
                files.insert(*image, paths);
            }
        }
        files
    }
}

fn check_object(
    path: &Path,
    id: &ObjectId,
    size: Option<u64>,
    content: bool,
    report: &mut FsckReport,
) -> io::Result<Option<Fault>> {
    let found = path.symlink_metadata()?;
    if !found.is_file() {
        return Ok(Some(Fault::Kind));
    }
    if size.is_some_and(|size| size != found.size()) {
        return Ok(Some(Fault::Size));
    }
    if let Some(sealed) = &mut report.sealed {
        *sealed += u64::from(is_sealed(&File::open(path)?));
    }
    if !content {
        return Ok(None);
    }
    report.bytes += found.size();
    Ok((identify(path)? != *id).then_some(Fault::Content))
}

/// A file that the kernel refuses to read is damaged; that is no failure of the check. EIO comes from the disk and from
/// fs-verity, the others from file systems and from fs-verity where their own records of a file are damaged.
pub(super) fn refused(error: io::Error) -> io::Result<Option<Fault>> {
    match error.raw_os_error() {
        Some(libc::EIO | libc::EBADMSG | libc::EUCLEAN) => Ok(Some(Fault::Unreadable)),
        _ => Err(error),
    }
}

/// The identity that a regular file has by its content and attributes.
pub(super) fn identify(path: &Path) -> io::Result<ObjectId> {
    let attributes = metadata::read(path)?;
    let mut file = File::open(path)?;
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 256 << 10];
    let mut size = 0;
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok(ObjectId::of(&attributes, size, &hasher.finish()));
        }
        hasher.update(&buffer[..n]);
        size += n as u64;
    }
}

fn chain(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_for_its_bytes_is_a_finding_and_anything_else_a_failure() {
        for damaged in [libc::EIO, libc::EBADMSG, libc::EUCLEAN] {
            let error = io::Error::from_raw_os_error(damaged);
            assert_eq!(refused(error).unwrap(), Some(Fault::Unreadable));
        }
        for failed in [libc::EACCES, libc::EMFILE, libc::ENOMEM] {
            assert!(refused(io::Error::from_raw_os_error(failed)).is_err());
        }
    }

    #[test]
    fn a_walk_over_the_shards_reads_everything_once() {
        let ids: Vec<ObjectId> = (0..=255_u8)
            .filter_map(|byte| ObjectId::from_names(&format!("{byte:02x}"), &"0".repeat(62)))
            .collect();
        assert_eq!(ids.len(), 256);
        for count in [1, 10, 37, 256] {
            let (mut read, mut first) = (0, 250_u8);
            for _ in 0..SHARDS.div_ceil(count) {
                let content = Content::Shards { first, count };
                read += ids.iter().filter(|id| content.includes(id)).count();
                first = first.wrapping_add(count.to_le_bytes()[0]);
            }
            assert!((256..256 + usize::from(count)).contains(&read), "{count}: {read}");
        }
        assert!(ids.iter().all(|id| Content::All.includes(id)));
        let none = Content::Shards { first: 0, count: 0 };
        assert!(!ids.iter().any(|id| none.includes(id)));
    }
}

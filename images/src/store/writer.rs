//! Writing objects: into a transaction's own directory, hashed on the way, each once.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::layout::Layout;
use super::metadata;
use super::object::ObjectId;
use crate::digest::{Digest, Hasher};
use crate::error::StoreError;
use crate::layer::{Attributes, ObjectSink, SinkError};

/// Files up to this size are read whole, so that one that is known already is never written.
const WHOLE: u64 = 512 << 10;
/// Larger files are read and written in pieces of this size.
const PIECE: usize = 256 << 10;
/// Sub-directories of the transaction's objects, so that parallel writers do not share one.
const SHARDS: u8 = 16;

/// Where an object is before the commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In the store already.
    Store,
    /// In the transaction's directory.
    Transaction,
}

/// Writes the objects of one transaction. Threads share it.
#[derive(Debug)]
pub(super) struct ObjectWriter {
    layout: Layout,
    dir: PathBuf,
    known: Mutex<HashMap<ObjectId, Place>>,
    /// In a repair: the objects to write, whatever the store has under their names.
    only: Option<HashSet<ObjectId>>,
    partial: AtomicU64,
    poisoned: AtomicBool,
    new_objects: AtomicU64,
    new_bytes: AtomicU64,
}

impl ObjectWriter {
    /// Creates the directories below `dir`. Objects that the store has are not written.
    pub fn create(layout: Layout, dir: PathBuf) -> Result<Self, StoreError> {
        Self::with(layout, dir, None)
    }

    /// The same for a repair: the objects in `only` are written, whatever the store has, and no others.
    pub fn create_for(layout: Layout, dir: PathBuf, only: HashSet<ObjectId>) -> Result<Self, StoreError> {
        Self::with(layout, dir, Some(only))
    }

    fn with(layout: Layout, dir: PathBuf, only: Option<HashSet<ObjectId>>) -> Result<Self, StoreError> {
        for shard in 0..SHARDS {
            let shard = dir.join(format!("{shard:x}"));
            crate::durable::create_directories(&shard).map_err(StoreError::io("create", &shard))?;
        }
        Ok(Self {
            layout,
            dir,
            known: Mutex::default(),
            only,
            partial: AtomicU64::new(0),
            poisoned: AtomicBool::new(false),
            new_objects: AtomicU64::new(0),
            new_bytes: AtomicU64::new(0),
        })
    }

    /// Whether a write failed. Another thread may have counted on that object, so nothing can be committed.
    pub fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::Acquire)
    }

    /// Objects and bytes written so far.
    pub fn written(&self) -> (u64, u64) {
        let objects = self.new_objects.load(Ordering::Relaxed);
        (objects, self.new_bytes.load(Ordering::Relaxed))
    }

    /// Where an object is now. One that the transaction has not seen is in the store, or missing.
    pub fn locate(&self, id: &ObjectId) -> PathBuf {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get(id) {
            Some(Place::Transaction) => self.path(id),
            Some(Place::Store) | None => self.layout.object(id),
        }
    }

    /// Whether the object waits in the transaction's directory, and where.
    pub fn pending(&self, id: &ObjectId) -> Option<PathBuf> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        (known.get(id) == Some(&Place::Transaction)).then(|| self.path(id))
    }

    fn path(&self, id: &ObjectId) -> PathBuf {
        let hex = id.hex();
        self.dir.join(&hex[..1]).join(&hex[1..])
    }

    /// True for the one caller that has to write the object.
    fn claim(&self, id: &ObjectId) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.contains_key(id) {
            return false;
        }
        let stored = match &self.only {
            Some(only) => !only.contains(id),
            None => self.layout.object(id).symlink_metadata().is_ok(),
        };
        let place = if stored { Place::Store } else { Place::Transaction };
        known.insert(*id, place);
        !stored
    }

    fn count(&self, size: u64) {
        self.new_objects.fetch_add(1, Ordering::Relaxed);
        self.new_bytes.fetch_add(size, Ordering::Relaxed);
    }

    fn put_whole(
        &self,
        attributes: &Attributes,
        size: u64,
        content: &mut dyn Read,
    ) -> Result<ObjectId, SinkError> {
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
        content.read_exact(&mut bytes).map_err(SinkError::Read)?;
        let id = ObjectId::of(attributes, size, &Digest::of(&bytes));
        if self.claim(&id) {
            let path = self.path(&id);
            let write = |mut file: File| {
                file.write_all(&bytes)?;
                metadata::apply(&file, attributes)
            };
            create(&path).and_then(write).map_err(self.fail("write", &path))?;
            self.count(size);
        }
        Ok(id)
    }

    fn put_in_pieces(
        &self,
        attributes: &Attributes,
        size: u64,
        sparse: bool,
        content: &mut dyn Read,
    ) -> Result<ObjectId, SinkError> {
        let number = self.partial.fetch_add(1, Ordering::Relaxed);
        let partial = self.dir.join(format!("partial.{number}"));
        let mut file = create(&partial).map_err(self.fail("create", &partial))?;
        let digest = match copy(&mut file, sparse, size, content) {
            Ok(digest) => digest,
            Err(CopyError::Read(error)) => return Err(SinkError::Read(error)),
            Err(CopyError::Write(error)) => return Err(self.fail("write", &partial)(error)),
        };
        metadata::apply(&file, attributes).map_err(self.fail("set the attributes of", &partial))?;
        let id = ObjectId::of(attributes, size, &digest);
        if self.claim(&id) {
            let path = self.path(&id);
            fs::rename(&partial, &path).map_err(self.fail("rename", &partial))?;
            self.count(size);
        } else {
            fs::remove_file(&partial).map_err(self.fail("remove", &partial))?;
        }
        Ok(id)
    }

    fn fail(&self, action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SinkError {
        move |source| {
            self.poisoned.store(true, Ordering::Release);
            SinkError::Store(StoreError::io(action, path)(source))
        }
    }
}

impl ObjectSink for ObjectWriter {
    fn put(
        &self,
        attributes: &Attributes,
        size: u64,
        sparse: bool,
        content: &mut dyn Read,
    ) -> Result<ObjectId, SinkError> {
        if size <= WHOLE {
            return self.put_whole(attributes, size, content);
        }
        self.put_in_pieces(attributes, size, sparse, content)
    }
}

enum CopyError {
    Read(io::Error),
    Write(io::Error),
}

/// Copies `size` bytes and hashes them. Pieces of zeros become holes if `sparse`.
fn copy(file: &mut File, sparse: bool, size: u64, content: &mut dyn Read) -> Result<Digest, CopyError> {
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; PIECE];
    let mut left = size;
    while left > 0 {
        let want = PIECE.min(usize::try_from(left).unwrap_or(PIECE));
        let piece = &mut buffer[..want];
        content.read_exact(piece).map_err(CopyError::Read)?;
        hasher.update(piece);
        if sparse && piece.iter().all(|b| *b == 0) {
            let skip = SeekFrom::Current(i64::try_from(want).unwrap_or(0));
            file.seek(skip).map_err(CopyError::Write)?;
        } else {
            file.write_all(piece).map_err(CopyError::Write)?;
        }
        left -= want as u64;
    }
    if sparse {
        file.set_len(size).map_err(CopyError::Write)?;
    }
    Ok(hasher.finish())
}

fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(path)
}

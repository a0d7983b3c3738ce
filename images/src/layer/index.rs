//! The index of a layer: what its archive contains, after the rules of tar and before other layers.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::path::{EntryPath, from_text, to_text};
use crate::digest::Digest;
use crate::error::EntryProblem;
use crate::store::ObjectId;

/// Version of the index's format; a larger one in a file is refused.
pub(crate) const INDEX_VERSION: u32 = 1;

/// Owner, permissions, time and extended attributes of a file.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attributes {
    /// Permission bits, with setuid, setgid and sticky (`07777`).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of the last change.
    pub mtime: Mtime,
    /// Extended attributes by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub xattrs: BTreeMap<String, Bytes>,
}

impl Attributes {
    /// Attributes of a directory that an archive implies but does not list.
    #[must_use]
    pub fn implied_directory() -> Self {
        Self {
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: Mtime { secs: 0, nanos: 0 },
            xattrs: BTreeMap::new(),
        }
    }
}

/// A point in time as file systems store it: seconds and nanoseconds since 1970, written as a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "(i64, u32)", into = "(i64, u32)")]
pub struct Mtime {
    /// Seconds since 1970, rounded down.
    pub secs: i64,
    /// Nanoseconds above that, below 10⁹.
    pub nanos: u32,
}

impl From<(i64, u32)> for Mtime {
    fn from((secs, nanos): (i64, u32)) -> Self {
        Self { secs, nanos }
    }
}

impl From<Mtime> for (i64, u32) {
    fn from(time: Mtime) -> Self {
        (time.secs, time.nanos)
    }
}

/// Bytes that are mostly text, written as text with `%XX` where they are not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Bytes(pub Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&to_text(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        from_text(&text)
            .map(Self)
            .ok_or_else(|| de::Error::custom("bad escape in bytes"))
    }
}

/// One entry of a layer or a tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Node {
    /// A directory.
    Directory(Attributes),
    /// A regular file with content, which the object holds together with its attributes.
    File {
        /// The object.
        object: ObjectId,
        /// Size in bytes.
        size: u64,
    },
    /// A regular file without content. It is no object: one inode could not have that many names.
    Empty(Attributes),
    /// A symbolic link.
    Symlink {
        /// Where it points; never followed outside the tree by the store.
        target: Bytes,
        /// Owner and time; a link's mode means nothing on Linux.
        attributes: Attributes,
    },
    /// A named pipe.
    Fifo(Attributes),
    /// A hard link to something that is not in the same layer. Trees have none of these.
    Link {
        /// What it names.
        target: EntryPath,
    },
}

impl Node {
    /// Bytes it takes in memory besides its own size.
    pub(super) fn weight(&self) -> u64 {
        let xattrs = |attributes: &Attributes| -> usize {
            let pairs = attributes.xattrs.iter();
            pairs.map(|(name, value)| name.len() + value.0.len()).sum()
        };
        let bytes = match self {
            Self::Directory(attributes) | Self::Empty(attributes) | Self::Fifo(attributes) => {
                xattrs(attributes)
            }
            Self::Symlink { target, attributes } => target.0.len() + xattrs(attributes),
            Self::Link { target } => target.len(),
            Self::File { .. } => 0,
        };
        bytes as u64
    }
}

/// What one layer's archive contains.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerIndex {
    /// Version of this document.
    pub version: u32,
    /// Digest of the uncompressed archive.
    pub diff_id: Digest,
    /// What the layer adds or replaces.
    pub entries: BTreeMap<EntryPath, Node>,
    /// What it removes from the layers below.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub whiteouts: BTreeSet<EntryPath>,
    /// Directories of which it hides all that the layers below have in them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub opaque: BTreeSet<EntryPath>,
}

impl LayerIndex {
    /// An index without entries.
    #[must_use]
    pub fn new(diff_id: Digest) -> Self {
        Self {
            version: INDEX_VERSION,
            diff_id,
            entries: BTreeMap::new(),
            whiteouts: BTreeSet::new(),
            opaque: BTreeSet::new(),
        }
    }

    /// Adds an entry as unpacking would: a later entry replaces an earlier one of the same name.
    ///
    /// # Errors
    /// [`EntryProblem::Root`] if anything but a directory is named as the root.
    pub fn put(&mut self, path: EntryPath, node: Node) -> Result<(), EntryProblem> {
        let was_directory = |old: &Node| matches!(old, Node::Directory(_));
        if matches!(node, Node::Directory(_))
            && self.entries.get(&path).is_some_and(|old| !was_directory(old))
        {
            // What stood here for a moment has already replaced a lower layer's directory.
            self.opaque.insert(path.clone());
        }
        put(&mut self.entries, path, node)
    }

    /// What a hard link is. One to an entry of this layer gets what that entry is now; one to a lower
    /// layer's file is resolved when the layers are put together.
    ///
    /// # Errors
    /// The target is a directory.
    pub(super) fn link_node(&self, target: EntryPath) -> Result<Node, EntryProblem> {
        match self.entries.get(&target) {
            Some(Node::Directory(_)) => Err(EntryProblem::LinkToDirectory(target.to_string())),
            Some(node) => Ok(node.clone()),
            None => Ok(Node::Link { target }),
        }
    }

    /// The objects that the entries name, in no order, perhaps repeated.
    pub fn objects(&self) -> impl Iterator<Item = (ObjectId, u64)> {
        self.entries.values().filter_map(|node| match node {
            Node::File { object, size } => Some((*object, *size)),
            Node::Directory(_)
            | Node::Empty(_)
            | Node::Symlink { .. }
            | Node::Fifo(_)
            | Node::Link { .. } => None,
        })
    }
}

/// Puts `node` at `path`; what is not a directory takes the place of everything below.
pub(super) fn put(
    entries: &mut BTreeMap<EntryPath, Node>,
    path: EntryPath,
    node: Node,
) -> Result<(), EntryProblem> {
    if !matches!(node, Node::Directory(_)) {
        if path.is_root() {
            return Err(EntryProblem::Root);
        }
        remove_below(entries, &path);
    }
    entries.insert(path, node);
    Ok(())
}

/// Removes everything below `path`, not `path` itself.
pub(super) fn remove_below(entries: &mut BTreeMap<EntryPath, Node>, path: &EntryPath) {
    let (from, to) = path.below();
    let doomed: Vec<_> = match to {
        Some(to) => entries.range(from..to).map(|(p, _)| p.clone()).collect(),
        None => entries.range(from..).map(|(p, _)| p.clone()).collect(),
    };
    for path in doomed {
        entries.remove(&path);
    }
}

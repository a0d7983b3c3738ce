//! A root file system as plain data: what a tar stream says, without the stream.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::digest::Digest;

/// A path below the root: no leading or trailing slash, never empty.
///
/// The order is that of a walk: a directory, all that is in it, then its next sibling.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TreePath(Vec<u8>);

/// One file, directory, link…
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Seconds since 1970.
    pub mtime: u64,
    /// Extended attributes, file capabilities among them.
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

/// What an entry is. Devices are not representable: images of services have none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    File(Content),
    /// A symbolic link and its target.
    Symlink(Vec<u8>),
    /// Another name of the file at that path.
    HardLink(TreePath),
    /// A named pipe.
    Fifo,
}

/// Where the bytes of a file are, and what they are.
#[derive(Debug, Clone)]
pub struct Content {
    /// Length in bytes.
    pub size: u64,
    /// Digest of the bytes as they go out, that is after a patch.
    pub digest: Digest,
    /// Where they are.
    pub source: Source,
}

/// Where the bytes of a file are.
#[derive(Debug, Clone)]
pub enum Source {
    /// In the tar that the tree was read from.
    Tar {
        /// Byte offset of the content.
        offset: u64,
        /// One byte to write instead: its position in the content, and the byte.
        patch: Option<(u64, u8)>,
    },
    /// Here.
    Bytes(Arc<[u8]>),
}

/// A whole root file system; the root directory itself is not listed.
pub type Tree = BTreeMap<TreePath, Entry>;

impl PartialEq for Content {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for Content {}

impl Content {
    /// Content that is given here.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self {
            size: bytes.len() as u64,
            digest: Digest::of(bytes),
            source: Source::Bytes(bytes.into()),
        }
    }
}

impl TreePath {
    /// Cleans a name as tar streams have it (`./usr/bin/`); `None` for the root itself.
    ///
    /// # Errors
    /// The name, where a component is `..` or the name has a NUL byte.
    pub fn from_tar(name: &[u8]) -> Result<Option<Self>, String> {
        let mut clean: Vec<u8> = Vec::with_capacity(name.len());
        for part in name.split(|b| *b == b'/') {
            match part {
                b"" | b"." => {}
                b".." => return Err(String::from_utf8_lossy(name).into_owned()),
                part if part.contains(&0) => return Err(String::from_utf8_lossy(name).into_owned()),
                part => {
                    if !clean.is_empty() {
                        clean.push(b'/');
                    }
                    clean.extend_from_slice(part);
                }
            }
        }
        Ok((!clean.is_empty()).then_some(Self(clean)))
    }

    /// The path of an absolute, clean path text (`/usr/bin`); `None` for `/`.
    #[must_use]
    pub fn from_absolute(path: &str) -> Option<Self> {
        Self::from_tar(path.as_bytes()).ok().flatten()
    }

    /// The bytes, `usr/bin`.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The directory that it is in; `None` if that is the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let slash = self.0.iter().rposition(|b| *b == b'/')?;
        Some(Self(self.0[..slash].to_vec()))
    }

    /// The last component.
    #[must_use]
    pub fn file_name(&self) -> &[u8] {
        match self.0.iter().rposition(|b| *b == b'/') {
            Some(slash) => &self.0[slash + 1..],
            None => &self.0,
        }
    }

    /// The entry `name` beside this one.
    #[must_use]
    pub fn with_file_name(&self, name: &[u8]) -> Self {
        let keep = self.0.len() - self.file_name().len();
        Self([&self.0[..keep], name].concat())
    }

    /// All directories above it, the nearest first.
    pub fn ancestors(&self) -> impl Iterator<Item = Self> {
        std::iter::successors(self.parent(), Self::parent)
    }
}

impl Ord for TreePath {
    fn cmp(&self, other: &Self) -> Ordering {
        // A slash sorts before every other byte; NUL, the only smaller one, is never in a path.
        let key = |b: &u8| if *b == b'/' { 0 } else { *b };
        self.0.iter().map(key).cmp(other.0.iter().map(key))
    }
}

impl PartialOrd for TreePath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The entry whose content and metadata `path` shows: itself, or what a hard link names.
#[must_use]
pub fn resolved<'t>(tree: &'t Tree, path: &TreePath) -> Option<&'t Entry> {
    let entry = tree.get(path)?;
    match &entry.kind {
        Kind::HardLink(target) => tree.get(target),
        Kind::Directory | Kind::File(_) | Kind::Symlink(_) | Kind::Fifo => Some(entry),
    }
}

/// What trees are made of in tests.
#[cfg(test)]
pub(super) mod sample {
    use super::*;

    pub fn path(text: &str) -> TreePath {
        TreePath::from_absolute(text).expect("a path")
    }

    /// An entry of root's that everybody may read.
    pub fn entry(kind: Kind, mtime: u64) -> Entry {
        Entry {
            kind,
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime,
            xattrs: BTreeMap::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::sample::path;
    use super::*;

    #[test]
    fn paths_sort_as_a_walk() {
        let mut paths = ["/a.b", "/a/z", "/a", "/a/b/c", "/a-", "/b", "/a/b"].map(path);
        paths.sort();
        let walk = ["/a", "/a/b", "/a/b/c", "/a/z", "/a-", "/a.b", "/b"].map(path);
        assert_eq!(paths, walk);
    }

    #[test]
    fn tar_names_become_clean_paths() {
        let clean = |name: &str| TreePath::from_tar(name.as_bytes());
        assert_eq!(clean("./usr//bin/"), Ok(Some(path("/usr/bin"))));
        assert_eq!(clean("./"), Ok(None));
        assert_eq!(clean("usr/../etc"), Err("usr/../etc".to_owned()));
    }

    #[test]
    fn names_and_parents() {
        let file = path("/usr/bin/python3");
        assert_eq!(file.file_name(), b"python3");
        assert_eq!(file.with_file_name(b"perl"), path("/usr/bin/perl"));
        let above: Vec<TreePath> = file.ancestors().collect();
        assert_eq!(above, ["/usr/bin", "/usr"].map(path));
        assert_eq!(path("/usr").parent(), None);
    }
}

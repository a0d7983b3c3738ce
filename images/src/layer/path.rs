//! Names inside a tree: bytes, relative, normal. A value of [`EntryPath`] cannot leave the tree.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::policy::Limits;
use crate::error::EntryProblem;

/// Longest file name on Linux (NAME_MAX).
pub(super) const NAME_MAX: usize = 255;

/// A name relative to the root of a tree, without empty, `.` or `..` components. The root itself is empty.
///
/// It sorts so that a directory comes before what is in it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EntryPath(Vec<u8>);

impl EntryPath {
    /// The root of the tree.
    #[must_use]
    pub fn root() -> Self {
        Self::default()
    }

    /// Reads a name as archives have it: a leading `/` or `./` means the root of the tree.
    ///
    /// # Errors
    /// [`EntryProblem`] for `..`, NUL bytes, and names beyond `limits` or NAME_MAX.
    pub fn parse(raw: &[u8], limits: &Limits) -> Result<Self, EntryProblem> {
        if raw.len() > limits.path_bytes {
            return Err(EntryProblem::LongPath(limits.path_bytes));
        }
        if raw.contains(&0) {
            return Err(EntryProblem::Nul);
        }
        let mut path = Self(Vec::with_capacity(raw.len()));
        let mut depth = 0;
        for component in raw.split(|b| *b == b'/') {
            match component {
                b"" | b"." => continue,
                b".." => return Err(EntryProblem::Escapes),
                long if long.len() > NAME_MAX => return Err(EntryProblem::LongComponent),
                _ => {}
            }
            depth += 1;
            if depth > limits.depth {
                return Err(EntryProblem::Deep(limits.depth));
            }
            path.push(component);
        }
        Ok(path)
    }

    /// Whether this is the root of the tree.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The directory that holds this entry; the root has none.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        self.split().map(|(parent, _)| parent)
    }

    /// The directory that holds this entry and the entry's own name; the root has neither.
    #[must_use]
    pub fn split(&self) -> Option<(Self, &[u8])> {
        if self.is_root() {
            return None;
        }
        match self.0.iter().rposition(|b| *b == b'/') {
            Some(slash) => Some((Self(self.0[..slash].to_vec()), &self.0[slash + 1..])),
            None => Some((Self::root(), &self.0)),
        }
    }

    /// The entry `name` in this directory. `name` must be one normal component.
    #[must_use]
    pub(crate) fn join(&self, name: &[u8]) -> Self {
        let mut joined = Self(Vec::with_capacity(self.0.len() + 1 + name.len()));
        joined.0.extend_from_slice(&self.0);
        joined.push(name);
        joined
    }

    /// The components, outermost first.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|b| *b == b'/').filter(|c| !c.is_empty())
    }

    /// The bounds `[from, to)` between which exactly the entries below this one sort.
    #[must_use]
    pub(crate) fn below(&self) -> (Self, Option<Self>) {
        if self.is_root() {
            return (Self(vec![0]), None);
        }
        let with = |byte| {
            let mut bytes = self.0.clone();
            bytes.push(byte);
            Self(bytes)
        };
        (with(b'/'), Some(with(b'/' + 1)))
    }

    /// The path as the operating system takes it, relative to the root of the tree; the root is `.`.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        let bytes: &[u8] = if self.is_root() { b"." } else { &self.0 };
        Path::new(OsStr::from_bytes(bytes))
    }

    /// How many bytes the name has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the name is empty, which is the root.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.is_root()
    }

    fn push(&mut self, component: &[u8]) {
        if !self.0.is_empty() {
            self.0.push(b'/');
        }
        self.0.extend_from_slice(component);
    }
}

impl fmt::Display for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

impl Serialize for EntryPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&to_text(&self.0))
    }
}

impl<'de> Deserialize<'de> for EntryPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        let bytes = from_text(&text).ok_or_else(|| de::Error::custom("bad escape in a name"))?;
        // The same gate as for archives: a damaged index must not lead out of a tree either.
        let limits = Limits {
            depth: usize::MAX,
            path_bytes: usize::MAX,
            ..Limits::default()
        };
        Self::parse(&bytes, &limits).map_err(de::Error::custom)
    }
}

/// Bytes as JSON text: as they are where they are UTF-8 without `%`, otherwise with `%XX`.
pub(crate) fn to_text(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('%') => Cow::Borrowed(text),
        Ok(_) | Err(_) => Cow::Owned(
            bytes
                .iter()
                .map(|b| match b {
                    b'%' | 0..0x20 | 0x7f.. => format!("%{b:02X}"),
                    plain => char::from(*plain).to_string(),
                })
                .collect(),
        ),
    }
}

/// The reverse of [`to_text`].
pub(crate) fn from_text(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first != b'%' {
            bytes.push(*first);
            rest = after;
            continue;
        }
        let (digits, after) = after.split_at_checked(2)?;
        bytes.extend(hex::decode(digits).ok()?);
        rest = after;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(raw: &[u8]) -> Result<EntryPath, EntryProblem> {
        EntryPath::parse(raw, &Limits::default())
    }

    #[test]
    fn names_are_normalised() {
        for (raw, want) in [
            ("a/b", "a/b"),
            ("./a//b/", "a/b"),
            ("/a/./b", "a/b"),
            ("", ""),
            ("./", ""),
            ("..a/b..", "..a/b.."),
        ] {
            assert_eq!(parse(raw.as_bytes()).unwrap().to_string(), want);
        }
    }

    #[test]
    fn bad_names_are_refused() {
        let long = vec![b'a'; 256];
        let limits = Limits {
            depth: 2,
            path_bytes: 300,
            ..Limits::default()
        };
        for (raw, want) in [
            (&b".."[..], EntryProblem::Escapes),
            (b"a/../b", EntryProblem::Escapes),
            (b"/../etc", EntryProblem::Escapes),
            (b"a\0b", EntryProblem::Nul),
            (&long, EntryProblem::LongComponent),
            (b"a/b/c", EntryProblem::Deep(2)),
            (&[b'/'; 301], EntryProblem::LongPath(300)),
        ] {
            assert_eq!(EntryPath::parse(raw, &limits), Err(want));
        }
    }

    #[test]
    fn text_form_keeps_every_byte() {
        for raw in [
            &b"plain"[..],
            b"100%",
            b"\xff\xfe/\x01",
            "é".as_bytes(),
            b"\xffe%",
        ] {
            let path = parse(raw).unwrap();
            let json = serde_json::to_string(&path).unwrap();
            assert_eq!(serde_json::from_str::<EntryPath>(&json).unwrap(), path);
        }
        assert!(serde_json::from_str::<EntryPath>("\"../x\"").is_err());
        assert!(serde_json::from_str::<EntryPath>("\"%4\"").is_err());
    }

    #[test]
    fn range_below_holds_children_only() {
        let (from, to) = parse(b"a").unwrap().below();
        let inside = |p: &[u8]| {
            let p = parse(p).unwrap();
            p >= from && Some(&p) < to.as_ref()
        };
        assert!(inside(b"a/b") && inside(b"a/b/c") && inside(b"a/\xff"));
        assert!(!inside(b"a") && !inside(b"a-b") && !inside(b"ab") && !inside(b"a0"));
    }
}

//! The identity of an object: its content and everything that hard links share.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, Hasher};
use crate::layer::Attributes;

/// First bytes of what an identity is computed over, so that another scheme cannot collide.
const SCHEME: &[u8] = b"nodectl object 1\n";

/// Names an object. Computed over content, mode, owner, mtime and extended attributes, because hard
/// links share all of these.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ObjectId(Digest);

impl ObjectId {
    /// The identity of a regular file with this content and these attributes.
    #[must_use]
    pub fn of(attributes: &Attributes, size: u64, content: &Digest) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(SCHEME);
        hasher.update(&attributes.mode.to_le_bytes());
        hasher.update(&attributes.uid.to_le_bytes());
        hasher.update(&attributes.gid.to_le_bytes());
        hasher.update(&attributes.mtime.secs.to_le_bytes());
        hasher.update(&attributes.mtime.nanos.to_le_bytes());
        hasher.update(&(attributes.xattrs.len() as u64).to_le_bytes());
        for (name, value) in &attributes.xattrs {
            for part in [name.as_bytes(), &value.0] {
                hasher.update(&(part.len() as u64).to_le_bytes());
                hasher.update(part);
            }
        }
        hasher.update(&size.to_le_bytes());
        hasher.update(content.as_bytes());
        Self(hasher.finish())
    }

    /// Reads the identity back from the names of an object's directory and file.
    pub(crate) fn from_names(dir: &str, file: &str) -> Option<Self> {
        Digest::from_hex(&format!("{dir}{file}")).ok().map(Self)
    }

    /// The number of the directory that holds it.
    pub(super) fn shard(&self) -> u8 {
        self.0.as_bytes()[0]
    }

    /// The 64 hexadecimal digits.
    #[must_use]
    pub fn hex(&self) -> String {
        self.0.hex()
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex())
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::{Bytes, Mtime};

    #[test]
    fn everything_that_links_share_is_part_of_it() {
        let base = Attributes::implied_directory();
        let content = Digest::of(b"x");
        let id = |a: &Attributes| ObjectId::of(a, 1, &content);
        let change = |f: fn(&mut Attributes)| {
            let mut changed = base.clone();
            f(&mut changed);
            changed
        };
        let variants = [
            change(|a| a.mode = 0o4755),
            change(|a| a.uid = 1),
            change(|a| a.gid = 1),
            change(|a| a.mtime = Mtime { secs: 1, nanos: 0 }),
            change(|a| a.mtime = Mtime { secs: 0, nanos: 1 }),
            change(|a| drop(a.xattrs.insert("user.a".into(), Bytes(b"b".to_vec())))),
            change(|a| drop(a.xattrs.insert("user.".into(), Bytes(b"ab".to_vec())))),
        ];
        let mut ids: Vec<_> = variants.iter().map(id).collect();
        ids.push(id(&base));
        ids.push(ObjectId::of(&base, 1, &Digest::of(b"y")));
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 9);
    }

    /// The identity is an on-disk format: a store written before must stay readable.
    #[test]
    fn identity_is_stable() {
        let mut attributes = Attributes::implied_directory();
        attributes.mtime = Mtime {
            secs: 1_700_000_000,
            nanos: 5,
        };
        attributes.xattrs.insert("user.k".into(), Bytes(vec![0, 255]));
        let id = ObjectId::of(&attributes, 5, &Digest::of(b"hello"));
        insta::assert_snapshot!(id.hex(), @"7bb10fa427d31181b75fa6eb71bbaef6dd3596dfdb77309421245763c5cae2b6");
    }
}

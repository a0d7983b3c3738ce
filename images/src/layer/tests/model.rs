//! Random archives: the result must be what a naive unpacker in memory gets.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Op {
    File(String, u8),
    Dir(String),
    Symlink(String),
    HardLink(String, String),
    Whiteout(String),
    Opaque(String),
}

/// The naive unpacker: a flat map, entries applied in the archive's order. An error means that plain
/// unpacking would fail; then nothing is claimed about the result.
#[derive(Clone, Default)]
struct Model(BTreeMap<String, Seen>);

impl Model {
    fn remove(&mut self, path: &str) {
        let below = format!("{path}/");
        self.0.retain(|p, _| p != path && !p.starts_with(&below));
    }

    fn make_parents(&mut self, path: &str) -> Result<(), ()> {
        for (i, _) in path.match_indices('/') {
            match self.0.get(&path[..i]) {
                Some(Seen::Directory(_)) => {}
                Some(_) => return Err(()),
                None => drop(self.0.insert(path[..i].to_owned(), Seen::Directory(0o755))),
            }
        }
        Ok(())
    }

    fn put(&mut self, path: &str, node: Seen) -> Result<(), ()> {
        self.make_parents(path)?;
        let both = matches!(
            (&node, self.0.get(path)),
            (Seen::Directory(_), Some(Seen::Directory(_)))
        );
        if !both {
            self.remove(path);
        }
        self.0.insert(path.to_owned(), node);
        Ok(())
    }

    fn is_behind_link(&self, path: &str) -> bool {
        let mut parents = path.match_indices('/').map(|(i, _)| &path[..i]);
        parents.any(|parent| matches!(self.0.get(parent), Some(Seen::Symlink(_))))
    }

    fn layer(&mut self, ops: &[Op]) -> Result<(), ()> {
        let lower = self.clone();
        for op in ops {
            match op {
                // The real thing follows links; this one does not.
                Op::Whiteout(path) | Op::Opaque(path) if lower.is_behind_link(path) => return Err(()),
                Op::Whiteout(path) => self.remove(path),
                Op::Opaque(path) => {
                    let below = format!("{path}/");
                    self.0.retain(|p, _| !p.starts_with(&below));
                }
                Op::File(..) | Op::Dir(_) | Op::Symlink(_) | Op::HardLink(..) => {}
            }
        }
        let hidden = self.clone();
        for op in ops {
            match op {
                Op::File(path, byte) => self.put(path, file(*byte))?,
                Op::Dir(path) => self.put(path, Seen::Directory(0o755))?,
                Op::Symlink(path) => self.put(path, Seen::Symlink("a".to_owned()))?,
                Op::HardLink(path, target) => {
                    let own = self.0.get(target).filter(|n| hidden.0.get(target) != Some(n));
                    match own.or_else(|| lower.0.get(target)).cloned() {
                        Some(Seen::Directory(_)) | None => return Err(()),
                        Some(node) => self.put(path, node)?,
                    }
                }
                Op::Whiteout(_) | Op::Opaque(_) => {}
            }
        }
        Ok(())
    }
}

fn file(byte: u8) -> Seen {
    let attributes = Attributes {
        mode: 0o644,
        mtime: Mtime {
            secs: 1_600_000_000,
            nanos: 0,
        },
        ..Attributes::implied_directory()
    };
    Seen::File(vec![byte; usize::from(byte % 4)], attributes)
}

fn archive(ops: &[Op]) -> Tarball {
    ops.iter().fold(Tarball::new(), |tar, op| match op {
        Op::File(path, byte) => tar.file(path, &vec![*byte; usize::from(byte % 4)]),
        Op::Dir(path) => tar.dir(path),
        Op::Symlink(path) => tar.symlink(path, "a"),
        Op::HardLink(path, target) => tar.hardlink(path, target),
        Op::Opaque(path) => tar.file(&format!("{path}/.wh..wh.opq"), b""),
        Op::Whiteout(path) => match path.rsplit_once('/') {
            Some((dir, name)) => tar.file(&format!("{dir}/.wh.{name}"), b""),
            None => tar.file(&format!(".wh.{path}"), b""),
        },
    })
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec("[abc]", 1..4).prop_map(|parts| parts.join("/"))
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (path(), any::<u8>()).prop_map(|(p, b)| Op::File(p, b)),
        3 => path().prop_map(Op::Dir),
        1 => path().prop_map(Op::Symlink),
        2 => (path(), path()).prop_map(|(p, t)| Op::HardLink(p, t)),
        2 => path().prop_map(Op::Whiteout),
        1 => path().prop_map(Op::Opaque),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn import_is_what_naive_unpacking_gets(layers in prop::collection::vec(prop::collection::vec(op(), 0..10), 1..4)) {
        let sink = Memory::default();
        let mut model = Model::default();
        let mut tree = Tree::default();
        for ops in &layers {
            let expected = model.layer(ops);
            let index = import_with(&Policy::default(), &sink, &archive(ops).finish());
            let applied = index.map_err(drop).and_then(|index| tree.apply(&index).map_err(drop));
            if expected.is_err() {
                return Ok(());
            }
            prop_assert!(applied.is_ok());
            prop_assert_eq!(see(&sink, &tree), model.0.clone());
        }
    }

    /// Whatever the bytes are: an answer, no panic, and no name outside the tree.
    #[test]
    fn damaged_archives_are_survived(ops in prop::collection::vec(op(), 1..6), hits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut tar = archive(&ops).pax(&[("path", b"p"), ("mtime", b"1.5")]).file("x", b"1").finish();
        for (index, byte) in &hits {
            let at = index.index(tar.len());
            tar[at] = *byte;
            // A wrong checksum would end every case at once.
            let block = at / 512 * 512;
            let header = &mut tar[block..block + 512];
            let sum: u32 = header.iter().enumerate().map(|(i, b)| if (148..156).contains(&i) { 32 } else { u32::from(*b) }).sum();
            header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        let sink = Memory::default();
        if let Ok(index) = import_with(&Policy::default(), &sink, &tar) {
            let mut tree = Tree::default();
            if tree.apply(&index).is_ok() {
                for path in tree.entries().keys() {
                    prop_assert!(path.components().all(|c| !matches!(c, b"" | b"." | b"..")));
                    prop_assert!(path.is_root() || tree.entries().contains_key(&path.parent().unwrap()));
                }
            }
        }
    }
}

//! One case for each trick that tar and layers have, and random archives against a model.

#[path = "../../tests/tarball/mod.rs"]
mod tarball;

mod accepted;
mod model;
mod refused;

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::sync::Mutex;

use super::*;
use crate::digest::Digest;
use crate::error::ImportError;
use crate::store::ObjectId;
use tarball::Tarball;

/// Keeps content in memory.
#[derive(Default)]
struct Memory(Mutex<HashMap<ObjectId, (Attributes, Vec<u8>)>>);

impl ObjectSink for Memory {
    fn put(
        &self,
        attributes: &Attributes,
        size: u64,
        _sparse: bool,
        content: &mut dyn Read,
    ) -> Result<ObjectId, SinkError> {
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes).map_err(SinkError::Read)?;
        assert_eq!(bytes.len() as u64, size, "size and content differ");
        let id = ObjectId::of(attributes, size, &Digest::of(&bytes));
        self.0.lock().unwrap().insert(id, (attributes.clone(), bytes));
        Ok(id)
    }
}

/// What a file tree amounts to for a test.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Directory(u32),
    File(Vec<u8>, Attributes),
    Symlink(String),
    Fifo,
}

fn import_with(policy: &Policy, sink: &Memory, tar: &[u8]) -> Result<LayerIndex, ImportError> {
    import(tar, &Digest::of(tar), policy, sink)
}

fn see(sink: &Memory, tree: &Tree) -> BTreeMap<String, Seen> {
    let objects = sink.0.lock().unwrap();
    let seen = |node: &Node| match node {
        Node::Directory(a) => Seen::Directory(a.mode),
        Node::File { object, size } => {
            let (attributes, bytes) = objects[object].clone();
            assert_eq!(bytes.len() as u64, *size);
            Seen::File(bytes, attributes)
        }
        Node::Empty(a) => Seen::File(Vec::new(), a.clone()),
        Node::Symlink { target, .. } => Seen::Symlink(String::from_utf8(target.0.clone()).unwrap()),
        Node::Fifo(_) => Seen::Fifo,
        Node::Link { target } => panic!("a tree has an open link to {target}"),
    };
    let entries = tree.entries().iter().filter(|(path, _)| !path.is_root());
    entries
        .map(|(path, node)| (path.to_string(), seen(node)))
        .collect()
}

/// Imports the layers and puts them on top of each other.
fn unpack(layers: impl IntoIterator<Item = Tarball>) -> BTreeMap<String, Seen> {
    let sink = Memory::default();
    let mut tree = Tree::default();
    for layer in layers {
        let index = import_with(&Policy::default(), &sink, &layer.finish()).unwrap();
        tree.apply(&index).unwrap();
    }
    see(&sink, &tree)
}

fn names(tree: &BTreeMap<String, Seen>) -> Vec<&str> {
    tree.keys().map(String::as_str).collect()
}

fn content<'a>(tree: &'a BTreeMap<String, Seen>, name: &str) -> &'a [u8] {
    match &tree[name] {
        Seen::File(bytes, _) => bytes,
        other => panic!("{name} is {other:?}"),
    }
}

fn attributes<'a>(tree: &'a BTreeMap<String, Seen>, name: &str) -> &'a Attributes {
    match &tree[name] {
        Seen::File(_, attributes) => attributes,
        other => panic!("{name} is {other:?}"),
    }
}

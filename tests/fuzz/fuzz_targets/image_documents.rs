//! Manifests, indexes, image configurations, the store's own indexes of layers, references and digests: what is accepted
//! says the same after it was written and read again.

use std::fmt::Debug;
use std::str::FromStr;

use node_images::digest::Digest;
use node_images::layer::{EntryPath, LayerIndex, Limits, Node, Tree};
use node_images::manifest::{ConfigFacts, Document, Platform};
use node_images::reference::{Reference, Selector};
use node_images::registry::RegistryConfig;
use node_images::store::ImageRecord;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub fn run(data: &[u8]) {
    if let Ok(document) = Document::parse(data) {
        check_document(&document);
    }
    if let Ok(facts) = serde_json::from_slice::<ConfigFacts>(data) {
        for digest in &facts.rootfs.diff_ids {
            check_digest(&digest.to_string());
        }
    }
    if let Some(index) = same_again::<LayerIndex>(data) {
        check_index(&index);
    }
    same_again::<ImageRecord>(data);
    same_again::<RegistryConfig>(data);
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    check_digest(text);
    check_reference(text);
}

/// What is read from these bytes, if anything; it is written and read again.
pub fn same_again<T: DeserializeOwned + Serialize + PartialEq + Debug>(data: &[u8]) -> Option<T> {
    let value: T = serde_json::from_slice(data).ok()?;
    let text = serde_json::to_vec(&value).expect("what was read can be written");
    let back: T = serde_json::from_slice(&text).expect("what was written can be read");
    assert_eq!(value, back);
    assert_eq!(
        text,
        serde_json::to_vec(&back).expect("JSON"),
        "not the same bytes"
    );
    Some(value)
}

fn check_document(document: &Document) {
    let bytes = match document {
        Document::Manifest(manifest) => serde_json::to_vec(manifest),
        Document::Index(index) => serde_json::to_vec(index),
    };
    let back = Document::parse(&bytes.expect("a document is JSON")).expect("what was written reads back");
    assert_eq!(&back, document);
    if let Document::Index(index) = document
        && let Some(entry) = index.select(&Platform::host())
    {
        let platform = entry.platform.as_ref().expect("a platform was asked for");
        assert_eq!(
            (platform.os.as_str(), &platform.architecture),
            ("linux", &Platform::host().architecture)
        );
    }
}

fn check_index(index: &LayerIndex) {
    let mut tree = Tree::default();
    if tree.apply(index).is_err() {
        return;
    }
    for (path, node) in tree.entries() {
        assert!(
            path.components().all(|name| !matches!(name, b"" | b"." | b"..")),
            "{path}"
        );
        assert!(!matches!(node, Node::Link { .. }));
        let parent = path.parent().unwrap_or_else(EntryPath::root);
        assert!(
            matches!(tree.entries().get(&parent), Some(Node::Directory(_))),
            "{path} is in no directory"
        );
    }
}

fn check_digest(text: &str) {
    if let Ok(digest) = Digest::parse(text) {
        assert_eq!(digest.to_string(), text);
        assert!(
            text.len() == 71
                && text[7..]
                    .bytes()
                    .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        );
    }
}

fn check_reference(text: &str) {
    if let Ok(path) = EntryPath::parse(text.as_bytes(), &Limits::default()) {
        assert!(path.as_path().is_relative() && !format!("/{path}/").contains("/../"));
    }
    let Ok(reference) = Reference::from_str(text) else {
        return;
    };
    let shown = reference.to_string();
    let back = Reference::from_str(&shown);
    assert_eq!(
        back.as_ref().ok(),
        Some(&reference),
        "{text:?} is shown as {shown:?}"
    );
    if let Selector::Digest(digest) = reference.selector() {
        assert!(text.contains(&digest.hex()));
    }
    if let Some(repository) = reference.repository() {
        let (host, name) = repository.split_once('/').expect("a registry and a name");
        assert!(!host.is_empty() && !name.is_empty());
        // It becomes part of a URL.
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-/".contains(c);
        assert!(name.chars().all(plain), "{name:?}");
        assert!(
            name.split('/').all(|part| !matches!(part, "" | "." | "..")),
            "{name:?}"
        );
    }
}

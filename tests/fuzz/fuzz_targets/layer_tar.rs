//! Any bytes as the tar archive of a layer: what comes out is a tree that cannot lead out of itself, within the limits,
//! the same each time, and the same after it was written to disk and read back.

use std::io::Read;

use node_images::digest::Digest;
use node_images::layer::{
    Attributes, DevicePolicy, EntryPath, LayerIndex, Limits, Node, Policy, PrivilegePolicy, Tree, examine,
};
use tar::Header;

const BLOCK: usize = 512;
/// Stands between two layers.
const NEXT: &[u8] = b"NEXT-LAYER";
const LIMITS: Limits = Limits {
    entries: 64,
    depth: 12,
    path_bytes: 300,
    unpacked_bytes: 1 << 20,
    metadata_bytes: 8 << 10,
    ratio: 200,
};

/// Three layers on top of each other, cut where the input says; one alone would have nothing to hide.
pub fn run(data: &[u8]) {
    let layers: Vec<Vec<u8>> = pieces(data).take(3).map(with_sums).collect();
    let mut tree = Tree::default();
    for tar in &layers {
        let Some(index) = read(tar) else { return };
        if tree.apply(&index).is_err() {
            return;
        }
        check_tree(&tree);
    }
    let mut again = Tree::default();
    for tar in &layers {
        let index = read(tar).expect("it was read before");
        again.apply(&index).expect("it was applied before");
    }
    assert_eq!(tree, again, "the same layers give another tree");
}

fn pieces(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(data);
    std::iter::from_fn(move || {
        let all = rest?;
        let end = all.windows(NEXT.len()).position(|bytes| bytes == NEXT);
        rest = end.map(|end| &all[end + NEXT.len()..]);
        Some(&all[..end.unwrap_or(all.len())])
    })
}

fn read(tar: &[u8]) -> Option<LayerIndex> {
    let kept = with(tar, PrivilegePolicy::Keep, DevicePolicy::Skip);
    let stripped = with(tar, PrivilegePolicy::Strip, DevicePolicy::Skip);
    assert!(
        stripped.is_some() || kept.is_none(),
        "stripping is no reason to refuse"
    );
    if let Some(strict) = with(tar, PrivilegePolicy::Refuse, DevicePolicy::Refuse) {
        assert_eq!(
            kept.as_ref(),
            Some(&strict),
            "refused nothing, and yet it is another"
        );
        assert_eq!(stripped.as_ref(), Some(&strict), "stripped what nobody refuses");
    }
    let index = kept?;
    check_index(&index);
    let text = serde_json::to_vec(&index).expect("an index is JSON");
    let back: LayerIndex = serde_json::from_slice(&text).expect("what was written reads back");
    assert_eq!(index, back, "it reads back as something else");
    Some(index)
}

fn with(tar: &[u8], privileges: PrivilegePolicy, devices: DevicePolicy) -> Option<LayerIndex> {
    let policy = Policy {
        devices,
        setuid: privileges,
        file_capabilities: privileges,
        limits: LIMITS,
    };
    let visit = |attributes: &Attributes, size: u64, content: &mut dyn Read| {
        let read = std::io::copy(content, &mut std::io::sink())?;
        assert_eq!(
            read, size,
            "the content of a file is longer or shorter than it says"
        );
        if privileges != PrivilegePolicy::Keep {
            assert_eq!(
                attributes.mode & 0o6000,
                0,
                "a setuid file where the policy wants none"
            );
            assert!(!attributes.xattrs.contains_key("security.capability"));
        }
        Ok(())
    };
    examine(tar, &Digest::of(tar), &policy, visit).ok()
}

fn check_index(index: &LayerIndex) {
    assert!(index.entries.len() as u64 <= LIMITS.entries);
    let mut bytes = 0;
    for (path, node) in &index.entries {
        check_path(path);
        if let Node::Link { target } = node {
            check_path(target);
            assert!(!target.is_root());
        }
        if let Some(attributes) = attributes(node) {
            check_attributes(attributes);
        }
    }
    let hidden = index.whiteouts.iter().chain(&index.opaque);
    for path in index.entries.keys().chain(hidden) {
        bytes += path.len() as u64;
        check_path(path);
    }
    assert!(bytes <= LIMITS.metadata_bytes, "{bytes} bytes of names");
}

fn check_path(path: &EntryPath) {
    assert!(path.len() <= LIMITS.path_bytes, "{path} is too long");
    assert!(path.components().count() <= LIMITS.depth, "{path} is too deep");
    check_components(path);
}

fn check_components(path: &EntryPath) {
    for component in path.components() {
        assert!(!matches!(component, b"" | b"." | b".."), "{path} leads elsewhere");
        assert!(
            component.len() <= 255 && !component.contains(&0),
            "{path} is no name"
        );
    }
    assert!(path.as_path().is_relative(), "{path} begins at the host's root");
}

fn attributes(node: &Node) -> Option<&Attributes> {
    match node {
        Node::Directory(attributes) | Node::Empty(attributes) | Node::Fifo(attributes) => Some(attributes),
        Node::Symlink { attributes, .. } => Some(attributes),
        Node::File { .. } | Node::Link { .. } => None,
    }
}

fn check_attributes(attributes: &Attributes) {
    assert_eq!(attributes.mode & !0o7777, 0);
    assert!(attributes.mtime.nanos < 1_000_000_000);
    for name in attributes.xattrs.keys() {
        let harmless = ["user.", "system.posix_acl_", "security.capability"];
        assert!(
            harmless.iter().any(|start| name.starts_with(start)),
            "{name} came in"
        );
    }
}

/// No entry is below anything but directories, so that none is reached through a link.
fn check_tree(tree: &Tree) {
    let entries = tree.entries();
    assert!(matches!(
        entries.get(&EntryPath::root()),
        Some(Node::Directory(_))
    ));
    for (path, node) in entries {
        check_components(path);
        assert!(!matches!(node, Node::Link { .. }), "an open link at {path}");
        if let Some(parent) = path.parent() {
            assert!(
                matches!(entries.get(&parent), Some(Node::Directory(_))),
                "{path} is in no directory"
            );
        }
    }
}

/// The same archive with the checksums that its headers should have: the fuzzer would guess none of them.
fn with_sums(data: &[u8]) -> Vec<u8> {
    let mut tar = data.to_vec();
    let mut at = 0;
    while let Some(block) = tar.get_mut(at..at + BLOCK) {
        at += BLOCK;
        if block.iter().all(|byte| *byte == 0) {
            continue;
        }
        let header = Header::from_byte_slice(block);
        let size = header.entry_size().unwrap_or(0);
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        let own: u32 = block[148..156].iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{:06o}\0 ", sum - own + 8 * 32).as_bytes());
        let blocks = usize::try_from(size.div_ceil(BLOCK as u64)).unwrap_or(usize::MAX / BLOCK);
        at = at.saturating_add(blocks.saturating_mul(BLOCK)).min(tar.len());
    }
    tar
}

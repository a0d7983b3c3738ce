//! What a repair takes from a registry.

mod support;

use std::sync::Arc;

use node_images::layer::Policy;
use node_images::pull::{layer_reader, pull};
use node_images::reference::Reference;
use node_images::registry::RegistryConfig;
use node_images::source::Sources;
use node_images::store::{Content, FsckOptions, RepairReport};
use support::image::{Built, GZIP, PLAIN, file, noise, tar};
use support::liar::Liar;
use support::{Node, options, request, sources};

/// Much more than sockets and channels hold.
const BIG: usize = 96 << 20;

/// Breaks a file of the image, or the index of its layer, and has that repaired.
fn repair(node: &Node, sources: &Sources, host: &str) -> RepairReport {
    let all = FsckOptions {
        content: Content::All,
    };
    let found = node.store.fsck(all).expect("checked");
    assert!(!found.findings.is_empty(), "nothing is broken");
    let runtime = tokio::runtime::Handle::current();
    let reference: Reference = format!("{host}/a:1").parse().expect("a reference");
    let mut fetch = |layer: &_| {
        let source = sources.open(&reference).map_err(std::io::Error::other)?;
        layer_reader(&runtime, source, layer).map_err(std::io::Error::other)
    };
    tokio::task::block_in_place(|| {
        node.store
            .repair(&node.lock, &found, &Policy::default(), &mut fetch)
    })
    .expect("repaired")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_is_read_until_nothing_more_is_wanted_of_it() {
    for kind in [PLAIN, GZIP] {
        let image = Arc::new(Built::new(&[(
            kind,
            tar(&[("first", &noise(50_000)), ("big", &noise(BIG))]),
        )]));
        let served = Arc::clone(&image);
        let liar = Liar::start(move |asked| served.answer(asked));
        let (sources, _) = sources(RegistryConfig::default());
        let node = Node::new();
        let wanted = [request(&format!("{}/a:1", liar.host), image.digest())];
        pull(&node.store, &node.lock, "t", &sources, &wanted, &options())
            .await
            .expect("pulled");
        let path = node.store.tree_path(&image.digest()).join("first");
        let mut bytes = noise(50_000);
        bytes[7] ^= 1;
        std::fs::write(path, bytes).expect("damaged");
        let before = liar.sent();
        let report = repair(&node, &sources, &liar.host);
        assert_eq!((report.objects, report.remaining.findings), (1, Vec::new()));
        assert_eq!(file(&node.store, &image.digest(), "first"), noise(50_000));
        let sent = liar.sent() - before;
        assert!(sent < BIG / 2, "{kind}: {sent} bytes for one small file");

        // An index is made of a whole layer.
        let layers = node.directory.path().join("store/layers");
        for entry in std::fs::read_dir(layers).expect("indexes") {
            std::fs::write(entry.expect("an entry").path(), "{}").expect("damaged");
        }
        let before = liar.sent();
        let report = repair(&node, &sources, &liar.host);
        assert_eq!(report.remaining.findings, Vec::new());
        let sent = liar.sent() - before;
        assert!(sent >= BIG, "{kind}: an index of {sent} bytes");
    }
}

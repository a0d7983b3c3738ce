//! The story of a compute node, asserted on the real components. Needs root, and `make stage` before it.

use std::path::{Path, PathBuf};

use node_tests::story::Story;
use node_tests::tale::{Props, tell};
use node_tests::{paths, teardown};

#[test]
fn a_compute_node_lives_from_images() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "this test boots machines: run it as root"
    );
    let stage = stage();
    assert!(
        stage.join("usr/bin/nodectl").exists(),
        "{} has no usr/bin/nodectl: run `make stage` first",
        stage.display()
    );
    paths::choose_instance("nodectl-story");
    teardown::everything().expect("what an earlier run left can be removed");
    let mut story = Story::begin("node story");
    let told = tell(&mut story, &Props { stage });
    let end = told.map(|told| {
        assert!(told.node.running().expect("the node's state can be read"));
        story.end();
    });
    // A failed step leaves its surroundings to be looked at, except where nobody would.
    if end.is_ok() || std::env::var_os("CI").is_some() {
        teardown::everything().expect("everything can be removed");
    }
    end.unwrap_or_else(|error| panic!("{error:#}"));
}

fn stage() -> PathBuf {
    std::env::var_os("NODECTL_STAGE").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/stage"),
        PathBuf::from,
    )
}

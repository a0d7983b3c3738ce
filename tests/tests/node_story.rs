//! The story of a compute node, asserted on the real components. Needs root, and `make stage` before it.

use node_tests::stage::begin;
use node_tests::story::Story;
use node_tests::tale::{Props, tell};
use node_tests::teardown;

#[test]
fn a_compute_node_lives_from_images() {
    let stage = begin("nodectl-story");
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

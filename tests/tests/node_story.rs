//! The story of a compute node, asserted on the real components. Needs root, and `make stage` before it.

use anyhow::ensure;
use node_tests::stage::play;
use node_tests::tale::{Props, tell};

#[test]
fn a_compute_node_lives_from_images() {
    play("nodectl-story", "node story", |story, stage| {
        let stage = stage.to_owned();
        let told = tell(story, &Props { stage })?;
        ensure!(told.node.running()?, "the node is gone at the end of its story");
        Ok(())
    });
}

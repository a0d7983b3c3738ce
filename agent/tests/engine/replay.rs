//! Old releases that are offered as the present one.

use node_agent::engine::{UpgradeOptions, silent};
use node_agent::error::ExitCode;

use super::node::{Node, release};

/// Release 1 was signed first, then 2, then 3, which ends at once; runs 2.
async fn node() -> Node {
    let node = Node::on_release_1().await;
    for (reference, day) in [
        ("r:1", "2026-01-01"),
        ("r:2", "2026-01-02"),
        ("r:3", "2026-01-03"),
    ] {
        node.world.sign(reference, day);
    }
    node.upgrade("r:2").await.unwrap();
    node
}

/// One more release, which no other is like.
fn publish(node: &Node, reference: &str) {
    let version = reference.trim_start_matches("r:");
    node.world
        .publish(reference, release(version, &[("base", version, "")]));
}

#[tokio::test]
async fn an_older_release_is_refused_and_nothing_changes() {
    let node = node().await;
    let before = node.fingerprint();
    let error = node.upgrade("r:1").await.unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Verification);
    assert!(error.chain().contains("older"), "{}", error.chain());
    assert_eq!(node.fingerprint(), before);
    assert_eq!(node.version().as_deref(), Some("2"));
    let plan = node.engine().plan(Some("r:1")).await.unwrap();
    assert!(
        plan.warnings.iter().any(|w| w.contains("older")),
        "{:?}",
        plan.warnings
    );
}

#[tokio::test]
async fn a_rollback_goes_back_and_does_not_open_the_door() {
    let node = node().await;
    node.engine().rollback(None, false, silent()).await.unwrap();
    assert_eq!(node.version().as_deref(), Some("1"));
    publish(&node, "r:1b");
    node.world.sign("r:1b", "2026-01-01");
    node.upgrade("r:1b").await.unwrap_err();
    node.upgrade("r:2").await.unwrap();
    assert_eq!(node.version().as_deref(), Some("2"));
}

#[tokio::test]
async fn what_the_operator_asks_for_is_the_newest_from_then_on() {
    let node = node().await;
    let options = UpgradeOptions {
        allow_downgrade: true,
        ..UpgradeOptions::default()
    };
    node.engine()
        .upgrade(Some("r:1"), options, silent())
        .await
        .unwrap();
    assert_eq!(node.version().as_deref(), Some("1"));
    node.upgrade("r:2").await.unwrap();
}

#[tokio::test]
async fn a_release_that_did_not_hold_does_not_count() {
    let node = node().await;
    node.upgrade("r:3").await.unwrap();
    assert_eq!(node.version().as_deref(), Some("2"), "it went back");
    publish(&node, "r:2b");
    node.world.sign("r:2b", "2026-01-02");
    node.upgrade("r:2b").await.unwrap();
    assert_eq!(node.version().as_deref(), Some("2b"));
}

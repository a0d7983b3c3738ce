//! nova-compute is disabled while it moves, and enabled again whatever happens.

use node_agent::api::OutcomeKind;
use node_agent::engine::silent;

use super::node::{DEAF, Node, release};

const CELL: &str = "[cell]\ncommand = [\"/bin/cell\"]\n";

/// A node on release 1 of nova-compute that drains; the cell says that what is disabled is ours, or somebody else's.
async fn draining(ours: bool) -> Node {
    let node = Node::empty();
    node.configure("[drain]\nnova = true\n");
    for (version, more) in [("1", ""), ("2", ""), ("3", DEAF)] {
        let text = format!("{CELL}{more}");
        node.world.publish(
            &format!("r:{version}"),
            release(version, &[("nova-compute", version, &text)]),
        );
    }
    node.upgrade("r:1").await.unwrap();
    node.world.script().drain = Some(ours);
    node.world.script().calls.clear();
    node
}

/// What the cell was asked to do, and what systemd, in order.
fn calls(node: &Node) -> Vec<String> {
    let calls = node.world.script().calls.clone();
    let short = |call: &String| {
        let words: Vec<&str> = call.split(' ').take(3).collect();
        words.join(" ")
    };
    calls.iter().filter(|c| *c != "reload").map(short).collect()
}

const DISABLE: &str = "ask nova-compute disable";
const ENABLE: &str = "ask nova-compute enable";
const STOP: &str = "stop nova-compute.service";
const START: &str = "start nova-compute.service";

#[tokio::test]
async fn it_is_disabled_before_it_stops_and_enabled_at_the_end() {
    let node = draining(true).await;
    node.upgrade("r:2").await.unwrap();
    assert_eq!(calls(&node), [DISABLE, STOP, START, ENABLE]);
    assert!(!node.roots.drained().exists());
    let words = node.world.script().calls.clone();
    let reason = |what: &str| {
        let call = words.iter().find(|c| c.starts_with(what)).unwrap();
        call[what.len()..].trim().to_owned()
    };
    assert!(
        reason(DISABLE).starts_with("nodectl: "),
        "a reason that nova does not take for its own"
    );
    assert_eq!(reason(DISABLE), reason(ENABLE));
}

#[tokio::test]
async fn it_is_enabled_after_the_way_back_too() {
    let node = draining(true).await;
    let outcome = node.upgrade("r:3").await.unwrap();
    assert_eq!(outcome.kind, OutcomeKind::RolledBack);
    assert_eq!(calls(&node).last().map(String::as_str), Some(ENABLE));
    assert!(!node.roots.drained().exists());
}

#[tokio::test]
async fn what_an_operator_disabled_is_not_enabled() {
    let node = draining(false).await;
    node.upgrade("r:2").await.unwrap();
    assert_eq!(calls(&node), [DISABLE, STOP, START]);
}

#[tokio::test]
async fn a_veto_after_the_drain_enables_it_again() {
    let node = draining(true).await;
    node.world
        .script()
        .closed_gates
        .insert("nova-compute may stop".into());
    let error = node.upgrade("r:2").await.unwrap_err();
    assert_eq!(error.exit_code() as u8, 75);
    assert_eq!(calls(&node), [DISABLE, ENABLE]);
}

#[tokio::test]
async fn a_conductor_that_is_dead_stops_nothing_and_the_next_start_enables() {
    let node = draining(true).await;
    node.world.script().drain = None;
    let outcome = node.upgrade("r:2").await.unwrap();
    assert_eq!(outcome.kind, OutcomeKind::Done);
    assert!(
        node.roots.drained().exists(),
        "it may have been disabled all the same"
    );
    assert!(node.engine().interrupted().unwrap());
    node.world.script().drain = Some(true);
    node.engine().recover(false, silent()).await.unwrap();
    assert_eq!(calls(&node).last().map(String::as_str), Some(ENABLE));
    assert!(!node.engine().interrupted().unwrap());
}

#[tokio::test]
async fn without_the_setting_nova_is_left_alone() {
    let node = draining(true).await;
    node.configure("");
    node.upgrade("r:2").await.unwrap();
    assert_eq!(calls(&node), [STOP, START]);
}

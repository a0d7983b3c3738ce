//! A service that hands over to its successor: restarted in one job at its place, forwards and backwards.

use node_agent::api::OutcomeKind;

use super::node::{EXITS, Node, release};

const HANDOVER: &str = "[handover]\nkind = \"ovs-dataplane\"\n";

/// A node on release 1, and a release 2 in which everything changes; `compute` of it as given.
async fn node(compute: &str) -> Node {
    let node = Node::empty();
    let services = |image, compute| {
        let base = ("base", image, "[[state]]\npath = \"/nonexistent/conf.db\"\n");
        [base, ("net", image, HANDOVER), ("compute", image, compute)]
    };
    node.world.publish("r:1", release("1", &services("1", "")));
    node.world.publish("r:2", release("2", &services("2", compute)));
    node.upgrade("r:1").await.unwrap();
    node.world.script().calls.clear();
    node
}

/// Its database is replaced while it still handles packets; it goes between what it needs and what needs it.
const IN_PLACE: [&str; 6] = [
    "reload",
    "stop compute.service",
    "stop base.service",
    "start base.service",
    "restart net.service",
    "start compute.service",
];

#[tokio::test]
async fn it_is_restarted_in_one_job_when_what_it_needs_is_there_again() {
    let node = node("").await;
    node.upgrade("r:2").await.unwrap();
    assert_eq!(node.world.script().calls, IN_PLACE);
    assert_eq!(node.version().as_deref(), Some("2"));
}

#[tokio::test]
async fn the_way_back_is_the_same() {
    let node = node(EXITS).await;
    let outcome = node.upgrade("r:2").await.unwrap();
    assert_eq!(outcome.kind, OutcomeKind::RolledBack);
    assert_eq!(node.version().as_deref(), Some("1"));
    let back = node.world.script().calls[IN_PLACE.len()..].to_vec();
    let expected = [
        "reload",
        "stop base.service",
        "start base.service",
        "restart net.service",
        "start compute.service",
    ];
    assert_eq!(back, expected);
}

#[tokio::test]
async fn one_that_is_down_is_started() {
    let node = node("").await;
    for unit in node.world.script().units.values_mut() {
        unit.process = None;
    }
    node.upgrade("r:2").await.unwrap();
    let calls = node.world.script().calls.clone();
    assert!(calls.contains(&"start net.service".into()), "{calls:?}");
    assert!(!calls.contains(&"restart net.service".into()), "{calls:?}");
}

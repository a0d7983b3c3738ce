//! What an operator does with a node.

use std::collections::BTreeMap;

use node_agent::api::{Action, Disruption, EventKind, OperationResult, OutcomeKind, Phase};
use node_agent::deployment::Seq;
use node_agent::engine::{UpgradeOptions, silent};
use node_agent::release::ReleaseDocument;

use super::node::{Node, recorder, release};

#[tokio::test]
async fn the_first_installation_starts_everything_in_order() {
    let node = Node::empty();
    node.publish_story("");
    let plan = node.engine().plan(Some("r:1")).await.unwrap();
    assert!(plan.services.iter().all(|s| s.action == Action::Start));
    assert_eq!((plan.from, plan.to, plan.nothing_to_do), (None, Seq(1), false));
    assert!(plan.bytes_to_fetch > 0);

    let (sink, events) = recorder();
    let outcome = node
        .engine()
        .upgrade(Some("r:1"), UpgradeOptions::default(), sink)
        .await
        .unwrap();
    assert_eq!(
        (outcome.kind, outcome.from, outcome.current),
        (OutcomeKind::Done, None, Some(Seq(1)))
    );
    assert_eq!(node.version().as_deref(), Some("1"));
    let calls = node.world.script().calls.clone();
    assert_eq!(
        calls,
        [
            "reload",
            "start base.service",
            "start net.service",
            "start compute.service"
        ]
    );

    let events = events.lock().unwrap();
    assert!(
        events.iter().enumerate().all(|(n, e)| e.seq == n as u64 + 1),
        "numbered without gaps"
    );
    let phases: Vec<Phase> = events
        .iter()
        .filter(|e| e.kind == EventKind::Entered)
        .map(|e| e.phase)
        .collect();
    use Phase::*;
    assert_eq!(
        phases,
        [
            Fetching, Verified, Staged, Armed, Activating, Probation, Blessed, Idle
        ]
    );
    assert!(matches!(
        events.last().unwrap().kind,
        EventKind::End { exit_code: 0, .. }
    ));
}

#[tokio::test]
async fn an_upgrade_restarts_only_what_changed() {
    let node = Node::on_release_1().await;
    let before = node.world.pids();
    let plan = node.engine().plan(Some("r:2")).await.unwrap();
    let actions: Vec<(&str, Action)> = plan
        .services
        .iter()
        .map(|s| (s.name.as_str(), s.action))
        .collect();
    assert_eq!(
        actions,
        [
            ("base", Action::Keep),
            ("net", Action::Keep),
            ("compute", Action::Restart)
        ]
    );
    assert_eq!(plan.services[2].reason, "image");
    assert!(plan.way_back.open);

    node.upgrade("r:2").await.unwrap();
    assert_eq!(node.version().as_deref(), Some("2"));
    let after = node.world.pids();
    assert_eq!((before["base"], before["net"]), (after["base"], after["net"]));
    assert_ne!(before["compute"], after["compute"]);
    assert_eq!(
        node.world.script().calls,
        ["reload", "stop compute.service", "start compute.service"]
    );

    let again = node.upgrade("r:2").await.unwrap();
    assert_eq!(again.kind, OutcomeKind::NothingToDo);
    assert!(node.engine().plan(Some("r:2")).await.unwrap().nothing_to_do);
    assert!(node.engine().status().await.unwrap().healthy);
}

#[tokio::test]
async fn a_broken_release_is_left_again_and_remembered() {
    let node = Node::on_release_1().await;
    node.upgrade("r:2").await.unwrap();
    let before = node.world.pids();
    let outcome = node.upgrade("r:3").await.unwrap();
    assert_eq!(
        (outcome.kind, outcome.current, outcome.to),
        (OutcomeKind::RolledBack, Some(Seq(2)), Some(Seq(3)))
    );
    let failure = outcome.failure.unwrap();
    assert_eq!(failure.service, "compute");
    assert_eq!(failure.journal, ["last words of compute.service"]);
    assert_eq!(node.version().as_deref(), Some("2"));
    assert_eq!(node.world.pids()["base"], before["base"]);

    let status = node.engine().status().await.unwrap();
    assert_eq!(status.rejected.len(), 1);
    assert!(status.healthy && status.transaction.is_none());

    let refused = node.upgrade("r:3").await.unwrap_err();
    assert_eq!(refused.exit_code() as u8, 75);
    let options = UpgradeOptions {
        force: true,
        ..UpgradeOptions::default()
    };
    let forced = node
        .engine()
        .upgrade(Some("r:3"), options, silent())
        .await
        .unwrap();
    assert_eq!(forced.kind, OutcomeKind::RolledBack);

    let history = node.engine().history(0).unwrap();
    let results: Vec<OperationResult> = history.iter().map(|e| e.result).collect();
    use OperationResult::{Done, RolledBack};
    assert_eq!(results, [Done, Done, RolledBack, RolledBack]);
    assert_eq!(history[2].journal, ["last words of compute.service"]);
}

#[tokio::test]
async fn rollback_returns_to_the_very_same_deployment() {
    let node = Node::on_release_1().await;
    node.upgrade("r:2").await.unwrap();
    assert_eq!(node.upgrade("r:3").await.unwrap().kind, OutcomeKind::RolledBack);
    let outcome = node.engine().rollback(None, false, silent()).await.unwrap();
    assert_eq!((outcome.kind, outcome.current), (OutcomeKind::Done, Some(Seq(1))));
    assert_eq!(node.version().as_deref(), Some("1"));
    let missing = node
        .engine()
        .rollback(Some(Seq(77)), false, silent())
        .await
        .unwrap_err();
    assert!(missing.to_string().contains("77"));
}

#[tokio::test]
async fn what_the_new_set_no_longer_has_is_stopped_with_its_unit_in_place() {
    let node = Node::on_release_1().await;
    node.world.publish("r:4", release("4", &[("base", "1", "")]));
    node.world.script().dies_hard.insert("net.service".into());
    node.upgrade("r:4").await.unwrap();
    assert_eq!(node.version().as_deref(), Some("4"));
    let calls = node.world.script().calls.clone();
    assert_eq!(
        calls,
        ["reload", "stop compute.service", "stop net.service", "reload"]
    );
    let left: Vec<_> = std::fs::read_dir(node.roots.retired()).unwrap().collect();
    assert!(left.is_empty());
    assert!(!node.world.script().units["net.service"].failed);
}

#[tokio::test]
async fn set_makes_a_new_deployment_of_the_same_release() {
    let node = Node::on_release_1().await;
    let before = node.world.pids();
    let change = |value: Option<&str>| BTreeMap::from([("level".to_owned(), value.map(str::to_owned))]);
    let outcome = node.engine().set(&change(Some("7")), silent()).await.unwrap();
    assert_eq!((outcome.kind, outcome.current), (OutcomeKind::Done, Some(Seq(2))));
    let file = node.roots.current().join("services/compute/files/0-level");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "[DEFAULT]\nlevel = 7\n");
    assert_eq!(node.world.pids()["base"], before["base"]);
    assert_ne!(node.world.pids()["compute"], before["compute"]);

    let kept = std::fs::read(node.roots.operator_parameters()).unwrap();
    assert_eq!(
        node.engine()
            .set(&change(Some("x")), silent())
            .await
            .unwrap_err()
            .exit_code() as u8,
        78
    );
    assert_eq!(std::fs::read(node.roots.operator_parameters()).unwrap(), kept);

    node.engine().set(&change(None), silent()).await.unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "[DEFAULT]\nlevel = 1\n");
    assert_eq!(node.version().as_deref(), Some("1"));
}

#[tokio::test]
async fn download_only_touches_nothing_and_is_used_later() {
    let node = Node::on_release_1().await;
    let before = node.world.pids();
    let options = UpgradeOptions {
        download_only: true,
        ..UpgradeOptions::default()
    };
    let staged = node
        .engine()
        .upgrade(Some("r:2"), options, silent())
        .await
        .unwrap();
    assert_eq!(
        (staged.kind, staged.current, staged.to),
        (OutcomeKind::Staged, Some(Seq(1)), Some(Seq(2)))
    );
    assert_eq!(node.world.pids(), before);
    assert!(node.world.script().calls.is_empty());
    let outcome = node.upgrade("r:2").await.unwrap();
    assert_eq!(outcome.current, Some(Seq(2)), "the staged deployment is used");
}

#[tokio::test]
async fn garbage_collection_keeps_what_is_needed() {
    let node = Node::on_release_1().await;
    node.configure("[retention]\nkeep = 0\n");
    node.upgrade("r:2").await.unwrap();
    node.world.publish("r:5", release("5", &[("base", "5", "")]));
    node.upgrade("r:5").await.unwrap();
    node.engine().pin(Some(Seq(1)), "a test").unwrap();
    assert_eq!(node.engine().gc(false).await.unwrap().deployments, []);
    node.engine().unpin(Some(Seq(1))).unwrap();
    let dry = node.engine().gc(true).await.unwrap();
    assert_eq!(dry.deployments, [Seq(1)]);
    assert_eq!(node.engine().gc(false).await.unwrap().deployments, [Seq(1)]);
    assert_eq!(
        node.engine()
            .rollback(None, false, silent())
            .await
            .unwrap()
            .current,
        Some(Seq(2))
    );
    node.upgrade("r:1").await.unwrap();
    assert!(
        node.engine().status().await.unwrap().deployment > Some(Seq(3)),
        "numbers are never used again"
    );
}

/// A release in which guests need `base`.
fn with(version: &str, names: &[&str]) -> ReleaseDocument {
    let services: Vec<_> = names.iter().map(|name| (*name, version, "")).collect();
    let mut document = release(version, &services);
    if let Some(base) = document.services.get_mut("base") {
        base.disruption = Disruption::WhenDrained;
    }
    document
}

#[tokio::test]
async fn the_deployment_that_a_service_was_started_from_stays_until_another_has_its_bundle() {
    let node = Node::empty();
    node.configure("[retention]\nkeep = 0\n");
    for version in ["1", "2", "3", "4"] {
        let release = with(version, &["base", "net"]);
        node.world.publish(&format!("r:{version}"), release);
    }
    node.upgrade("r:1").await.unwrap();
    node.world.script().guests = 1;
    for version in ["r:2", "r:3", "r:4"] {
        node.upgrade(version).await.unwrap();
    }
    let removed = || async { node.engine().gc(false).await.unwrap().deployments };
    assert_eq!(removed().await, [Seq(2)], "base still runs from 1");
    node.world.script().guests = 0;
    node.engine()
        .restart(&["base".to_owned()], false, silent())
        .await
        .unwrap();
    assert_eq!(removed().await, [Seq(1)]);
}

#[tokio::test]
async fn what_guests_need_changes_when_they_are_gone() {
    let node = Node::empty();
    node.world.publish("r:1", with("1", &["base", "net"]));
    node.world.publish("r:2", with("2", &["base", "net"]));
    node.world.publish("r:3", with("3", &["net"]));
    node.upgrade("r:1").await.unwrap();
    let before = node.world.pids();
    node.world.script().guests = 2;

    let plan = node.engine().plan(Some("r:2")).await.unwrap();
    assert_eq!(plan.services[0].action, Action::Pending);
    assert!(
        plan.services[0].reason.contains("needed by guest 1, guest 2"),
        "{}",
        plan.services[0].reason
    );
    let outcome = node.upgrade("r:2").await.unwrap();
    assert_eq!(outcome.kind, OutcomeKind::Done);
    assert!(outcome.message.contains("pending until"), "{}", outcome.message);
    let after = node.world.pids();
    assert_eq!(before["base"], after["base"], "left alone");
    assert_ne!(before["net"], after["net"]);
    let status = node.engine().status().await.unwrap();
    let pending: Vec<_> = status.services.iter().map(|s| s.pending).collect();
    assert_eq!((pending, status.healthy), (vec![true, false], true));
    assert_eq!(node.upgrade("r:2").await.unwrap().kind, OutcomeKind::NothingToDo);

    let error = node.upgrade("r:3").await.unwrap_err();
    assert_eq!(error.exit_code() as u8, 75, "{}", error.chain());
    assert_eq!(node.world.pids(), after);

    node.world.script().guests = 0;
    assert_eq!(node.upgrade("r:2").await.unwrap().kind, OutcomeKind::Done);
    assert_eq!(node.version().as_deref(), Some("2"));
    let status = node.engine().status().await.unwrap();
    assert!(status.services.iter().all(|s| s.up_to_date && !s.pending));

    node.world.script().guests = 2;
    let options = UpgradeOptions {
        force: true,
        ..UpgradeOptions::default()
    };
    node.engine()
        .upgrade(Some("r:1"), options, silent())
        .await
        .unwrap();
    assert_eq!(node.version().as_deref(), Some("1"), "--force restarts it");
}

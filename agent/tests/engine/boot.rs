//! What a boot makes of a release that fails only then, of a clock that jumped, and of what was lost.

use std::path::Path;
use std::sync::Arc;

use node_agent::api::{OperationResult, Outcome, OutcomeKind, Phase};
use node_agent::deployment::Seq;
use node_agent::engine::{EventSink, UpgradeOptions, silent};
use serde_json::json;

use super::crash::in_probation_of;
use super::node::Node;

const YEARS: i64 = 365 * 86400;

/// Power comes back: what the boot does before the services, the services, what noded does after them.
async fn boot(node: &Node) -> (Outcome, Outcome) {
    node.world.reboot();
    let early = node.engine().recover(true, silent()).await.unwrap();
    node.world.start_all();
    let late = node.engine().recover(false, silent()).await.unwrap();
    (early, late)
}

async fn is_well(node: &Node, version: &str) {
    assert_eq!(node.version().as_deref(), Some(version));
    assert!(!node.roots.transaction().exists());
    let status = node.engine().status().await.unwrap();
    assert!(status.healthy, "{status:?}");
    assert!(!node.engine().interrupted().unwrap());
}

#[tokio::test]
async fn a_release_that_fails_only_after_a_reboot_is_left_again() {
    let node = Node::on_release_1().await;
    node.publish_story("[container.process.env]\nBEHAVE = \"exit-after-boot\"\n");
    let node = in_probation_of("r:3", node).await;
    let (early, late) = boot(&node).await;
    assert_eq!(
        (early.kind, late.kind),
        (OutcomeKind::Done, OutcomeKind::RolledBack)
    );
    is_well(&node, "1").await;
    assert_eq!(node.engine().status().await.unwrap().rejected.len(), 1);
}

#[tokio::test]
async fn a_clock_that_jumps_while_the_node_is_up_changes_nothing() {
    for years in [-50, -1, 1, 50] {
        let node = Node::on_release_1().await;
        let world = node.world.clone();
        let sink: EventSink = Arc::new(move |event| {
            if event.phase == Phase::Probation {
                world.script().clock_off = years * YEARS;
            }
        });
        let options = UpgradeOptions::default();
        let outcome = node.engine().upgrade(Some("r:2"), options, sink).await.unwrap();
        assert_eq!(outcome.kind, OutcomeKind::Done, "{years} years");
        is_well(&node, "2").await;

        let node = in_probation_of("r:2", Node::on_release_1().await).await;
        node.world.script().clock_off = years * YEARS;
        let outcome = node.engine().recover(false, silent()).await.unwrap();
        assert_eq!(outcome.kind, OutcomeKind::Done, "noded killed, {years} years");
        is_well(&node, "2").await;
    }
}

/// Forward, nobody can tell it from a node that was off for so long: it goes back. Backward, its tries end it.
#[tokio::test]
async fn a_clock_that_jumps_over_a_boot_neither_loses_nor_loops() {
    for (years, version) in [(-50, "2"), (-1, "2"), (1, "1"), (50, "1")] {
        let node = in_probation_of("r:2", Node::on_release_1().await).await;
        node.world.script().clock_off = years * YEARS;
        boot(&node).await;
        is_well(&node, version).await;
        let again = node.upgrade("r:2").await.unwrap();
        assert!(
            matches!(again.kind, OutcomeKind::Done | OutcomeKind::NothingToDo),
            "{again:?}"
        );

        let node = in_probation_of("r:2", Node::on_release_1().await).await;
        let mut boots = 0;
        while node.roots.transaction().exists() && boots < 10 {
            boots += 1;
            node.world.script().clock_off = boots * years * YEARS / 10;
            node.world.reboot();
            let early = node.engine().recover(true, silent()).await.unwrap();
            if early.kind == OutcomeKind::RolledBack {
                node.world.start_all();
                node.engine().recover(false, silent()).await.unwrap();
            }
        }
        assert!(boots <= 3, "{years} years: {boots} boots");
        is_well(&node, "1").await;
    }
}

fn lead_current_to(node: &Node, target: Option<&str>) {
    std::fs::remove_file(node.roots.current()).unwrap();
    if let Some(target) = target {
        std::os::unix::fs::symlink(Path::new(target), node.roots.current()).unwrap();
    }
}

#[tokio::test]
async fn a_node_that_lost_current_boots_into_what_ran_last() {
    for target in [None, Some("deployments/77"), Some("deplo\u{1}ments/2"), Some("")] {
        let node = Node::on_release_1().await;
        node.upgrade("r:2").await.unwrap();
        match target {
            // Not a link any more.
            Some("") => {
                std::fs::remove_file(node.roots.current()).unwrap();
                std::fs::write(node.roots.current(), "x").unwrap();
            }
            other => lead_current_to(&node, other),
        }
        if target.is_none() {
            let status = node.engine().status().await.unwrap();
            assert!(
                !status.healthy && status.warnings[0].contains("deployment 2 ran last"),
                "{status:?}"
            );
        }
        node.world.script().calls.clear();
        let (early, _) = boot(&node).await;
        assert!(
            early.message.contains("deployment 2 is current again"),
            "{}",
            early.message
        );
        assert_eq!(
            node.world.script().calls[..2],
            ["reload", "enqueue nodectl-services.target"]
        );
        is_well(&node, "2").await;
        let history = node.engine().history(1).unwrap();
        assert!(history[0].reason.as_deref().unwrap().contains("lost"));
        assert_eq!(
            node.engine().rollback(None, false, silent()).await.unwrap().kind,
            OutcomeKind::Done
        );
    }
}

#[tokio::test]
async fn of_what_ran_the_last_that_is_whole_is_taken() {
    let node = Node::on_release_1().await;
    node.upgrade("r:2").await.unwrap();
    lead_current_to(&node, None);
    let two = node.roots.deployments().join("2");
    std::fs::write(two.join("deployment.json"), "{").unwrap();
    boot(&node).await;
    is_well(&node, "1").await;
}

#[tokio::test]
async fn a_node_that_is_empty_on_purpose_stays_empty() {
    let node = Node::empty();
    node.publish_story(super::node::EXITS);
    let engine = node.engine();
    let download_only = UpgradeOptions {
        download_only: true,
        ..UpgradeOptions::default()
    };
    engine
        .upgrade(Some("r:1"), download_only, silent())
        .await
        .unwrap();
    assert_eq!(node.upgrade("r:3").await.unwrap().kind, OutcomeKind::RolledBack);
    let (early, late) = boot(&node).await;
    assert_eq!(
        (early.kind, late.kind),
        (OutcomeKind::NothingToDo, OutcomeKind::NothingToDo)
    );
    assert_eq!(node.version(), None);
}

#[tokio::test]
async fn a_node_that_lost_its_journal_stays_on_what_is_current_and_says_so() {
    for damage in [None, Some("{\"format\": 1, \"id\""), Some("")] {
        let node = in_probation_of("r:2", Node::on_release_1().await).await;
        match damage {
            None => std::fs::remove_file(node.roots.transaction()).unwrap(),
            Some(bytes) => std::fs::write(node.roots.transaction(), bytes).unwrap(),
        }
        assert!(node.engine().interrupted().unwrap());
        boot(&node).await;
        is_well(&node, "2").await;
        let history = node.engine().history(1).unwrap();
        assert_eq!(history[0].result, OperationResult::Done);
        assert!(history[0].reason.as_deref().unwrap().contains("journal is gone"));
        assert_eq!(node.roots.damaged_transaction().exists(), damage.is_some());
        node.engine().gc(false).await.unwrap();
        assert!(!node.roots.damaged_transaction().exists());
        assert_eq!(
            node.engine().rollback(None, false, silent()).await.unwrap().kind,
            OutcomeKind::Done
        );
        is_well(&node, "1").await;
    }
}

/// Followed, each of these would leave the node on nothing or on what nobody was about to leave, would remove a
/// directory elsewhere, or would stay open for ever.
#[tokio::test]
async fn a_journal_that_is_of_no_use_here_is_set_aside() {
    let changes = [
        ("/movement/from", json!(9)),
        ("/movement/from", json!(2)),
        ("/movement/to", json!(6)),
        ("/id", json!("../../..")),
        ("/id", json!("/")),
        ("/id", json!("")),
        ("/release/digest", json!("sha256:../../x")),
        ("/phase", json!("idle")),
        ("/phase", json!("reverting")),
    ];
    for (place, value) in changes {
        let node = in_probation_of("r:2", Node::on_release_1().await).await;
        let path = node.roots.transaction();
        let mut journal: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        *journal.pointer_mut(place).unwrap() = value.clone();
        std::fs::write(&path, journal.to_string()).unwrap();
        boot(&node).await;
        assert!(node.roots.damaged_transaction().exists(), "{place} {value}");
        assert!(!path.exists(), "{place} {value}");
        is_well(&node, "2").await;
        assert_eq!(
            std::fs::read_link(node.roots.current()).unwrap(),
            node.roots.current_target(Seq(2)),
            "{place} {value}"
        );
    }
}

#[tokio::test]
async fn a_journal_of_a_newer_version_is_left_alone() {
    let node = Node::on_release_1().await;
    std::fs::write(node.roots.transaction(), r#"{"format": 99}"#).unwrap();
    node.engine().recover(false, silent()).await.unwrap_err();
    assert_eq!(
        std::fs::read(node.roots.transaction()).unwrap(),
        br#"{"format": 99}"#
    );
}

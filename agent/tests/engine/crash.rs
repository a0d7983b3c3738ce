//! A killed engine: at every event, and over reboots.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use node_agent::api::{OperationResult, OutcomeKind, Phase};
use node_agent::deployment::Seq;
use node_agent::engine::{EventSink, UpgradeOptions, silent};

use super::node::{EXITS, Node, release};

/// A sink in which the process dies at the n-th event. The lock goes with the unwound stack, as
/// flock(2) does with a process.
fn deadly(at: u64) -> (EventSink, Arc<AtomicU64>) {
    let seen = Arc::new(AtomicU64::new(0));
    let count = seen.clone();
    let sink: EventSink = Arc::new(move |_| {
        if count.fetch_add(1, Ordering::SeqCst) + 1 == at {
            std::panic::resume_unwind(Box::new("killed"));
        }
    });
    (sink, seen)
}

/// Upgrades and is killed at the n-th event; false if it ended before.
async fn killed_at(node: &Node, reference: &'static str, at: u64) -> bool {
    let engine = node.engine();
    let (sink, _) = deadly(at);
    let work = tokio::spawn(async move {
        engine
            .upgrade(Some(reference), UpgradeOptions::default(), sink)
            .await
            .map(drop)
    });
    work.await.is_err()
}

async fn settles(reference: &'static str, allowed: &[&str], reboot: bool) {
    let mut at = 1;
    loop {
        let node = Node::on_release_1().await;
        node.publish_story(EXITS);
        if !killed_at(&node, reference, at).await {
            assert!(at > 15, "the walk over all events was short");
            return;
        }
        if reboot {
            node.world.reboot();
            node.engine().recover(true, silent()).await.unwrap();
            node.world.start_all();
        }
        node.engine().recover(false, silent()).await.unwrap();
        let version = node.version().unwrap();
        assert!(
            allowed.contains(&version.as_str()),
            "killed at event {at}: on {version}"
        );
        assert!(
            !node.roots.transaction().exists(),
            "killed at event {at}: still open"
        );
        let status = node.engine().status().await.unwrap();
        let told = node.engine().history(1).unwrap().remove(0);
        assert!(
            told.result != OperationResult::Done || told.to == status.deployment,
            "killed at event {at}: {told:?}"
        );
        let next = node.upgrade("r:2").await.unwrap();
        assert!(
            matches!(next.kind, OutcomeKind::Done | OutcomeKind::NothingToDo),
            "killed at event {at}: {next:?}"
        );
        assert_eq!(node.version().as_deref(), Some("2"));
        at += 1;
    }
}

#[tokio::test]
async fn killed_anywhere_in_an_upgrade_it_is_the_old_or_the_new() {
    settles("r:2", &["1", "2"], false).await;
}

#[tokio::test]
async fn power_lost_anywhere_in_an_upgrade_it_is_the_old_or_the_new() {
    settles("r:2", &["1", "2"], true).await;
}

#[tokio::test]
async fn killed_anywhere_in_a_failing_upgrade_it_is_the_old() {
    settles("r:3", &["1"], false).await;
}

#[tokio::test]
async fn power_lost_anywhere_in_a_failing_upgrade_it_is_the_old() {
    settles("r:3", &["1"], true).await;
}

/// Leaves a node in the probation of release 2.
async fn in_probation() -> Node {
    in_probation_of("r:2", Node::on_release_1().await).await
}

/// A sink in which the process dies when the probation begins.
fn deadly_in_probation() -> EventSink {
    Arc::new(|event| {
        if event.phase == Phase::Probation {
            std::panic::resume_unwind(Box::new("killed"));
        }
    })
}

/// Leaves this node in the probation of a release.
pub async fn in_probation_of(reference: &'static str, node: Node) -> Node {
    let engine = node.engine();
    let sink = deadly_in_probation();
    let work = tokio::spawn(async move {
        engine
            .upgrade(Some(reference), UpgradeOptions::default(), sink)
            .await
            .map(drop)
    });
    assert!(work.await.is_err());
    assert!(node.roots.transaction().exists());
    node
}

#[tokio::test]
async fn killed_anywhere_in_a_failing_upgrade_garbage_collection_leaves_both_ends() {
    let mut open = 0;
    for at in 1.. {
        let node = Node::on_release_1().await;
        node.configure("[retention]\nkeep = 0\n");
        if !killed_at(&node, "r:3", at).await {
            break;
        }
        if node.roots.transaction().exists() {
            open += 1;
            let removed = node.engine().gc(false).await.unwrap().deployments;
            assert_eq!(removed, [], "killed at event {at}");
        }
    }
    assert!(open > 5, "the walk over an open transaction was short");
}

#[tokio::test]
async fn garbage_collection_leaves_where_an_interrupted_rollback_began() {
    let node = Node::on_release_1().await;
    node.configure("[retention]\nkeep = 0\n");
    node.world.publish("r:4", release("4", &[("base", "4", "")]));
    node.upgrade("r:2").await.unwrap();
    node.upgrade("r:4").await.unwrap();
    let engine = node.engine();
    let work = tokio::spawn(async move {
        engine
            .rollback(None, false, deadly_in_probation())
            .await
            .map(drop)
    });
    assert!(work.await.is_err());
    assert_eq!(
        node.version().as_deref(),
        Some("2"),
        "whose previous is the first"
    );
    assert_eq!(node.engine().gc(false).await.unwrap().deployments, []);
    assert!(node.roots.deployment(Seq(3)).exists());
    node.engine().recover(false, silent()).await.unwrap();
    assert!(!node.roots.transaction().exists());
}

#[tokio::test]
async fn a_node_that_never_gets_through_goes_back_at_boot_by_itself() {
    let node = in_probation().await;
    let mut boots = 0;
    loop {
        node.world.reboot();
        let outcome = node.engine().recover(true, silent()).await.unwrap();
        boots += 1;
        if outcome.kind == OutcomeKind::RolledBack {
            break;
        }
        assert!(boots < 10, "it would boot for ever");
    }
    let calls = node.world.script().calls.clone();
    assert_eq!(
        calls[calls.len() - 2..],
        ["reload", "enqueue nodectl-services.target"],
        "systemd learns what is current now, and nothing waits for services that are ordered after this"
    );
    assert_eq!(
        boots, 3,
        "three tries: the activation and two boots; the third boot goes back"
    );
    node.world.start_all();
    assert_eq!(node.version().as_deref(), Some("1"));
    node.engine().recover(false, silent()).await.unwrap();
    assert!(!node.roots.transaction().exists());
    assert_eq!(node.engine().status().await.unwrap().rejected.len(), 1);
}

#[tokio::test]
async fn a_boot_and_the_engine_after_it_are_one_try() {
    let node = in_probation().await;
    node.world.reboot();
    node.engine().recover(true, silent()).await.unwrap();
    let left = node
        .engine()
        .status()
        .await
        .unwrap()
        .transaction
        .unwrap()
        .tries_left;
    node.world.start_all();
    let outcome = node.engine().recover(false, silent()).await.unwrap();
    assert_eq!((outcome.kind, left), (OutcomeKind::Done, 1));
    assert_eq!(node.version().as_deref(), Some("2"));
}

#[tokio::test]
async fn settling_for_a_boot_does_nothing_in_the_boot_of_the_transaction() {
    let node = in_probation().await;
    let journal = std::fs::read(node.roots.transaction()).unwrap();
    node.world.script().calls.clear();
    let outcome = node.engine().recover(true, silent()).await.unwrap();
    assert_eq!(outcome.kind, OutcomeKind::NothingToDo);
    node.world.reboot();
    node.engine().recover(true, silent()).await.unwrap();
    let taken = std::fs::read(node.roots.transaction()).unwrap();
    assert_ne!(taken, journal);
    node.engine().recover(true, silent()).await.unwrap();
    assert_eq!(
        std::fs::read(node.roots.transaction()).unwrap(),
        taken,
        "one boot takes one try, however often it is asked"
    );
    assert_eq!(node.world.script().calls, [""; 0]);
}

#[tokio::test]
async fn a_transaction_found_open_after_its_deadline_goes_back_without_blame() {
    for reboot in [false, true] {
        let node = in_probation().await;
        node.world.script().elapsed += Duration::from_secs(24 * 3600);
        if reboot {
            node.world.reboot();
            let outcome = node.engine().recover(true, silent()).await.unwrap();
            assert_eq!(outcome.kind, OutcomeKind::RolledBack);
            node.world.start_all();
        }
        node.engine().recover(false, silent()).await.unwrap();
        assert_eq!(node.version().as_deref(), Some("1"));
        assert!(!node.roots.transaction().exists());
        let status = node.engine().status().await.unwrap();
        assert!(status.rejected.is_empty());
        let history = node.engine().history(1).unwrap();
        assert!(history[0].reason.as_deref().unwrap().contains("deadline"));
    }
}

/// The operator's parameters and what the node runs say the same, wherever a `set` is killed.
#[tokio::test]
async fn a_killed_set_leaves_parameters_that_fit_the_deployment() {
    let mut at = 1;
    let mut reverted = 0;
    loop {
        let node = Node::on_release_1().await;
        let engine = node.engine();
        let (sink, _) = deadly(at);
        let change = BTreeMap::from([("level".to_owned(), Some("7".to_owned()))]);
        let work = tokio::spawn(async move { engine.set(&change, sink).await.map(drop) });
        let killed = work.await.is_err();
        let file = node.roots.operator_parameters();
        if node.roots.transaction().exists() {
            let before = std::fs::read_to_string(&file).unwrap_or_default();
            assert!(
                !before.contains('7') || phase(&node) == "blessed",
                "written before it was blessed"
            );
            // A node that was off for a day goes back if it can.
            node.world.script().elapsed += Duration::from_secs(24 * 3600);
        }
        let outcome = node.engine().recover(false, silent()).await.unwrap();
        reverted += u32::from(outcome.kind == OutcomeKind::RolledBack);
        let current = node.roots.current().join("services/compute/files/0-level");
        let runs_7 = std::fs::read_to_string(current).unwrap().contains('7');
        let says_7 = std::fs::read_to_string(&file).unwrap_or_default().contains('7');
        assert_eq!(runs_7, says_7, "killed at event {at}");
        node.version().unwrap();
        if !killed {
            assert!(runs_7 && reverted > 3, "{reverted} of {at} were reverted");
            return;
        }
        at += 1;
    }
}

fn phase(node: &Node) -> String {
    let journal = std::fs::read(node.roots.transaction()).unwrap();
    let journal: serde_json::Value = serde_json::from_slice(&journal).unwrap();
    journal["phase"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn nothing_begins_while_a_transaction_is_open() {
    let node = in_probation().await;
    let error = node.upgrade("r:1").await.unwrap_err();
    assert_eq!(error.exit_code() as u8, 75);
    assert!(error.hint_text().unwrap().contains("recover"));
}

#[tokio::test]
async fn gc_takes_what_interrupted_writes_and_removals_left() {
    let node = Node::on_release_1().await;
    let before = node.fingerprint();
    let staging = node.roots.deployments().join(".staging-7");
    std::fs::create_dir(&staging).unwrap();
    for left in [
        node.roots.state.join(".transaction.json.tmp.12.3"),
        staging.join("half"),
    ] {
        std::fs::write(left, "half").unwrap();
    }
    std::os::unix::fs::symlink("deployments/9", node.roots.state.join(".current.tmp.12.4")).unwrap();
    node.engine().gc(true).await.unwrap();
    assert!(staging.exists(), "a dry run changes nothing");
    node.engine().gc(false).await.unwrap();
    assert_eq!(node.fingerprint(), before);
    assert!(!staging.exists());
}

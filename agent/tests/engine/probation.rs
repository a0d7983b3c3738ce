//! Gates, crashes in the window, state that is restored, vetoes.

use std::time::Duration;

use node_agent::api::{EventKind, OutcomeKind};
use node_agent::definition::Scope;

use super::node::{DEAF, EXITS, LEVEL_FILE, Node, recorder, release};

#[tokio::test]
async fn a_service_that_never_answers_leads_back() {
    let node = Node::on_release_1().await;
    node.publish_story(DEAF);
    let outcome = node.upgrade("r:3").await.unwrap();
    assert_eq!(outcome.kind, OutcomeKind::RolledBack);
    assert!(outcome.failure.unwrap().reason.contains("compute answers"));
    assert_eq!(node.version().as_deref(), Some("1"));
}

#[tokio::test]
async fn a_crash_in_the_window_leads_back() {
    let node = Node::on_release_1().await;
    let now = node.world.script().elapsed;
    node.world.script().crash_at = Some(("base".into(), now + Duration::from_secs(3)));
    let outcome = node.upgrade("r:2").await.unwrap();
    assert_eq!(outcome.kind, OutcomeKind::RolledBack);
    assert!(outcome.message.contains("crashed"), "{}", outcome.message);
}

#[tokio::test]
async fn a_failing_first_installation_leaves_an_empty_node() {
    let node = Node::empty();
    node.publish_story(EXITS);
    let outcome = node.upgrade("r:3").await.unwrap();
    assert_eq!((outcome.kind, outcome.current), (OutcomeKind::RolledBack, None));
    assert_eq!(node.version(), None);
    let calls = node.world.script().calls.clone();
    let stops: Vec<&String> = calls.iter().filter(|c| c.starts_with("stop")).collect();
    assert_eq!(
        stops,
        ["stop net.service", "stop base.service"],
        "last started, first stopped"
    );
}

#[tokio::test]
async fn a_closed_gate_before_the_stop_vetoes_and_nothing_is_touched() {
    let node = Node::on_release_1().await;
    let before = node.world.pids();
    node.world.script().closed_gates.insert("compute may stop".into());
    let error = node.upgrade("r:2").await.unwrap_err();
    assert_eq!(error.exit_code() as u8, 75);
    assert!(error.to_string().contains("compute"), "{error}");
    assert_eq!(node.world.pids(), before);
    assert!(node.world.script().calls.is_empty());
    assert!(!node.roots.transaction().exists());
    assert_eq!(node.version().as_deref(), Some("1"));
}

#[tokio::test]
async fn state_comes_back_on_the_way_back_only() {
    let node = Node::empty();
    let db = node.base.path().join("conf.db");
    let state = format!("[[state]]\npath = {:?}\n", db.display().to_string());
    let with = |version: &str, image: &str, more: &str| {
        release(version, &[("base", image, &format!("{state}{more}"))])
    };
    node.world.publish("r:1", with("1", "1", LEVEL_FILE));
    node.world.publish("r:2", with("2", "2", LEVEL_FILE));
    node.world.publish("r:3", with("3", "3", DEAF));
    node.upgrade("r:1").await.unwrap();
    std::fs::write(&db, "old").unwrap();
    node.upgrade("r:2").await.unwrap();
    std::fs::write(&db, "newer").unwrap();

    let world = node.world.clone();
    let converted = db.clone();
    let sink: node_agent::engine::EventSink = std::sync::Arc::new(move |event| {
        if format!("{:?}", event.kind).contains("starting")
            && !world.script().calls.iter().any(|c| c == "converted")
        {
            world.script().calls.push("converted".into());
            std::fs::write(&converted, "converted by 3").unwrap();
        }
    });
    node.world.script().calls.clear();
    let outcome = node
        .engine()
        .upgrade(Some("r:3"), Default::default(), sink)
        .await
        .unwrap();
    assert_eq!(outcome.kind, OutcomeKind::RolledBack);
    assert_eq!(std::fs::read_to_string(&db).unwrap(), "newer");
}

/// A gate whose trouble is not the node's.
const REMOTE_GATE: &str = "[[gates]]\nname = \"queue answers\"\nkind = \"tcp\"\naddress = \"192.0.2.1:5672\"\nwhen = [\"post-start\", \"probation\"]\nattempts = 2\nscope = \"remote\"\n";

/// Upgrades to a release whose remote gate is closed; how long it took, and the warnings.
async fn with_a_dead_queue(opens_after: Option<u64>) -> (Node, Duration, Vec<String>) {
    let node = Node::on_release_1().await;
    node.world.publish(
        "r:2",
        release(
            "2",
            &[("base", "1", ""), ("net", "1", ""), ("compute", "2", REMOTE_GATE)],
        ),
    );
    let before = {
        let mut script = node.world.script();
        script.closed_gates.insert("queue answers".into());
        script.gates_open_at = opens_after.map(|sec| script.elapsed + Duration::from_secs(sec));
        script.elapsed
    };
    let (sink, events) = recorder();
    let outcome = node
        .engine()
        .upgrade(Some("r:2"), Default::default(), sink)
        .await
        .unwrap();
    assert_eq!(outcome.kind, OutcomeKind::Done, "{outcome:?}");
    assert_eq!(node.version().as_deref(), Some("2"));
    let took = node.world.script().elapsed - before;
    let warnings = events
        .lock()
        .unwrap()
        .iter()
        .filter_map(|event| match &event.kind {
            EventKind::Warning { message } => Some(message.clone()),
            _ => None,
        })
        .collect();
    (node, took, warnings)
}

#[tokio::test]
async fn a_dead_queue_holds_the_probation_open_and_leads_nowhere() {
    let (_node, took, warnings) = with_a_dead_queue(None).await;
    // The attempts after the start, the window of 5 s and the hold of 30 s.
    assert!((35..40).contains(&took.as_secs()), "{took:?}");
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("held open") && warnings[0].contains("queue answers"));
    assert!(warnings[1].contains("blessed although") && warnings[1].contains("it is closed"));
}

#[tokio::test]
async fn a_queue_that_comes_back_ends_the_hold() {
    let (_node, took, warnings) = with_a_dead_queue(Some(15)).await;
    assert!((15..18).contains(&took.as_secs()), "{took:?}");
    assert_eq!(warnings.len(), 1, "{warnings:?}");
}

#[tokio::test]
async fn a_local_gate_that_meets_remote_trouble_holds_and_leads_nowhere() {
    let node = Node::on_release_1().await;
    let before = {
        let mut script = node.world.script();
        script.closed_gates.insert("heartbeat".into());
        script.whose = Some(Scope::Remote);
        script.gates_open_at = Some(script.elapsed + Duration::from_secs(20));
        script.elapsed
    };
    let gate = "[[gates]]\nname = \"heartbeat\"\nkind = \"nova-heartbeat\"\ncommand = [\"/bin/x\"]\nwhen = [\"probation\"]\nattempts = 2\n";
    node.world.publish(
        "r:2",
        release(
            "2",
            &[("base", "1", ""), ("net", "1", ""), ("compute", "2", gate)],
        ),
    );
    let outcome = node.upgrade("r:2").await.unwrap();
    assert_eq!(outcome.kind, OutcomeKind::Done, "{outcome:?}");
    let took = node.world.script().elapsed - before;
    assert!((20..23).contains(&took.as_secs()), "{took:?}");
}

#[tokio::test]
async fn a_crash_while_the_probation_is_held_open_leads_back() {
    let node = Node::on_release_1().await;
    node.world.publish(
        "r:2",
        release(
            "2",
            &[("base", "1", ""), ("net", "1", ""), ("compute", "2", REMOTE_GATE)],
        ),
    );
    {
        let mut script = node.world.script();
        script.closed_gates.insert("queue answers".into());
        script.crash_at = Some(("compute".into(), script.elapsed + Duration::from_secs(20)));
    }
    let outcome = node.upgrade("r:2").await.unwrap();
    assert_eq!(outcome.kind, OutcomeKind::RolledBack);
    assert!(outcome.message.contains("crashed"), "{}", outcome.message);
}

#[tokio::test]
async fn what_nobody_can_be_asked_about_delays_no_stop() {
    let gate = "[[gates]]\nname = \"nothing is in progress\"\nkind = \"exec\"\ncommand = [\"/bin/x\"]\nwhen = [\"pre-stop\"]\ninterval_ms = 5000\nattempts = 24\n";
    // Whose trouble it is, how the upgrade ends, and within how many seconds.
    let table = [(Scope::Remote, true, 0..10), (Scope::Local, false, 110..120)];
    for (whose, done, seconds) in table {
        let node = Node::empty();
        for version in ["1", "2"] {
            let services = [("base", "1", ""), ("net", "1", ""), ("compute", version, gate)];
            node.world
                .publish(&format!("r:{version}"), release(version, &services));
        }
        node.upgrade("r:1").await.unwrap();
        let before = {
            let mut script = node.world.script();
            script.closed_gates.insert("nothing is in progress".into());
            script.whose = Some(whose);
            script.elapsed
        };
        let ended = node.upgrade("r:2").await;
        assert_eq!(ended.is_ok(), done, "{ended:?}");
        let took = node.world.script().elapsed - before;
        assert!(seconds.contains(&took.as_secs()), "{whose:?}: {took:?}");
    }
}

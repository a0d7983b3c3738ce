//! Gates, crashes in the window, state that is restored, vetoes.

use std::time::Duration;

use node_agent::api::OutcomeKind;

use super::node::{DEAF, EXITS, LEVEL_FILE, Node, release};

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

//! Single services are stopped and restarted only if nothing stands against it, as with an upgrade.

use node_agent::api::EventKind;
use node_agent::engine::silent;
use node_agent::error::AgentError;

use super::node::{Node, recorder, release};

const NET: &str = "net may stop";

/// A node with `base`, which guests need, `net`, and `compute`; all run.
async fn node() -> Node {
    let node = Node::empty();
    let services = [("base", "1", ""), ("net", "1", ""), ("compute", "1", "")];
    let mut document = release("1", &services);
    document.services.get_mut("base").unwrap().disruption = node_agent::api::Disruption::WhenDrained;
    node.world.publish("r:1", document);
    node.upgrade("r:1").await.unwrap();
    node.world.script().calls.clear();
    node
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn refused(error: &AgentError, why: &str) {
    assert_eq!(error.exit_code() as u8, 75);
    assert!(error.chain().contains(why), "{}", error.chain());
    assert!(error.hint_text().unwrap().contains("--force"));
}

#[tokio::test]
async fn a_gate_that_objects_is_heard_before_anything_is_touched() {
    let node = node().await;
    node.world.script().closed_gates.insert(NET.into());
    let both = names(&["compute", "net"]);
    for verb in ["stop", "restart"] {
        let error = match verb {
            "stop" => node.engine().stop(&both, false, silent()).await,
            _ => node.engine().restart(&both, false, silent()).await,
        };
        refused(
            &error.unwrap_err(),
            "service net must not be stopped now: gate \"net may stop\": it is closed",
        );
        assert!(node.world.script().calls.is_empty(), "{verb} touched something");
    }
    node.engine()
        .stop(&names(&["compute"]), false, silent())
        .await
        .unwrap();
    node.engine().start(&names(&["compute"]), silent()).await.unwrap();
}

#[tokio::test]
async fn what_is_forced_is_told() {
    let node = node().await;
    node.world.script().closed_gates.insert(NET.into());
    let (sink, events) = recorder();
    node.engine().restart(&names(&["net"]), true, sink).await.unwrap();
    assert_eq!(node.world.script().calls, ["restart net.service"], "one job");
    let told = events.lock().unwrap().iter().any(|event| {
        matches!(&event.kind, EventKind::Warning { message } if message.contains("service net must not be stopped now"))
    });
    assert!(told);
}

#[tokio::test]
async fn what_guests_need_stays_up_while_there_are_any() {
    let node = node().await;
    let base = names(&["base"]);
    node.world.script().guests = 2;
    let error = node.engine().stop(&base, false, silent()).await.unwrap_err();
    refused(
        &error,
        "service base must not be stopped now, and is needed by guest 1, guest 2",
    );
    node.engine().restart(&base, false, silent()).await.unwrap_err();
    assert!(node.world.script().calls.is_empty());

    node.engine().stop(&base, true, silent()).await.unwrap();
    // It is down: to start it takes nothing from anybody.
    node.engine().restart(&base, false, silent()).await.unwrap();
    node.world.script().guests = 0;
    node.engine().restart(&base, false, silent()).await.unwrap();
}

#[tokio::test]
async fn a_restart_that_does_not_work_says_so() {
    let node = node().await;
    node.world.script().closed_gates.insert("net answers".into());
    let error = node
        .engine()
        .restart(&names(&["net"]), false, silent())
        .await
        .unwrap_err();
    assert!(
        error
            .chain()
            .starts_with("service net was restarted: gate \"net answers\""),
        "{}",
        error.chain()
    );
    assert_eq!(error.detail_lines(), ["last words of net.service"]);
    let unknown = node
        .engine()
        .stop(&names(&["net", "nobody"]), false, silent())
        .await
        .unwrap_err();
    assert!(unknown.chain().contains("service nobody is not in deployment 1"));
}

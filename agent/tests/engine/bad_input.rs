//! Bad input gets a clear error with its exit code, and nothing changes.

use std::sync::Arc;

use node_agent::api::Phase;
use node_agent::engine::{EventSink, UpgradeOptions, silent};
use node_agent::error::Kind;
use node_agent::parameters::ParameterType;
use node_agent::release::Choice;
use node_images::store::Locked;
use serde_json::json;

use super::node::{LEVEL_FILE, Node, parameter, release};

/// A file of a service that uses the parameter `my_ip`.
const MY_IP_FILE: &str = "[[files]]\ntarget = \"/etc/ip\"\nformat = \"ini\"\n[files.content.DEFAULT]\nip = { parameter = \"my_ip\" }\n";

/// The upgrade fails with this code and these words, and nothing changed.
async fn refused(node: &Node, reference: &str, code: u8, words: &[&str]) {
    let (disk, pids) = (node.fingerprint(), node.world.pids());
    let error = node.upgrade(reference).await.unwrap_err();
    let text = error.chain();
    assert_eq!(error.exit_code() as u8, code, "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {text:?}");
    }
    assert_eq!(node.fingerprint(), disk, "something on disk changed");
    assert_eq!(node.world.pids(), pids, "a service was touched");
    assert!(node.world.script().calls.is_empty(), "systemd was asked");
}

#[tokio::test]
async fn an_unknown_configuration_key() {
    let node = Node::on_release_1().await;
    node.configure("[parameter]\nlevel = 1\n");
    refused(&node, "r:2", 78, &["node.toml", "parameter"]).await;
    let status = node.engine().status().await.unwrap();
    assert!(status.healthy, "what runs is shown all the same");
    assert!(status.warnings[0].contains("parameter"), "{:?}", status.warnings);
}

#[tokio::test]
async fn a_parameter_that_is_unknown_missing_or_of_another_type() {
    let node = Node::on_release_1().await;
    node.configure("[parameters]\nlevle = 1\n");
    refused(&node, "r:2", 78, &["levle", "did you mean level", "node.toml"]).await;
    node.configure("[parameters]\nlevel = \"high\"\n");
    refused(&node, "r:2", 78, &["level", "whole number", "node.toml"]).await;
    node.configure("");
    let mut needs = release("6", &[("base", "6", MY_IP_FILE)]);
    needs
        .parameters
        .insert("my_ip".into(), parameter(ParameterType::Ip, None, true));
    node.world.publish("r:6", needs);
    refused(&node, "r:6", 78, &["my_ip", "missing"]).await;
}

#[tokio::test]
async fn a_choice_that_the_release_does_not_offer() {
    let node = Node::on_release_1().await;
    let mut offers = release("6", &[("base", "6", ""), ("ovs", "6", ""), ("ovn", "6", "")]);
    let option = |name: &str| (name.to_owned(), vec![name.to_owned()]);
    let networking = Choice {
        description: String::new(),
        default: "ovs".into(),
        options: [option("ovs"), option("ovn")].into(),
    };
    offers.choices.insert("networking".into(), networking);
    node.world.publish("r:6", offers);
    node.configure("[choices]\nnetwork = \"ovn\"\n");
    refused(&node, "r:6", 78, &["choice network is", "node.toml"]).await;
    node.configure("[choices]\nnetworking = \"linuxbridge\"\n");
    refused(&node, "r:6", 78, &["linuxbridge", "ovn, ovs", "node.toml"]).await;
    node.configure("services = [\"base\", \"ovn\"]\n");
    refused(
        &node,
        "r:6",
        78,
        &["ovn is not part of networking = ovs", "node.toml"],
    )
    .await;

    let services = || {
        let names = node.world.pids().into_keys();
        names.map(|unit| unit.trim_end_matches(".service").to_owned())
    };
    for (text, expected) in [("", "ovs"), ("[choices]\nnetworking = \"ovn\"\n", "ovn")] {
        node.configure(text);
        node.upgrade("r:6").await.unwrap();
        assert_eq!(services().collect::<Vec<_>>(), ["base", expected], "{text}");
    }
}

#[tokio::test]
async fn a_service_or_override_that_the_release_does_not_have() {
    let node = Node::on_release_1().await;
    node.configure("services = [\"base\", \"nova\"]\n");
    refused(&node, "r:2", 78, &["nova", "node.toml"]).await;
    node.configure("[overrides.nova.files.\"/etc/x\".DEFAULT]\na = 1\n");
    refused(&node, "r:2", 78, &["overrides.nova"]).await;
    node.configure("[overrides.compute.files.\"/etc/x\".DEFAULT]\na = 1\n");
    refused(&node, "r:2", 78, &["/etc/x", "compute"]).await;
}

#[tokio::test]
async fn a_missing_secret() {
    let node = Node::on_release_1().await;
    let secret = "[[secret_files]]\ntarget = \"/etc/s\"\n[secret_files.content.a]\nb = { secret = \"the-password\" }\n";
    node.world.publish("r:7", release("7", &[("base", "1", secret)]));
    refused(&node, "r:7", 78, &["the-password", "secrets"]).await;
    std::fs::create_dir_all(node.roots.secrets()).unwrap();
    let value = "moonshine 8341";
    std::fs::write(node.roots.secrets().join("the-password"), value).unwrap();
    node.upgrade("r:7").await.unwrap();
    let holds = |text: &str| {
        let mut files = node.fingerprint();
        let history = node.roots.history();
        files.insert(history.display().to_string(), std::fs::read(&history).unwrap());
        let having = files
            .into_iter()
            .filter(|(_, bytes)| bytes.windows(text.len()).any(|w| w == text.as_bytes()));
        having.map(|(path, _)| path).collect::<Vec<_>>()
    };
    assert!(!holds("the-password").is_empty(), "it stands there by name");
    assert_eq!(holds(value), [] as [String; 0], "a secret is in the deployment");
}

#[tokio::test]
async fn a_release_that_is_not_signed() {
    let node = Node::on_release_1().await;
    node.world.script().trouble = Some(Kind::Verification);
    refused(&node, "r:2", 65, &["r:2", "not signed"]).await;
}

#[tokio::test]
async fn a_registry_that_is_down_or_breaks_off_halfway() {
    let node = Node::on_release_1().await;
    refused(&node, "r:404", 69, &["r:404"]).await;
    node.world.script().trouble = Some(Kind::Unavailable);
    refused(&node, "r:2", 69, &["layer sha256:abc"]).await;
}

#[tokio::test]
async fn no_space_before_and_halfway() {
    let node = Node::on_release_1().await;
    node.world.script().free = 1 << 20;
    refused(&node, "r:2", 73, &["not enough space", "reserve"]).await;
    node.world.script().free = 10 << 30;
    node.world.script().trouble = Some(Kind::CannotWrite);
    refused(&node, "r:2", 73, &["layer sha256:abc"]).await;
}

#[tokio::test]
async fn a_journal_that_cannot_be_begun() {
    let node = Node::on_release_1().await;
    node.upgrade("r:2").await.unwrap();
    node.world.script().calls.clear();
    let (state, away) = (node.roots.state.clone(), node.base.path().join("away"));
    let deployments = node.fingerprint();
    for kind in ["upgrade", "rollback"] {
        let (from, to) = (state.clone(), away.clone());
        let sink: EventSink = Arc::new(move |event| {
            if event.phase == Phase::Armed && from.exists() {
                std::fs::rename(&from, &to).unwrap();
            }
        });
        let (engine, pids) = (node.engine(), node.world.pids());
        let ended = match kind {
            "upgrade" => engine.upgrade(Some("r:1"), UpgradeOptions::default(), sink).await,
            _ => engine.rollback(None, false, sink).await,
        };
        let text = ended.unwrap_err().chain();
        std::fs::rename(&away, &state).unwrap();
        assert!(text.starts_with("can't write the journal"), "{kind}: {text}");
        assert!(!node.roots.transaction().exists(), "{kind}");
        assert_eq!(node.version().as_deref(), Some("2"), "{kind}");
        assert_eq!(node.world.pids(), pids, "{kind}: a service was touched");
        assert_eq!(node.world.script().calls, [""; 0], "{kind}: systemd was asked");
    }
    let left: Vec<String> = node.fingerprint().into_keys().collect();
    assert!(deployments.keys().all(|path| left.contains(path)));
    node.engine().rollback(None, false, silent()).await.unwrap();
    assert_eq!(node.version().as_deref(), Some("1"));
}

#[tokio::test]
async fn a_second_nodectl_at_the_same_time() {
    let node = Node::on_release_1().await;
    let held = Locked::acquire(&node.roots.lock()).unwrap();
    refused(
        &node,
        "r:2",
        75,
        &["another operation", &std::process::id().to_string()],
    )
    .await;
    assert!(
        node.engine().status().await.unwrap().healthy,
        "looking needs no lock"
    );
    drop(held);
    node.upgrade("r:2").await.unwrap();
}

#[tokio::test]
async fn a_host_that_lacks_what_the_release_needs() {
    let node = Node::on_release_1().await;
    node.world.publish(
        "r:8",
        release(
            "8",
            &[("base", "8", "[requires]\nkernel_modules = [\"openvswitch\"]\n")],
        ),
    );
    node.world.script().lacking.push("openvswitch".into());
    refused(&node, "r:8", 65, &["openvswitch"]).await;
}

#[tokio::test]
async fn values_that_would_add_a_line_to_a_file() {
    let node = Node::on_release_1().await;
    let mut evil = release("9", &[("base", "1", LEVEL_FILE)]);
    evil.parameters.insert(
        "level".into(),
        parameter(ParameterType::String, Some(json!("1")), false),
    );
    node.world.publish("r:9", evil);
    node.configure("[parameters]\nlevel = \"1\\n[evil]\\na = b\"\n");
    refused(&node, "r:9", 78, &["level", "one line"]).await;
}

#[tokio::test]
async fn services_that_wait_for_each_other() {
    let node = Node::on_release_1().await;
    let mut cycle = release("10", &[("base", "1", ""), ("net", "1", "")]);
    let base = cycle.services.get_mut("base").unwrap();
    base.unit
        .after
        .push(node_systemd::UnitName::parse("net.service").unwrap());
    node.world.publish("r:10", cycle);
    refused(&node, "r:10", 78, &["base", "net", "wait for each other"]).await;
}

#[tokio::test]
async fn a_journal_or_deployment_of_a_newer_version() {
    let node = Node::on_release_1().await;
    std::fs::write(node.roots.transaction(), r#"{"format": 99}"#).unwrap();
    refused(&node, "r:2", 1, &["transaction.json", "format 99"]).await;
    std::fs::write(node.roots.transaction(), "{").unwrap();
    refused(&node, "r:2", 65, &["transaction.json", "damaged"]).await;
}

#[tokio::test]
async fn a_service_whose_program_is_not_in_its_image() {
    let node = Node::on_release_1().await;
    let mut broken = release("6", &[("base", "6", "")]);
    let process = &mut broken.services.get_mut("base").unwrap().container.process;
    process.args = vec!["/bin/bsae".into()];
    node.world.publish("r:6", broken);
    refused(&node, "r:6", 65, &["base", "/bin/bsae", "not in the image"]).await;
}

//! Moves that guests, nova or a database would pay for are refused before anything is touched.

use node_agent::api::OutcomeKind;
use node_agent::engine::{UpgradeOptions, silent};
use node_agent::release::ReleaseDocument;
use node_agent::wayback::Guest;

use super::node::{Node, release};

const NOVA: &str = "org.nodectl.nova.service-version";
const QEMU: &str = "org.nodectl.qemu.machine-types";
const OVS: &str = "org.nodectl.ovs.schema-version";

const CELL: &str = "[cell]\ncommand = [\"/bin/cell\"]\n";

/// A release of the services that are judged, with these labels.
fn labelled(version: &str, nova: &str, qemu: &str, ovs: &str) -> ReleaseDocument {
    let services = [
        ("ovsdb-server", version, ""),
        ("libvirtd", version, ""),
        ("nova-compute", version, CELL),
    ];
    let mut document = release(version, &services);
    for (image, label, value) in [
        ("nova-compute", NOVA, nova),
        ("libvirtd", QEMU, qemu),
        ("ovsdb-server", OVS, ovs),
    ] {
        let binding = document.images.get_mut(image).unwrap();
        binding.labels.insert(label.into(), value.into());
    }
    document
}

/// A node that came from release 1 to 2, in a cell with these versions.
async fn moved(second: ReleaseDocument, own: u32, others: u32) -> Node {
    let node = Node::empty();
    node.world.publish("r:1", labelled("1", "64", "pc-7", "8.3.1"));
    node.world.publish("r:2", second);
    node.upgrade("r:1").await.unwrap();
    cell(&node, own, others);
    node.upgrade("r:2").await.unwrap();
    node.world.script().calls.clear();
    node
}

fn cell(node: &Node, own: u32, others: u32) {
    let answer = format!("{{\"own\": {own}, \"others\": {others}}}");
    node.world.script().answers.insert("versions".into(), answer);
}

fn untouched(node: &Node) -> bool {
    let calls = node.world.script().calls.clone();
    calls.iter().all(|c| c.starts_with("ask "))
}

#[tokio::test]
async fn a_rollback_that_nova_would_refuse_is_refused_first() {
    let node = moved(labelled("2", "66", "pc-7", "8.3.1"), 64, 64).await;
    cell(&node, 66, 66);
    let error = node.engine().rollback(None, false, silent()).await.unwrap_err();
    assert_eq!(error.exit_code() as u8, 75);
    assert!(error.to_string().contains("ServiceTooOld"), "{error}");
    assert!(untouched(&node) && !node.roots.transaction().exists());
    assert_eq!(node.version().as_deref(), Some("2"));
    // As long as another compute of the cell is as old, nova takes it.
    cell(&node, 66, 64);
    let outcome = node.engine().rollback(None, false, silent()).await.unwrap();
    assert_eq!(outcome.kind, OutcomeKind::Done);
    assert_eq!(node.version().as_deref(), Some("1"));
}

#[tokio::test]
async fn a_rollback_that_would_lose_guests_or_a_database_needs_force() {
    for second in [
        labelled("2", "64", "pc-7,pc-8", "8.3.1"),
        labelled("2", "64", "pc-7", "8.4.0"),
    ] {
        let node = moved(second, 64, 64).await;
        node.world.script().machines = vec![Guest {
            name: "web".into(),
            machine: Some("pc-8".into()),
            ..Guest::default()
        }];
        let error = node.engine().rollback(None, false, silent()).await.unwrap_err();
        assert_eq!(error.exit_code() as u8, 75, "{error}");
        assert!(untouched(&node));
        assert_eq!(node.version().as_deref(), Some("2"));
        let outcome = node.engine().rollback(None, true, silent()).await.unwrap();
        assert_eq!(outcome.kind, OutcomeKind::Done);
    }
}

#[tokio::test]
async fn a_cell_that_cannot_be_asked_stops_nobody() {
    let node = moved(labelled("2", "66", "pc-7", "8.3.1"), 64, 64).await;
    node.world.script().answers.clear();
    let outcome = node.engine().rollback(None, false, silent()).await.unwrap();
    assert_eq!(outcome.kind, OutcomeKind::Done);
}

#[tokio::test]
async fn a_plan_names_the_qemu_of_each_guest_and_who_keeps_another() {
    const PACKAGE: &str = "org.nodectl.package.qemu-system-x86";
    let node = moved(labelled("2", "64", "pc-7", "8.3.1"), 64, 64).await;
    let mut next = labelled("3", "64", "pc-7", "8.3.1");
    let libvirt = next.images.get_mut("libvirtd").unwrap();
    libvirt.labels.insert(PACKAGE.into(), "8.2".into());
    node.world.publish("r:3", next);
    let guest = |name: &str, pid| Guest {
        name: name.into(),
        machine: Some("pc-7".into()),
        pid,
        qemu: None,
    };
    {
        let mut script = node.world.script();
        script.machines = vec![guest("foreign", 8), guest("web", 7)];
        let image = *script.store.first().unwrap();
        script.holders = [(image, [7].into())].into();
        script.labels.insert(image, (PACKAGE.into(), "7.2".into()));
    }
    let plan = node.engine().plan(Some("r:3")).await.unwrap();
    let seen: Vec<_> = plan
        .guests
        .iter()
        .map(|g| (g.name.as_str(), g.qemu.as_deref()))
        .collect();
    assert_eq!(seen, [("foreign", None), ("web", Some("7.2"))]);
    assert!(
        plan.warnings
            .iter()
            .any(|w| w.contains("QEMU 7.2") && w.ends_with(": web")),
        "{plan:?}"
    );
}

#[tokio::test]
async fn a_plan_says_what_would_be_refused_and_whether_the_way_back_stays_open() {
    let node = moved(labelled("2", "64", "pc-7", "8.3.1"), 64, 64).await;
    assert!(
        untouched(&node),
        "nova is not asked where its version stays the same"
    );
    node.world
        .publish("r:3", labelled("3", "66", "pc-7,pc-8", "8.3.1"));
    cell(&node, 64, 66);
    let plan = node.engine().plan(Some("r:3")).await.unwrap();
    assert!(plan.refused.is_empty() && !plan.way_back.open, "{plan:?}");
    assert!(plan.way_back.notes[0].contains("ServiceTooOld"), "{plan:?}");
    cell(&node, 64, 64);
    let plan = node.engine().plan(Some("r:3")).await.unwrap();
    assert!(
        plan.way_back.open && plan.way_back.notes[0].contains("pc-8"),
        "{plan:?}"
    );
    // A machine type that newer QEMU gave up.
    node.world.publish("r:4", labelled("4", "64", "pc-8", "8.3.1"));
    node.world.script().machines = vec![Guest {
        name: "old".into(),
        machine: Some("pc-7".into()),
        ..Guest::default()
    }];
    let plan = node.engine().plan(Some("r:4")).await.unwrap();
    assert!(
        plan.refused[0].contains("pc-7") && plan.refused[0].ends_with("old"),
        "{plan:?}"
    );
    let error = node.upgrade("r:4").await.unwrap_err();
    assert_eq!(error.exit_code() as u8, 75);
    let forced = UpgradeOptions {
        force: true,
        ..UpgradeOptions::default()
    };
    let outcome = node
        .engine()
        .upgrade(Some("r:4"), forced, silent())
        .await
        .unwrap();
    assert_eq!(outcome.kind, OutcomeKind::Done);
}

#[tokio::test]
async fn a_label_that_makes_no_sense_is_named_and_nothing_is_touched() {
    let node = moved(labelled("2", "64", "pc-7", "8.3.1"), 64, 64).await;
    for (release, named) in [
        (labelled("3", "zed", "pc-7", "8.3.1"), NOVA),
        (labelled("3", "64", "pc,,q35", "8.3.1"), QEMU),
        (labelled("3", "64", "pc-7", "8.3"), OVS),
    ] {
        node.world.publish("r:3", release);
        let error = node.upgrade("r:3").await.unwrap_err();
        assert_eq!(error.exit_code() as u8, 65, "{}", error.chain());
        assert!(error.chain().contains(named), "{}", error.chain());
        assert!(untouched(&node));
    }
}

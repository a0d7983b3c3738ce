//! What a check finds, and which services it names.

use node_agent::api::FsckFinding;
use node_agent::deployment::{Deployment, Seq};
use node_agent::engine::Depth;

use super::node::Node;

fn services_of(findings: &[FsckFinding], word: &str) -> Vec<String> {
    let found: Vec<_> = findings
        .iter()
        .filter(|finding| finding.subject.ends_with(word))
        .collect();
    assert_eq!(found.len(), 1, "{findings:?}");
    found[0].services.clone()
}

#[tokio::test]
async fn a_finding_names_the_services_it_is_about() {
    let node = Node::on_release_1().await;
    node.upgrade("r:2").await.unwrap();
    let older = Deployment::load(&node.roots, Seq(1)).unwrap().bundle("net");
    std::fs::write(older.join("launch.json"), "{}").unwrap();
    let manifest = {
        let current = Deployment::load(&node.roots, Seq(2)).unwrap();
        current.document.services["compute"].manifest.to_string()
    };
    let image = |subject: &str, image: String| FsckFinding {
        subject: subject.into(),
        problem: "damaged".into(),
        images: vec![image],
        services: Vec::new(),
        repaired: false,
    };
    node.world.script().broken = vec![
        image("object 1", manifest),
        image("object 2", "sha256:of nobody".into()),
    ];
    let found = node.engine().fsck(Depth::Full).await.unwrap().findings;
    assert_eq!(services_of(&found, "object 1"), ["compute"]);
    assert_eq!(services_of(&found, "object 2"), [""; 0]);
    assert_eq!(services_of(&found, "1/services/net"), ["net"]);
}

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
    let manifest = |seq, name: &str| {
        let deployment = Deployment::load(&node.roots, Seq(seq)).unwrap();
        deployment.document.services[name].manifest.to_string()
    };
    let (present, past) = (manifest(2, "compute"), manifest(1, "compute"));
    assert_ne!(present, past);
    node.world.script().store.remove(&past.parse().unwrap());
    let units = Deployment::load(&node.roots, Seq(1)).unwrap().path.join("units");
    std::fs::write(units.join("compute.service"), "[Service]\n").unwrap();
    let image = |subject: &str, image: String| FsckFinding {
        subject: subject.into(),
        problem: "damaged".into(),
        images: vec![image],
        services: Vec::new(),
        repaired: false,
    };
    node.world.script().broken = vec![
        image("object 1", present),
        image("object 2", "sha256:of nobody".into()),
        image("object 3", past.clone()),
    ];
    let found = node.engine().fsck(Depth::Full).await.unwrap().findings;
    assert_eq!(services_of(&found, "object 1"), ["compute"]);
    assert_eq!(services_of(&found, "object 2"), [""; 0]);
    let why = "only a rollback would start it";
    assert_eq!(services_of(&found, "object 3"), ["compute"], "{why}");
    assert_eq!(services_of(&found, "1/services/net"), ["net"]);
    assert_eq!(services_of(&found, "1/services/net/launch.json"), ["net"]);
    assert_eq!(services_of(&found, "1/units/compute.service"), ["compute"]);
    let lost = found.iter().find(|finding| finding.problem.contains(&past));
    assert_eq!(lost.expect("its image is not in the store").services, ["compute"]);

    std::fs::remove_file(units.join("base.service")).unwrap();
    let found = node.engine().fsck(Depth::Full).await.unwrap().findings;
    let why = "also where the deployment can't be read for it";
    assert_eq!(services_of(&found, "1/units/base.service"), ["base"], "{why}");
}

/// It is told, and changed by none but a boot or noded.
#[tokio::test]
async fn a_current_that_leads_nowhere_is_found() {
    let node = Node::on_release_1().await;
    node.upgrade("r:2").await.unwrap();
    let clean = node.engine().fsck(Depth::Full).await.unwrap().findings;
    assert_eq!(clean, []);
    let link = node.roots.current();
    for (target, lost) in [
        (None, "is lost"),
        (
            Some("deployments/77"),
            "leads to deployment 77, which is not there",
        ),
    ] {
        // The second time it is gone already.
        let _ = std::fs::remove_file(&link);
        if let Some(target) = target {
            std::os::unix::fs::symlink(target, &link).unwrap();
        }
        let found = node.engine().fsck(Depth::Repair).await.unwrap().findings;
        let told: Vec<_> = found
            .iter()
            .map(|f| (f.subject.clone(), f.problem.clone()))
            .collect();
        let why = format!("{lost}; deployment 2 ran last");
        assert_eq!(told, [(link.display().to_string(), why)], "{target:?}");
        let left = std::fs::read_link(&link).ok();
        assert_eq!(left.as_deref(), target.map(std::path::Path::new));
    }
}

//! A node in a temporary directory, with releases to move it to.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use node_agent::api::{Event, Outcome};
use node_agent::definition::Definition;
use node_agent::deployment::{Deployment, current};
use node_agent::engine::{Engine, EventSink, UpgradeOptions, silent};
use node_agent::error::Result;
use node_agent::parameters::{ParameterSpec, ParameterType};
use node_agent::release::{FORMAT, ImageBinding, Probation, ReleaseDocument, ReleaseRequires};
use node_agent::root::Roots;
use node_images::digest::Digest;

use super::world::World;

/// A node.
pub struct Node {
    pub base: tempfile::TempDir,
    pub roots: Roots,
    pub world: World,
}

/// Service definitions of the releases here: `base` before `net` before `compute`.
pub fn definition(name: &str, more: &str) -> Definition {
    let after = match name {
        "compute" => "after = [\"net.service\"]",
        "net" => "after = [\"base.service\"]",
        _ => "",
    };
    let text = format!(
        r#"
format = 1
name = "{name}"
description = "service {name}"
image = "{name}"
[container.process]
args = ["/bin/{name}"]
[container.seccomp]
kind = "unconfined"
reason = "a test"
[unit]
{after}
[readiness]
kind = "started"
[[gates]]
name = "{name} answers"
kind = "exec"
command = ["/bin/true"]
when = ["post-start", "probation"]
attempts = 2
[[gates]]
name = "{name} may stop"
kind = "unit"
when = ["pre-stop"]
attempts = 1
{more}
"#
    );
    Definition::parse(&text, Path::new("test.toml")).unwrap()
}

/// A release of these services; `image` of a service changes with its version here.
pub fn release(version: &str, services: &[(&str, &str, &str)]) -> ReleaseDocument {
    let mut document = ReleaseDocument {
        format: FORMAT,
        name: "rel".into(),
        version: version.into(),
        images: BTreeMap::new(),
        services: BTreeMap::new(),
        choices: BTreeMap::new(),
        parameters: BTreeMap::new(),
        seccomp_profiles: BTreeMap::new(),
        probation: Probation {
            window_sec: 5,
            tries: 3,
            hold_sec: 30,
        },
        requires: ReleaseRequires::default(),
    };
    for (name, image_version, more) in services {
        document.services.insert((*name).into(), definition(name, more));
        let digest = Digest::of(format!("{name} {image_version}").as_bytes());
        let binding = ImageBinding {
            repository: (*name).into(),
            digest,
            size: 1,
            labels: BTreeMap::new(),
        };
        document.images.insert((*name).into(), binding);
    }
    document.parameters.insert(
        "level".into(),
        parameter(ParameterType::Integer, Some(1.into()), false),
    );
    document
        .parameters
        .insert("unused".into(), parameter(ParameterType::String, None, false));
    document
}

pub fn parameter(kind: ParameterType, default: Option<serde_json::Value>, required: bool) -> ParameterSpec {
    ParameterSpec {
        kind,
        default,
        required,
        description: "for tests".into(),
    }
}

/// A file that depends on the parameter `level`.
pub const LEVEL_FILE: &str = "[[files]]\ntarget = \"/etc/level\"\nformat = \"ini\"\n[files.content.DEFAULT]\nlevel = { parameter = \"level\" }\n";

/// A service that ends at once.
pub const EXITS: &str = "[container.process.env]\nBEHAVE = \"exit\"\n";

/// A service that comes up and never answers.
pub const DEAF: &str = "[container.process.env]\nBEHAVE = \"deaf\"\n";

impl Node {
    pub fn empty() -> Node {
        let base = tempfile::tempdir().unwrap();
        let roots = Roots::under(base.path());
        for directory in [&roots.state, &roots.config, &roots.run] {
            std::fs::create_dir_all(directory).unwrap();
        }
        let world = World::new(&roots);
        Node { base, roots, world }
    }

    /// A node with releases 1, 2 (another `compute`) and 3 (a `compute` that ends at once); runs 1.
    pub async fn on_release_1() -> Node {
        let node = Node::empty();
        node.publish_story(EXITS);
        node.upgrade("r:1").await.unwrap();
        node.world.script().calls.clear();
        node
    }

    pub fn publish_story(&self, broken: &str) {
        let same = [("base", "1", ""), ("net", "1", "")];
        let with = |image, more| [same[0], same[1], ("compute", image, more)];
        self.world.publish("r:1", release("1", &with("1", LEVEL_FILE)));
        self.world.publish("r:2", release("2", &with("2", LEVEL_FILE)));
        self.world.publish("r:3", release("3", &with("3", broken)));
    }

    pub fn engine(&self) -> Engine {
        Engine::new(self.roots.clone(), self.world.ports())
    }

    pub async fn upgrade(&self, reference: &str) -> Result<Outcome> {
        self.engine()
            .upgrade(Some(reference), UpgradeOptions::default(), silent())
            .await
    }

    pub fn configure(&self, text: &str) {
        std::fs::write(self.roots.node_toml(), text).unwrap();
    }

    /// The version the node runs, after checking that it runs all of it and nothing else.
    pub fn version(&self) -> Option<String> {
        let running: BTreeMap<String, String> = {
            let script = self.world.script();
            let digest = |(n, u): (&String, &super::world::Unit)| Some((n.clone(), u.process.clone()?.1));
            script.units.iter().filter_map(digest).collect()
        };
        let Some(seq) = current(&self.roots).unwrap() else {
            assert_eq!(running, BTreeMap::new(), "an empty node runs nothing");
            return None;
        };
        let deployment = Deployment::load(&self.roots, seq).unwrap();
        let wanted: BTreeMap<String, String> = deployment
            .document
            .services
            .iter()
            .map(|(n, s)| (format!("{n}.service"), s.digest.clone()))
            .collect();
        assert_eq!(running, wanted, "the node runs exactly deployment {seq}");
        Some(deployment.document.release.version)
    }

    /// Everything under the state root except the store and the history, for "nothing changed".
    pub fn fingerprint(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        walk(&self.roots.state, &mut files);
        let store = self.roots.store().display().to_string();
        files.retain(|path, _| !path.ends_with("history.jsonl") && !path.starts_with(&store));
        files
    }
}

fn walk(directory: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let meta = std::fs::symlink_metadata(&path).unwrap();
        let name = path.display().to_string();
        if meta.is_symlink() {
            files.insert(
                name,
                std::fs::read_link(&path)
                    .unwrap()
                    .to_string_lossy()
                    .into_owned()
                    .into_bytes(),
            );
        } else if meta.is_dir() {
            walk(&path, files);
        } else {
            files.insert(name, std::fs::read(&path).unwrap());
        }
    }
}

/// A sink that remembers.
pub fn recorder() -> (EventSink, Arc<Mutex<Vec<Event>>>) {
    let events = Arc::new(Mutex::new(Vec::new()));
    let kept = events.clone();
    (Arc::new(move |event| kept.lock().unwrap().push(event)), events)
}

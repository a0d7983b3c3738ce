//! The container section of a definition as an OCI configuration and a launch document: what is accepted is something
//! that the kernel takes, and shares nothing with the host but what the section asks for.
//!
//! Fields: the section and the readiness as one JSON object, the image's configuration, its passwd, its group file.

use std::collections::BTreeSet;
use std::path::Path;

use node_runtime::launch::{Launch, Readiness, launch_document};
use node_runtime::spec::container::Container;
use node_runtime::spec::mounts::{Mount, Propagation};
use node_runtime::spec::{RenderedFile, Resolved, document::document, oci_spec};
use oci_spec::image::ImageConfiguration;
use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::fields::fields;
use super::image_documents::same_again;

const SERVICE: &str = "svc";
const NAMESPACES: [&str; 5] = ["network", "pid", "ipc", "uts", "cgroup"];
/// What a uid of -1 is to setresuid(2) and chown(2).
const NO_CHANGE: u64 = u32::MAX as u64;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Written {
    container: Container,
    #[serde(default)]
    readiness: Readiness,
}

pub fn run(data: &[u8]) {
    let Some(fields) = fields(data) else { return };
    let [written, image, passwd, group] = fields.as_slice() else {
        return;
    };
    let Some(Written { container, readiness }) = same_again::<Written>(written.as_bytes()) else {
        return;
    };
    let image_config: ImageConfiguration = serde_json::from_str(image).unwrap_or_default();
    let files = [RenderedFile {
        bundle_relative: "files/0-a.conf".to_owned(),
        target: "/etc/a.conf".into(),
    }];
    let resolved = Resolved {
        service: SERVICE,
        container: &container,
        image_config: &image_config,
        rootfs: Path::new("/var/lib/nodectl/store/trees/ab"),
        passwd,
        group,
        files: &files,
        hostname: None,
        seccomp: true,
    };
    if let Ok(spec) = oci_spec(&resolved) {
        let found = document(&spec).expect("it is JSON");
        check_configuration(&found, &container);
        let back: Spec = serde_json::from_value(found.clone()).expect("the runtime reads it");
        assert_eq!(
            document(&back).expect("it is JSON"),
            found,
            "the runtime reads something else"
        );
    }
    if let Ok(launch) = launch_document(&resolved, readiness, 90, Vec::new()) {
        check_launch(&launch);
    }
}

fn check_configuration(found: &Value, container: &Container) {
    assert_eq!(found["root"]["readonly"], true);
    assert_eq!(found["linux"]["cgroupsPath"], format!("/nodectl/{SERVICE}"));
    assert!(found["linux"].get("resources").is_none() && found["process"].get("rlimits").is_none());
    let shared: BTreeSet<String> = texts(&serde_json::to_value(&container.share).expect("JSON"));
    check_namespaces(found, &shared);
    check_process(&found["process"]);
    check_capabilities(&found["process"]["capabilities"], container);
    let administers = |name: &str| matches!(name, "CAP_SYS_ADMIN" | "CAP_NET_ADMIN");
    if !container
        .capabilities
        .keys()
        .any(|capability| administers(capability.name()))
    {
        for hidden in ["maskedPaths", "readonlyPaths"] {
            assert!(!list(&found["linux"][hidden]).is_empty(), "no {hidden}");
        }
    }
    let shares = container
        .mounts
        .iter()
        .any(|mount| mount.propagation == Propagation::Shared);
    assert_eq!(found["linux"]["rootfsPropagation"] == "shared", shares);
    for mount in list(&found["mounts"]) {
        check_mount(mount, container);
    }
    for device in list(&found["linux"]["devices"]) {
        check_path(text(&device["path"]));
        assert!(text(&device["path"]).starts_with("/dev/"), "{device}");
        assert!(
            device["uid"] != NO_CHANGE && device["gid"] != NO_CHANGE,
            "{device}"
        );
    }
    if let Some(sysctl) = found["linux"]["sysctl"].as_object() {
        for key in sysctl.keys() {
            let owner = if key.starts_with("net.") { "network" } else { "ipc" };
            assert!(!shared.contains(owner), "{key} is the host's");
            check_path(&format!("/proc/sys/{}", key.replace('.', "/")));
        }
    }
}

fn check_namespaces(found: &Value, shared: &BTreeSet<String>) {
    let private: BTreeSet<String> = list(&found["linux"]["namespaces"])
        .iter()
        .map(|namespace| {
            assert!(namespace.get("path").is_none(), "it joins another's: {namespace}");
            text(&namespace["type"]).to_owned()
        })
        .collect();
    assert!(private.contains("mount"));
    for namespace in NAMESPACES {
        assert!(
            private.contains(namespace) != shared.contains(namespace),
            "{namespace}"
        );
    }
    match found.get("hostname") {
        Some(name) => assert!(!shared.contains("uts") && text(name).len() <= 64),
        None => assert!(shared.contains("uts")),
    }
}

fn check_process(process: &Value) {
    let args = list(&process["args"]);
    assert!(!text(&args[0]).is_empty(), "no program");
    assert!(args.iter().all(|word| !text(word).contains('\0')), "{args:?}");
    let mut names = BTreeSet::new();
    for variable in list(&process["env"]) {
        let (name, value) = text(variable).split_once('=').expect("an assignment");
        assert!(!name.is_empty() && !name.contains('\0') && !value.contains('\0'));
        assert!(names.insert(name), "{name} is there twice");
    }
    check_path(text(&process["cwd"]));
    let user = &process["user"];
    let more = user["additionalGids"].as_array().into_iter().flatten();
    for id in [&user["uid"], &user["gid"]].into_iter().chain(more) {
        assert!(id.as_u64().expect("a number") < NO_CHANGE, "root would stay root");
    }
}

fn check_capabilities(sets: &Value, container: &Container) {
    let asked: BTreeSet<String> = container
        .capabilities
        .keys()
        .map(|capability| capability.name().to_owned())
        .collect();
    let set = |name: &str| texts(&sets[name]);
    assert_eq!(set("bounding"), asked);
    for name in ["effective", "permitted", "inheritable", "ambient"] {
        assert!(set(name).is_subset(&asked), "{name} has more than was asked for");
    }
    assert!(set("ambient").is_subset(&set("permitted")) && set("ambient").is_subset(&set("inheritable")));
}

fn check_mount(mount: &Value, container: &Container) {
    let target = text(&mount["destination"]);
    check_path(target);
    let path = Path::new(target);
    assert_ne!(path, Path::new("/"), "over everything");
    assert!(
        !path.starts_with("/proc") || (target == "/proc" && mount["type"] == "proc"),
        "{mount}"
    );
    for option in list(&mount["options"]) {
        assert!(
            !text(option).contains([',', '\0', ' ']),
            "more than one option: {mount}"
        );
    }
    let kinds = ["bind", "devpts", "mqueue", "proc", "sysfs", "tmpfs"];
    assert!(kinds.contains(&text(&mount["type"])), "{mount}");
    if mount["type"] == "bind" {
        let source = text(&mount["source"]);
        let own = |own: &&Mount| own.target == path && own.source.as_deref() == Some(Path::new(source));
        let asked = container.mounts.iter().find(own);
        assert!(
            asked.is_some() || source == "files/0-a.conf",
            "nobody asked for {mount}"
        );
        let has = |wanted: &str| list(&mount["options"]).iter().any(|option| option == wanted);
        let read_only = asked.is_none_or(|asked| asked.read_only);
        assert_eq!(read_only, has("ro") || has("rro"), "{mount}");
        let shared = asked.is_some_and(|asked| asked.propagation == Propagation::Shared);
        assert_eq!(shared, has("shared") || has("rshared"), "{mount}");
        if asked.is_some() {
            check_path(source);
        }
    }
}

/// It is joined to a tree, leads nowhere else, and is spelled in one way.
pub fn check_path(path: &str) {
    let names = path.strip_prefix('/').expect("absolute");
    assert!(!path.contains('\0'), "{path:?}");
    assert!(
        path == "/" || names.split('/').all(|name| !matches!(name, "" | "." | "..")),
        "{path:?}"
    );
}

fn check_launch(launch: &Launch) {
    let text = serde_json::to_vec(launch).expect("a launch document is JSON");
    let back: Launch = serde_json::from_slice(&text).expect("what was written reads back");
    assert_eq!(back, *launch, "it reads back as something else");
    for directory in &launch.directories {
        check_path(directory.path.to_str().expect("it came from JSON"));
        assert!(directory.uid < u32::MAX && directory.gid < u32::MAX);
    }
    match &launch.readiness {
        Readiness::Notify | Readiness::Started => {}
        Readiness::UnixSocket { path } => check_path(path.to_str().expect("it came from JSON")),
        Readiness::Exec { command } => {
            assert!(!command[0].is_empty() && command.iter().all(|word| !word.contains('\0')));
        }
    }
    let adjust = launch.limits.oom_score_adj.unwrap_or_default();
    assert!((-1000..=1000).contains(&adjust));
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

fn texts(value: &Value) -> BTreeSet<String> {
    list(value).iter().map(|value| text(value).to_owned()).collect()
}

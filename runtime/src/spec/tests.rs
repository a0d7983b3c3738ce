//! What every rendered configuration holds, and what is refused.

use std::path::{Path, PathBuf};

use oci_spec::image::{ConfigBuilder, ImageConfiguration};
use oci_spec::runtime::{LinuxNamespaceType, Spec};

use super::container::{Container, HostNamespace};
use super::{RenderedFile, Resolved, SpecError, oci_spec};

fn container(toml_like_json: &str) -> Container {
    serde_json::from_str(toml_like_json).unwrap()
}

fn image() -> ImageConfiguration {
    let config = ConfigBuilder::default()
        .entrypoint(vec!["/usr/bin/tini".to_owned()])
        .cmd(vec!["daemon".to_owned()])
        .env(vec!["A=image".to_owned(), "B=image".to_owned()])
        .user("nova".to_owned())
        .working_dir("/srv".to_owned())
        .build()
        .unwrap();
    let mut image = ImageConfiguration::default();
    image.set_config(Some(config));
    image
}

/// A service of an image that knows no accounts.
pub(crate) fn bare<'a>(container: &'a Container, image_config: &'a ImageConfiguration) -> Resolved<'a> {
    Resolved {
        service: "svc",
        container,
        image_config,
        rootfs: Path::new("/var/lib/nodectl/store/trees/ab"),
        passwd: "",
        group: "",
        files: &[],
        hostname: None,
        seccomp: false,
    }
}

const PASSWD: &str = "root:x:0:0::/root:/bin/sh\nnova:x:64060:64060::/var/lib/nova:/bin/sh\n";

fn render_with(container: &Container, files: &[RenderedFile]) -> Result<Spec, SpecError> {
    oci_spec(&Resolved {
        passwd: PASSWD,
        group: "root:x:0:\nnova:x:64060:\nkvm:x:106:nova\n",
        files,
        ..bare(container, &image())
    })
}

fn render(json: &str) -> Result<Spec, SpecError> {
    render_with(&container(json), &[])
}

fn targets(spec: &Spec) -> Vec<PathBuf> {
    spec.mounts()
        .iter()
        .flatten()
        .map(|mount| mount.destination().clone())
        .collect()
}

#[test]
fn an_empty_definition_runs_the_image_and_shares_nothing() {
    let spec = render("{}").unwrap();
    let process = spec.process().as_ref().unwrap();
    assert_eq!(process.args().as_ref().unwrap(), &["/usr/bin/tini", "daemon"]);
    let env = process.env().as_ref().unwrap();
    assert!(
        env.contains(&"A=image".to_owned()) && env.contains(&"HOME=/var/lib/nova".to_owned()),
        "{env:?}"
    );
    assert_eq!((process.user().uid(), process.user().gid()), (64060, 64060));
    assert_eq!(process.user().additional_gids().as_deref(), Some(&[106][..]));
    assert_eq!(process.cwd(), Path::new("/srv"));
    assert!(process.rlimits().is_none());
    let capabilities = process.capabilities().as_ref().unwrap();
    assert!(capabilities.bounding().as_ref().unwrap().is_empty());
    let linux = spec.linux().as_ref().unwrap();
    assert_eq!(linux.namespaces().as_ref().unwrap().len(), 6);
    assert!(linux.resources().is_none());
    assert_eq!(spec.hostname().as_deref(), Some("svc"));
}

#[test]
fn every_configuration_keeps_the_promises() {
    let all = r#"["network", "pid", "ipc", "uts", "cgroup"]"#;
    let host = format!(
        r#"{{"share": {all}, "mounts": [{{"source": "/dev", "target": "/dev", "recursive": true}},
            {{"source": "/run", "target": "/run", "propagation": "shared"}}]}}"#
    );
    for json in ["{}", &host] {
        let spec = render(json).unwrap();
        let root = spec.root().as_ref().unwrap();
        assert!(root.readonly() == Some(true) && root.path().is_absolute());
        let linux = spec.linux().as_ref().unwrap();
        let kinds: Vec<_> = linux.namespaces().iter().flatten().map(|ns| ns.typ()).collect();
        assert!(kinds.contains(&LinuxNamespaceType::Mount), "{kinds:?}");
        assert_eq!(linux.cgroups_path().as_deref(), Some(Path::new("/nodectl/svc")));
        let seen = targets(&spec);
        for path in ["/proc", "/sys", "/dev", "/run", "/tmp"] {
            assert_eq!(
                seen.iter().filter(|t| *t == Path::new(path)).count(),
                1,
                "{path}: {seen:?}"
            );
        }
    }
    let spec = render(&host).unwrap();
    assert!(
        !targets(&spec).contains(&PathBuf::from("/dev/pts")),
        "the host's /dev has its own"
    );
    assert_eq!(
        spec.linux().as_ref().unwrap().rootfs_propagation().as_deref(),
        Some("shared")
    );
    assert_eq!(spec.hostname(), &None);
}

#[test]
fn definitions_win_over_the_image() {
    let spec = render(
        r#"{"process": {"args": ["/bin/d"], "env": {"B": "own"}, "user": "root:kvm", "cwd": "/"},
            "capabilities": {"CAP_NET_ADMIN": "taps"}}"#,
    )
    .unwrap();
    let process = spec.process().as_ref().unwrap();
    assert_eq!(process.args().as_ref().unwrap(), &["/bin/d"]);
    let env = process.env().as_ref().unwrap();
    assert!(
        env.contains(&"A=image".to_owned()) && env.contains(&"B=own".to_owned()),
        "{env:?}"
    );
    assert_eq!((process.user().uid(), process.user().gid()), (0, 106));
    let capabilities = process.capabilities().as_ref().unwrap();
    assert_eq!(capabilities.effective().as_ref().unwrap().len(), 1);
    assert!(capabilities.ambient().as_ref().unwrap().is_empty());
}

#[test]
fn files_are_bound_read_only_from_the_bundle() {
    let file = |bundle: &str, target: &str| RenderedFile {
        bundle_relative: bundle.to_owned(),
        target: target.into(),
    };
    let spec = render_with(&container("{}"), &[file("files/a", "/etc/a")]).unwrap();
    let mount = spec.mounts().iter().flatten().last().unwrap().clone();
    assert_eq!(mount.source().as_deref(), Some(Path::new("files/a")));
    assert!(mount.options().as_ref().unwrap().contains(&"ro".to_owned()));
    for (bundle, target) in [
        ("/etc/shadow", "/a"),
        ("../a", "/a"),
        ("files/a", "etc/a"),
        ("a", "/a/../b"),
    ] {
        let refused = render_with(&container("{}"), &[file(bundle, target)]);
        assert!(
            matches!(refused, Err(SpecError::Path { .. })),
            "{bundle} {target}"
        );
    }
    for target in ["/", "/.", "/proc/sys"] {
        let refused = render_with(&container("{}"), &[file("files/a", target)]).unwrap_err();
        assert!(
            refused.to_string().contains("cannot be mounted over"),
            "{target}: {refused}"
        );
    }
}

fn refuses(table: &[(&str, &str)]) {
    for (json, expected) in table {
        let error = render(json).unwrap_err().to_string();
        assert!(error.contains(expected), "{json}: {error}");
    }
}

#[test]
fn what_cannot_work_is_refused_by_name() {
    refuses(&[
        (r#"{"process": {"user": "who"}}"#, "process.user"),
        (r#"{"process": {"user": "4294967295"}}"#, "process.user"),
        (r#"{"process": {"cwd": "relative"}}"#, "process.cwd"),
        (r#"{"process": {"cwd": "/a\u0000"}}"#, "process.cwd"),
        (r#"{"process": {"args": ["/a", "\u0000"]}}"#, "process.args"),
        (r#"{"process": {"args": [""]}}"#, "process.args"),
        (r#"{"process": {"env": {"A=B": "x"}}}"#, "process.env"),
        (r#"{"process": {"ambient": ["CAP_BPF"]}}"#, "CAP_BPF is not among"),
        (
            r#"{"devices": [{"path": "/etc/x", "major": 1, "minor": 1}]}"#,
            "is not under /dev",
        ),
        (
            r#"{"devices": [{"path": "/dev/.", "major": 1, "minor": 1}]}"#,
            "is not under /dev",
        ),
        (
            r#"{"sysctl": {"vm.swappiness": "1"}}"#,
            "sysctl.vm.swappiness: is not a parameter",
        ),
        (
            r#"{"sysctl": {"net./../x": "1"}}"#,
            "sysctl.net./../x: is not a parameter",
        ),
        (
            r#"{"sysctl": {"net.x": "1"}, "share": ["network"]}"#,
            "would change the host",
        ),
    ]);
    let unknown = serde_json::from_str::<Container>(r#"{"privileged": true}"#).unwrap_err();
    assert!(unknown.to_string().contains("privileged"), "{unknown}");
}

#[test]
fn mounts_that_cannot_work_are_refused_by_name() {
    refuses(&[
        (r#"{"mounts": [{"source": "a", "target": "/a"}]}"#, "mount /a"),
        (
            r#"{"mounts": [{"source": "/a", "target": "/a/.."}]}"#,
            "mount /a/..",
        ),
        (
            r#"{"mounts": [{"source": "/a", "target": "/"}]}"#,
            "mount /: cannot be mounted over",
        ),
        (
            r#"{"mounts": [{"source": "/a", "target": "/."}]}"#,
            "cannot be mounted over",
        ),
        (
            r#"{"mounts": [{"source": "/a", "target": "/proc/x"}]}"#,
            "cannot be mounted over",
        ),
        (
            r#"{"mounts": [{"source": "/a", "target": "/a", "size": "1M"}]}"#,
            "are for a tmpfs",
        ),
        (
            r#"{"mounts": [{"target": "/a", "size": "1M,uid=0"}]}"#,
            "is not a tmpfs size",
        ),
        (
            r#"{"mounts": [{"target": "/a", "propagation": "slave"}]}"#,
            "for a mount with a source",
        ),
        (
            r#"{"mounts": [{"target": "/a", "user": "who"}]}"#,
            "mount /a: unknown account",
        ),
    ]);
}

#[test]
fn a_path_is_spelled_in_one_way() {
    let spec = render(r#"{"devices": [{"path": "//dev/./kvm/", "major": 10, "minor": 232}]}"#).unwrap();
    let devices = spec.linux().as_ref().unwrap().devices().as_ref().unwrap();
    assert_eq!(devices[0].path().as_os_str(), "/dev/kvm");
}

#[test]
fn a_service_without_a_command_is_refused() {
    let nothing = ImageConfiguration::default();
    let container = Container {
        share: [HostNamespace::Pid].into(),
        ..Container::default()
    };
    let refused = oci_spec(&bare(&container, &nothing));
    assert!(matches!(refused, Err(SpecError::NoCommand)));
}

#[test]
fn a_host_name_is_one_that_the_kernel_takes() {
    let with = |service: &str, json: &str| {
        oci_spec(&Resolved {
            service,
            passwd: PASSWD,
            ..bare(&container(json), &image())
        })
    };
    let (fits, long) = ("a".repeat(64), "a".repeat(65));
    assert_eq!(with(&fits, "{}").unwrap().hostname(), &Some(fits));
    let refused = with(&long, "{}").unwrap_err().to_string();
    assert!(
        refused.contains("hostname") && refused.contains(&long),
        "{refused}"
    );
    let shared = with(&long, r#"{"share": ["uts"]}"#).unwrap();
    assert!(shared.hostname().is_none());
}

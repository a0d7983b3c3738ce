//! `make install`: exactly these files, and units that systemd itself takes without a remark.

mod common;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

#[test]
fn exactly_these_files_are_installed() {
    let stage = tempfile::tempdir().expect("a directory");
    common::install(stage.path());
    insta::assert_snapshot!(common::tree(stage.path()).join("\n"));
    for file in common::tree(stage.path())
        .iter()
        .filter(|line| !line.contains(" -> "))
    {
        let mode = fs::metadata(stage.path().join(file))
            .expect("installed")
            .permissions()
            .mode()
            & 0o7777;
        let program = ["usr/bin/", "usr/libexec/", "usr/lib/systemd/system-generators/"];
        let expected = if program.iter().any(|start| file.starts_with(start)) {
            0o755
        } else {
            0o644
        };
        assert_eq!(mode, expected, "{file}: {mode:o}");
    }
}

#[test]
fn a_missing_program_is_named() {
    let stage = tempfile::tempdir().expect("a directory");
    let make = Command::new("make")
        .args(["-f", "systemd/dist/install.mk", "install", "BIN=/nonexistent"])
        .arg(format!("DESTDIR={}", stage.path().display()))
        .current_dir(common::repository())
        .env_remove("MAKEFLAGS")
        .output()
        .expect("run make (package make)");
    assert!(!make.status.success());
    let said = String::from_utf8_lossy(&make.stderr);
    assert!(said.contains("/nonexistent/nodectl is missing"), "{said}");
    assert!(common::tree(stage.path()).is_empty());
}

#[test]
fn systemd_takes_installed_and_rendered_units_without_a_remark() {
    let stage = tempfile::tempdir().expect("a directory");
    let root = stage.path();
    let units = with_those_of_systemd(root);
    for program in ["usr/bin/systemctl", "usr/bin/logger"] {
        common::script(&root.join(program), "#!/bin/sh\n");
    }
    let rendered = [
        common::unit("smallest", "aa", ""),
        common::unit("largest", "bb", LARGEST),
    ];
    for unit in &rendered {
        common::write(&units.join(unit.name.as_str()), &unit.text);
    }
    assert_eq!(verify(root, &["smallest.service", "largest.service"]), "");
    let installed = [
        "noded.service",
        "nodectl-recover.service",
        "nodectl-late-mount.service",
        "nodectl-services.target",
        "nodectl-guests.service",
        "nodectl-fsck.service",
        "nodectl-fsck.timer",
    ];
    // The generator provides it.
    common::write(
        &units.join("virt-guest-shutdown.target"),
        "[Unit]\nDescription=guests\n",
    );
    assert_eq!(verify(root, &installed), "");
    // The check itself sees what is wrong.
    common::write(
        &units.join("wrong.service"),
        "[Service]\nType=notify\nKilMode=mixed\nExecStart=/bin/true\n",
    );
    assert!(verify(root, &["wrong.service"]).contains("KilMode"));
}

/// What `systemd-analyze security` says of each service stands in docs/security.md.
#[test]
fn exposure_is_as_documented() {
    let units = common::repository().join("systemd/dist/usr/lib/systemd/system");
    let mut found = Vec::new();
    for entry in fs::read_dir(&units).expect("units") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "service") {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            found.push((name, exposure(&path)));
        }
    }
    found.sort();
    let text = fs::read_to_string(common::repository().join("docs/security.md")).expect("docs/security.md");
    let mut documented: Vec<(String, String)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
        .filter(|(name, _)| name.ends_with(".service"))
        .map(|(name, rest)| {
            let figure = rest.split(" |").next().unwrap_or_default();
            (name.to_owned(), figure.to_owned())
        })
        .collect();
    documented.sort();
    assert_eq!(
        found, documented,
        "units and their figures against docs/security.md"
    );
}

/// The figure of one unit file, without whatever the host adds to it.
fn exposure(path: &Path) -> String {
    let output = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--no-pager"])
        .arg(path)
        .env("SYSTEMD_COLORS", "0")
        .output()
        .expect("run systemd-analyze (package systemd)");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let last = text.lines().find(|line| line.contains("Overall exposure level"));
    let figure = last.and_then(|line| line.split_once(": ")?.1.split(' ').next());
    figure.unwrap_or_else(|| panic!("{text}")).to_owned()
}

const LARGEST: &str = r#"
    description = "100% \"quoted\" text; # with marks"
    after = ["basic.target"]
    before = ["shutdown.target"]
    requires = ["basic.target"]
    wants = ["timers.target"]
    part_of = ["multi-user.target"]
    conflicts = ["rescue.target"]
    aliases = ["other.service"]
    restart = "always"
    restart_sec = "500ms"
    kill_mode = "process"
    kill_signal = "SIGINT"
    watchdog_sec = 20
    slice = "user.slice"
    tasks_max = 100
    memory_low = "10%"
    memory_high = "1G"
    memory_max = "infinity"
    cpu_weight = 200
    io_weight = 300
    exec_stop_post = ["/usr/bin/logger", "$HOME; 100% \" ' \\ \n", ";"]
    conditions = [{ kind = "path-exists", value = "/dev/kvm", negate = true }]
"#;

/// Puts systemd's own units below a root with nodectl installed, and returns where units are.
fn with_those_of_systemd(root: &Path) -> PathBuf {
    common::install(root);
    let units = root.join("usr/lib/systemd/system");
    let copied = Command::new("cp")
        .args(["-an", "/usr/lib/systemd/system/."])
        .arg(&units)
        .status()
        .expect("run cp");
    assert!(
        copied.success(),
        "systemd's own units are needed (package systemd)"
    );
    fs::create_dir_all(root.join("etc")).expect("a directory");
    units
}

/// cloud-init.service of Debian 12 reads its data over the network that networking.service of ifupdown has set up, and
/// `sysinit.target` waits for it.
const CLOUD_INIT: &str = "[Unit]\nDefaultDependencies=no\nAfter=networking.service\nBefore=sysinit.target\n\
                          [Service]\nType=oneshot\nExecStart=/usr/bin/logger cloud\n";
const NETWORKING: &str = "[Unit]\nDefaultDependencies=no\nAfter=local-fs.target network-pre.target\n\
                          Before=network.target\n[Service]\nType=oneshot\nExecStart=/usr/bin/logger network\n";

#[test]
fn a_network_that_sysinit_waits_for_may_wait_for_an_early_service() {
    let stage = tempfile::tempdir().expect("a directory");
    let root = stage.path();
    let units = with_those_of_systemd(root);
    common::script(&root.join("usr/bin/logger"), "#!/bin/sh\n");
    common::write(&units.join("cloud-init.service"), CLOUD_INIT);
    common::write(&units.join("networking.service"), NETWORKING);
    let boot = "[Unit]\nWants=sysinit.target cloud-init.service networking.service switch.service \
                nodectl-recover.service\n";
    common::write(&units.join("boot.target"), boot);
    for (early, cycles) in [(true, false), (false, true)] {
        let definition = format!("early = {early}\nbefore = [\"networking.service\"]");
        common::write(
            &units.join("switch.service"),
            &common::unit("switch", "aa", &definition).text,
        );
        let said = verify(root, &["boot.target"]);
        assert_eq!(said.contains("ordering cycle"), cycles, "early: {early}\n{said}");
    }
}

/// What `systemd-analyze verify` says about units below a root.
fn verify(root: &Path, units: &[&str]) -> String {
    let output = Command::new("systemd-analyze")
        .arg(format!("--root={}", root.display()))
        .args(["--man=no", "--generators=no", "verify"])
        .args(units)
        .output()
        .expect("run systemd-analyze (package systemd)");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

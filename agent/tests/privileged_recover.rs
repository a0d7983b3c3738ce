//! `nodectl recover --boot`, the program, in a boot of its own: systemd is PID 1 and no bus runs yet.

#[allow(dead_code, reason = "this test needs a part of it")]
#[path = "../../systemd/tests/common/booted.rs"]
mod booted;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use assert_cmd::cargo::cargo_bin;
use booted::Booted;
use node_systemd::{ServiceExec, ServiceUnit, render_service};
use serde_json::{Value, json};

/// systemd-nspawn mounts a boot id of the machine's own over the host's, and protecting /proc/sys would uncover that again:
/// the boot's recover would take itself for one of another boot.
const BOOT_ID: &str = "[Service]\nProtectKernelTunables=no\n";

/// Takes the launcher's place.
const NODE_RUN: &str = "#!/bin/sh\nsystemd-notify --ready\nexec sleep infinity\n";

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// The installation, with the real nodectl and generator.
fn install(root: &Path) {
    let programs = tempfile::tempdir().unwrap();
    for program in ["nodectl", "noded", "nodectl-generator"] {
        let built = cargo_bin(program);
        fs::copy(&built, programs.path().join(program))
            .unwrap_or_else(|e| panic!("{}: {e}; cargo build --workspace makes it", built.display()));
    }
    let node_run = programs.path().join("node-run");
    write(&node_run, NODE_RUN);
    fs::set_permissions(&node_run, fs::Permissions::from_mode(0o755)).unwrap();
    let make = Command::new("make")
        .args(["--no-print-directory", "-f", "systemd/dist/install.mk", "install"])
        .arg(format!("DESTDIR={}", root.display()))
        .arg(format!("BIN={}", programs.path().display()))
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap())
        .env_remove("MAKEFLAGS")
        .output()
        .expect("run make (package make)");
    assert!(make.status.success(), "{make:?}");
}

fn deploy(root: &Path, seq: u32, services: &[(&str, &str)]) {
    for (service, digest) in services {
        let unit = render_service(service, &ServiceUnit::default(), &ServiceExec::new(*digest)).unwrap();
        let directory = root.join(format!("var/lib/nodectl/deployments/{seq}/units"));
        write(&directory.join(unit.name.as_str()), &unit.text);
    }
}

/// A boot out of the probation of deployment 2, with 1 as the way back, and so many tries left. noded stays away:
/// it would finish the transaction.
fn boot(tries_left: u32) -> (Booted, tempfile::TempDir) {
    let layer = tempfile::tempdir().unwrap();
    let root = layer.path();
    fs::set_permissions(root, fs::Permissions::from_mode(0o755)).unwrap();
    install(root);
    let drop_in = "etc/systemd/system/nodectl-recover.service.d/boot-id.conf";
    write(&root.join(drop_in), BOOT_ID);
    deploy(root, 1, &[("both", "aa"), ("only-old", "bb")]);
    deploy(root, 2, &[("both", "dd"), ("only-new", "ee")]);
    symlink("deployments/2", root.join("var/lib/nodectl/current")).unwrap();
    let digest = format!("sha256:{}", "ab".repeat(32));
    let release = json!({"reference": "r", "digest": digest, "name": "n", "version": "2"});
    let journal = json!({
        "format": 1, "id": "1", "phase": "probation", "setback": null, "release": release,
        "movement": {"kind": "upgrade", "from": 1, "to": 2, "tries_left": tries_left},
        "claim": {"boot_id": "an earlier one", "by": "engine"},
        "window_sec": 5, "started": "2026-11-21T00:00:00Z",
    });
    write(
        &root.join("var/lib/nodectl/transaction.json"),
        &journal.to_string(),
    );
    let masked = root.join("etc/systemd/system/noded.service");
    fs::create_dir_all(masked.parent().unwrap()).unwrap();
    symlink("/dev/null", masked).unwrap();
    let node = Booted::boot(root, &[]);
    node.sh("systemctl is-system-running --wait");
    (node, layer)
}

fn journal(node: &Booted) -> Value {
    serde_json::from_str(&node.ok("cat /var/lib/nodectl/transaction.json")).unwrap()
}

#[test]
fn without_a_try_left_the_old_set_starts_and_the_new_one_never_does() {
    let (node, _layer) = boot(0);
    let state = |unit: &str| node.property(unit, "ActiveState");
    assert_eq!(state("only-old.service"), "active", "{}", node.console());
    assert_eq!(state("both.service"), "active");
    assert_ne!(state("only-new.service"), "active");
    let command = node.property("both.service", "ExecStart");
    assert!(command.contains("--digest=aa"), "{command}");
    assert_eq!(node.property("nodectl-recover.service", "Result"), "success");
    assert_eq!(
        node.ok("readlink /var/lib/nodectl/current").trim(),
        "deployments/1"
    );
    assert_eq!(journal(&node)["phase"], "reverting", "noded does the rest");
}

#[test]
fn a_boot_takes_one_try_and_starts_the_new_set() {
    let (node, _layer) = boot(2);
    assert_eq!(node.property("only-new.service", "ActiveState"), "active");
    assert_eq!(node.property("nodectl-recover.service", "Result"), "success");
    assert_eq!(journal(&node)["movement"]["tries_left"], 1);
    // Again in the same boot: exit status 77, nothing to do.
    assert_eq!(node.sh("nodectl recover --boot").status.code(), Some(77));
    assert_eq!(journal(&node)["movement"]["tries_left"], 1);
}

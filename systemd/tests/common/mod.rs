//! What the tests on real components share.

#![allow(dead_code, reason = "each test program uses a part of it")]

pub mod booted;

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use node_systemd::{RenderedUnit, ServiceExec, ServiceUnit, render_service};

/// Takes the launcher's place: says that it is ready, or does what its name asks for.
const NODE_RUN: &str = r#"#!/bin/sh
for name; do :; done
case "$name" in
  fail*) echo "these are my last words"; exit 7 ;;
  slow*) exec sleep infinity ;;
  dump) env -0 > /run/dump.env ;;
esac
systemd-notify --ready
exec sleep infinity
"#;

/// Takes the daemon's place: says itself that it is ready, as NotifyAccess=main wants it.
const NODED: &str = r#"#!/usr/bin/python3
import os, signal, socket
socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
signal.pause()
"#;

/// Takes the place of nodectl: gives out documents, and settles a transaction by going back to deployment 1.
const NODECTL: &str = r#"#!/bin/sh
set -e
case "$1 $2" in
  "recover --boot")
    ln -sfn deployments/1 /var/lib/nodectl/current
    rm /var/lib/nodectl/transaction.json
    systemctl daemon-reload
    systemctl --no-block start nodectl-services.target
    ;;
  generate*)
    mkdir -p "$3" "$5" "$7"
    echo '.TH nodectl 1' > "$3/nodectl.1"
    touch "$5/nodectl.bash" "$5/_nodectl" "$5/nodectl.fish" "$7/report.json"
    ;;
esac
"#;

/// The repository's root.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate is in the repository")
}

/// Fills a directory with what is installed: the generator, and stand-ins for the programs of other crates.
pub fn programs(directory: &Path) {
    for (name, text) in [("nodectl", NODECTL), ("noded", NODED), ("node-run", NODE_RUN)] {
        script(&directory.join(name), text);
    }
    let generator = env!("CARGO_BIN_EXE_nodectl-generator");
    fs::copy(generator, directory.join("nodectl-generator")).expect("copy the generator");
}

/// Installs into `destination` as `make install` does, with stand-ins for the programs of other crates.
pub fn install(destination: &Path) {
    let directory = tempfile::tempdir().expect("a directory");
    programs(directory.path());
    let make = Command::new("make")
        .args(["--no-print-directory", "-f", "systemd/dist/install.mk", "install"])
        .arg(format!("DESTDIR={}", destination.display()))
        .arg(format!("BIN={}", directory.path().display()))
        .current_dir(repository())
        .env_remove("MAKEFLAGS")
        .output()
        .expect("run make (package make)");
    assert!(
        make.status.success(),
        "make install: {}",
        String::from_utf8_lossy(&make.stderr)
    );
}

/// Writes an executable text.
pub fn script(path: &Path, text: &str) {
    write(path, text);
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("make it executable");
}

/// Writes a file with its directories.
pub fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("a file has a directory")).expect("make the directory");
    fs::write(path, text).unwrap_or_else(|error| panic!("write {}: {error}", path.display()));
}

/// The unit of a service, from its definition as TOML.
pub fn unit(service: &str, digest: &str, definition: &str) -> RenderedUnit {
    let unit: ServiceUnit = toml::from_str(definition).expect("a [unit] section");
    render_service(service, &unit, &ServiceExec::new(digest)).expect("renders")
}

/// Writes a deployment below a root directory.
pub fn deploy(root: &Path, seq: u32, units: &[RenderedUnit]) {
    let directory = root.join(format!("var/lib/nodectl/deployments/{seq}/units"));
    fs::create_dir_all(&directory).expect("make the deployment");
    for unit in units {
        write(&directory.join(unit.name.as_str()), &unit.text);
    }
}

/// Points `current` at a deployment.
pub fn switch(root: &Path, seq: u32) {
    let current = root.join("var/lib/nodectl/current");
    let _ = fs::remove_file(&current);
    symlink(format!("deployments/{seq}"), &current).expect("link current");
}

/// Everything below a directory, sorted: `path` or `path -> target`.
pub fn tree(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut left: Vec<PathBuf> = vec![directory.to_owned()];
    while let Some(next) = left.pop() {
        for entry in fs::read_dir(&next).expect("read a directory") {
            let path = entry.expect("read an entry").path();
            let shown = path.strip_prefix(directory).expect("below").display().to_string();
            if let Ok(target) = fs::read_link(&path) {
                found.push(format!("{shown} -> {}", target.display()));
            } else if path.is_dir() {
                left.push(path);
            } else {
                found.push(shown);
            }
        }
    }
    found.sort();
    found
}

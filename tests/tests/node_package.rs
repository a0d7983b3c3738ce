//! The Debian package on a booted machine: installed, used, removed, purged. Needs root, and the programs of the same
//! build beside this one (`make stage`, or `cargo build --workspace --bins`).

use std::path::{Path, PathBuf};

use node_tests::command::{command, output};
use node_tests::node::{Name, Node, Setup};
use node_tests::{nodectl, paths, teardown};

const UNITS: [&str; 4] = [
    "noded.service",
    "nodectl-recover.service",
    "nodectl-late-mount.service",
    "nodectl-services.target",
];

/// Where the package puts anything. What is in `/var/lib/nodectl` is the operator's.
const PLACES: [&str; 9] = [
    "/etc",
    "/run/nodectl",
    "/run/systemd/generator",
    "/run/systemd/system",
    "/usr/bin",
    "/usr/lib/systemd",
    "/usr/lib/sysusers.d",
    "/usr/libexec",
    "/usr/share",
];

/// Removes what a failed assertion has left.
struct Cleanup;

impl Drop for Cleanup {
    fn drop(&mut self) {
        teardown::everything().expect("the surroundings can be removed");
    }
}

#[test]
fn the_package_comes_and_goes() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "this test boots a machine: run it as root"
    );
    paths::choose_instance("nodectl-package");
    teardown::everything().unwrap();
    let _cleanup = Cleanup;
    let built = tempfile::tempdir().unwrap();
    let package = std::fs::read(build(built.path())).unwrap();
    let setup = Setup::node().unwrap().file("root/nodectl.deb", package);
    let node = Node::up(&Name::parse("p1").unwrap(), &setup).unwrap();
    let before = traces(&node);
    assert_eq!(before, "", "the machine knows nodectl already");

    node.run(["dpkg", "--install", "/root/nodectl.deb"]).unwrap();
    is_at_work(&node);
    node.run(["dpkg", "--install", "/root/nodectl.deb"]).unwrap();
    is_at_work(&node);
    systemd_has_no_remark(&node);
    node.reboot().unwrap();
    is_at_work(&node);

    node.run(["touch", "/etc/nodectl/node.toml"]).unwrap();
    node.run(["dpkg", "--remove", "nodectl"]).unwrap();
    assert_eq!(
        node.run([
            "sh",
            "-c",
            "command -v nodectl; systemctl is-active noded; ls /etc/nodectl/node.toml; true"
        ])
        .unwrap(),
        "inactive\n/etc/nodectl/node.toml\n"
    );
    node.run(["rm", "/etc/nodectl/node.toml"]).unwrap();
    node.run(["touch", "/var/lib/nodectl/kept"]).unwrap();
    node.run(["dpkg", "--purge", "nodectl"]).unwrap();
    assert_eq!(traces(&node), before, "purge leaves these");
    node.run(["rm", "/var/lib/nodectl/kept"]).unwrap();

    node.run(["dpkg", "--install", "/root/nodectl.deb"]).unwrap();
    is_at_work(&node);
    node.run(["dpkg", "--purge", "nodectl"]).unwrap();
    assert_eq!(traces(&node), before, "purge leaves these");
    // The box has a disk mounted there, which can be emptied but not removed.
    assert_eq!(
        node.run(["ls", "-A", "/var/lib/nodectl"]).unwrap(),
        "",
        "nobody's state"
    );
    assert_eq!(
        node.run(["systemctl", "list-units", "--all", "--no-legend", "node*"])
            .unwrap(),
        ""
    );
}

/// The package of the programs that were built with this test.
fn build(output_directory: &Path) -> PathBuf {
    let this = std::env::current_exe().unwrap();
    let programs = this.parent().and_then(Path::parent).unwrap();
    assert!(
        programs.join("noded").exists(),
        "{} has no noded: run `make stage` first",
        programs.display()
    );
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd/dist/debian-package/build.sh");
    let mut command = command(script.to_str().unwrap(), [programs, output_directory]);
    // What cargo and make have set for their own children is not meant for these.
    command.env_remove("MAKEFLAGS");
    output(&mut command).unwrap();
    let mut packages = std::fs::read_dir(output_directory).unwrap();
    packages.next().unwrap().unwrap().path()
}

fn is_at_work(node: &Node) {
    assert_eq!(node.run(["systemctl", "is-active", "noded"]).unwrap(), "active\n");
    let status: serde_json::Value = nodectl::json(node, &["status"]).unwrap();
    assert!(status["deployment"].is_null(), "{status}");
    // Everybody may ask, and noded answers: as nobody, this process could not read the node's state itself.
    let asked = ["setpriv", "--reuid=nobody", "--clear-groups", "nodectl", "status"];
    let said = node.run(asked).unwrap();
    assert!(!said.is_empty());
    assert_eq!(
        node.run([
            "sh",
            "-c",
            "stat -c %a /etc/nodectl/secrets && getent group nodectl | cut -d: -f1"
        ])
        .unwrap(),
        "700\nnodectl\n"
    );
    assert_eq!(
        node.run(["systemctl", "is-system-running"]).unwrap().trim(),
        "running"
    );
}

fn systemd_has_no_remark(node: &Node) {
    let mut verify = vec!["systemd-analyze", "--man=no", "verify"];
    verify.extend(UNITS);
    let done = node.attempt(verify).unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && said.is_empty(), "{said}");
}

/// Everything in the package's places that has its name.
fn traces(node: &Node) -> String {
    let mut find = vec!["find"];
    find.extend(PLACES);
    find.extend(["(", "-name", "*nodectl*", "-o", "-name", "noded*", ")"]);
    let found = node.attempt(find).unwrap();
    let mut lines: Vec<String> = String::from_utf8_lossy(&found.stdout)
        .lines()
        .map(str::to_owned)
        .collect();
    lines.sort();
    lines.join("\n")
}

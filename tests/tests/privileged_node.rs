//! Box machines: boot, commands, reboot, power cut, and nothing left behind. Needs root.

use std::fs;
use std::path::Path;

use node_tests::command::{command, output};
use node_tests::node::{Name, Node, Setup};
use node_tests::{lab, paths, registry, teardown};

const NOTHING: [String; 0] = [];

/// Removes what a failed assertion has left.
struct Cleanup;

impl Drop for Cleanup {
    fn drop(&mut self) {
        teardown::everything().expect("the surroundings can be removed");
    }
}

#[test]
fn a_machine_lives_and_leaves_nothing() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "this test boots machines: run it as root"
    );
    paths::choose_instance("nodectl-t1");
    teardown::everything().unwrap();
    assert_eq!(
        host(),
        NOTHING,
        "an earlier run has left something that has no record"
    );
    let cleanup = Cleanup;

    let name = Name::parse("n1").unwrap();
    let stage = tempfile::tempdir().unwrap();
    fs::create_dir_all(stage.path().join("usr/libexec")).unwrap();
    fs::write(stage.path().join("usr/libexec/staged"), "yes").unwrap();
    let setup = Setup::node()
        .unwrap()
        .install(stage.path())
        .file("etc/early", "there");
    let node = Node::up(&name, &setup).unwrap();
    registry::up().unwrap();

    boots_clean(&node);
    talks(&node);
    commands_fail_with_their_words(&node);
    survives(&node);
    a_second_machine_is_apart(&setup);

    drop(cleanup);
    assert_eq!(Node::all().unwrap().len(), 0);
    assert_eq!(host(), NOTHING, "something is left on the host");
    assert!(!paths::work().join("n1").exists());
}

fn boots_clean(node: &Node) {
    assert_eq!(
        node.run(["systemctl", "is-system-running"]).unwrap().trim(),
        "running"
    );
    assert_eq!(
        node.run(["cat", "/usr/libexec/staged", "/etc/early"]).unwrap(),
        "yesthere"
    );
    assert_eq!(node.run(["hostname"]).unwrap().trim(), "n1");
    let environment = node.run(["env"]).unwrap();
    assert!(
        !environment.contains("CARGO"),
        "the caller's environment leaks in: {environment}"
    );
}

fn talks(node: &Node) {
    let lab = lab::LAB.to_string();
    node.run(["ping", "-c1", "-W2", &lab]).unwrap();
    let probe = "import socket; socket.create_connection(('registry', 5000), 5)";
    node.run(["python3", "-c", probe]).unwrap();
    let outside = "import socket; socket.create_connection(('192.0.2.1', 80), 2)";
    assert!(
        !node.attempt(["python3", "-c", outside]).unwrap().status.success(),
        "the lab leads out"
    );
}

fn commands_fail_with_their_words(node: &Node) {
    let error = node
        .run(["sh", "-c", "echo no such star >&2; exit 7"])
        .unwrap_err();
    let text = format!("{error:#}");
    assert!(
        text.contains("on n1") && text.contains("no such star") && text.contains('7'),
        "{text}"
    );
}

fn survives(node: &Node) {
    let first = node.run(["cat", "/proc/sys/kernel/random/boot_id"]).unwrap();
    let leader = node.leader().unwrap();
    node.write("/var/lib/nodectl/kept", "state").unwrap();
    node.write("/root/deep/kept", "root").unwrap();

    node.reboot().unwrap();
    assert_ne!(node.leader().unwrap(), leader, "the same PID 1 after a reboot");
    let second = node.run(["cat", "/proc/sys/kernel/random/boot_id"]).unwrap();
    assert_ne!(second, first, "recovery tells boots apart by this");
    node.cut().unwrap();
    assert!(!node.running().unwrap());
    assert!(node.run(["true"]).unwrap_err().to_string().contains("is off"));
    node.boot().unwrap();
    assert_eq!(
        node.run(["cat", "/root/deep/kept", "/var/lib/nodectl/kept"])
            .unwrap(),
        "rootstate"
    );
    assert!(node.boot().unwrap_err().to_string().contains("is running"));

    node.power_off().unwrap();
    assert!(!node.running().unwrap());
    node.boot().unwrap();
}

fn a_second_machine_is_apart(setup: &Setup) {
    let taken = Node::up(&Name::parse("n1").unwrap(), setup).unwrap_err();
    assert!(taken.to_string().contains("already"), "{taken}");
    let mut other = Node::up(&Name::parse("n2").unwrap(), setup).unwrap();
    assert!(!other.path("/root/deep").unwrap().exists());
    other.run(["ping", "-c1", "-W2", "n2"]).unwrap();
    let first = Node::find(&Name::parse("n1").unwrap()).unwrap();
    other
        .run(["ping", "-c1", "-W2", &first.address().to_string()])
        .unwrap();
    // What kills one machine's cgroup must not reach another's.
    other.cut().unwrap();
    first.run(["true"]).unwrap();
    for _ in 0..3 {
        other.down().unwrap();
        let ports = output(lab::command_inside("ip").args(["-brief", "link"])).unwrap();
        assert!(!ports.contains("v-n2"), "the name is not free yet: {ports}");
        other = Node::up(&Name::parse("n2").unwrap(), setup).unwrap();
    }
}

/// Everything on the host that carries this instance's name.
fn host() -> Vec<String> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let mut found: Vec<String> = mounts
        .lines()
        .filter(|line| line.contains("nodectl-t1"))
        .map(str::to_owned)
        .collect();
    for directory in ["/run/netns", "/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
        let Ok(entries) = fs::read_dir(Path::new(directory)) else {
            continue;
        };
        let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
        found.extend(names.filter(|name| name.starts_with("nodectl-t1")));
    }
    let processes = output(&mut command("ps", ["-eo", "args"])).unwrap();
    found.extend(
        processes
            .lines()
            .filter(|line| line.contains("nodectl-t1"))
            .map(str::to_owned),
    );
    let loops = output(&mut command(
        "losetup",
        ["--list", "--noheadings", "--output", "BACK-FILE"],
    ))
    .unwrap();
    found.extend(
        loops
            .lines()
            .filter(|line| line.contains("nodectl-t1"))
            .map(str::to_owned),
    );
    found.sort();
    found
}

//! noded and nodectl, the programs, on a bus of their own and an empty node of their own.

mod common;

use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Output};

use assert_cmd::cargo::cargo_bin;
use common::DEADLINE;
use common::bus::{Bus, ORDINARY_USER};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// An empty node: state and run directories are in memory and seen by the one program alone. So nodectl can only tell
/// what it learnt from noded, and whatever goes wrong, this machine is not touched.
const EMPTY_NODE: &str = "mount -t tmpfs none /var/lib && mount -t tmpfs none /run && exec \"$0\" \"$@\"";

/// A program on an empty node.
fn on_an_empty_node(program: &str) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private", "sh", "-c", EMPTY_NODE])
        .arg(cargo_bin(program));
    command
}

struct Node {
    noded: Child,
    bus: Bus,
}

impl Node {
    /// Starts noded and waits until it says that it is ready.
    fn new() -> Self {
        let bus = Bus::with_installed_policy();
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("notify");
        let notified = UnixDatagram::bind(&socket).unwrap();
        notified.set_read_timeout(Some(DEADLINE)).unwrap();
        let noded = on_an_empty_node("noded")
            .env("DBUS_SYSTEM_BUS_ADDRESS", &bus.address)
            .env("NOTIFY_SOCKET", &socket)
            .env_remove("JOURNAL_STREAM")
            .spawn()
            .unwrap();
        let node = Self { noded, bus };
        let mut message = [0; 256];
        let length = notified.recv(&mut message).expect("noded says that it is ready");
        assert_eq!(&message[..length], b"READY=1\n");
        node
    }

    fn nodectl(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = on_an_empty_node("nodectl");
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("DBUS_SYSTEM_BUS_ADDRESS", &self.bus.address)
            .args(arguments);
        command
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.nodectl(&[&["--json"], arguments].concat());
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn terminate(&mut self) -> Option<i32> {
        kill(
            Pid::from_raw(self.noded.id().try_into().unwrap()),
            Signal::SIGTERM,
        )
        .unwrap();
        self.noded.wait().unwrap().code()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.noded.kill();
        let _ = self.noded.wait();
    }
}

#[test]
fn nodectl_and_noded_work_together() {
    let node = Node::new();
    assert_eq!(node.json(&["status"])["deployment"], Value::Null);
    assert_eq!(node.json(&["gc"])["objects"], 0);
    assert_eq!(node.json(&["history"])["entries"], serde_json::json!([]));

    let refused = node.nodectl(&["--json", "rollback"]);
    assert_eq!(refused.status.code(), Some(64), "{refused:?}");
    let failed: Value = serde_json::from_slice(&refused.stdout).unwrap();
    assert!(
        failed["error"]["message"]
            .as_str()
            .unwrap()
            .contains("no release"),
        "{failed}"
    );

    // Only noded has events: so it was noded that answered.
    let events = node.nodectl(&["events", "--no-follow"]);
    assert_eq!(events.status.code(), Some(0), "{events:?}");
    assert_eq!(node.nodectl(&["recover"]).status.code(), Some(77));
}

#[test]
fn an_ordinary_user_sees_the_status_and_changes_nothing() {
    let node = Node::new();
    let as_user = |arguments: &[&str]| {
        Command::new(cargo_bin("nodectl"))
            .env_clear()
            .env("DBUS_SYSTEM_BUS_ADDRESS", &node.bus.address)
            .args(arguments)
            .uid(ORDINARY_USER)
            .gid(ORDINARY_USER)
            .output()
            .unwrap()
    };
    let status = as_user(&["status"]);
    assert_eq!(status.status.code(), Some(0), "{status:?}");
    assert!(String::from_utf8_lossy(&status.stdout).contains("empty"));
    let refused = as_user(&["gc"]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let message = String::from_utf8_lossy(&refused.stderr);
    assert!(
        message.contains("nodectl: only root may do that") && message.contains("hint: "),
        "{message}"
    );
}

#[test]
fn noded_ends_when_systemd_says_so() {
    let mut node = Node::new();
    assert_eq!(node.terminate(), Some(0));
}

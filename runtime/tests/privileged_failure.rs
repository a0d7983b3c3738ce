//! Launches that fail: the journal says which step, on what and why; nothing is in the way of the
//! next one.

mod common;

use common::Box;
use common::service::Service;
use node_runtime::launch::Readiness;
use node_runtime::spec::container::HostNamespace;
use node_runtime::spec::mounts::{Mount, Propagation};

fn fails_with(node: &Box, service: &Service, expected: &[&str]) {
    assert!(!service.start(node), "{} started", service.name);
    let journal = node.journal(&service.name);
    for text in expected {
        assert!(journal.contains(text), "no `{text}` in:\n{journal}");
    }
    assert_eq!(node.ok("ls /run/nodectl/launch 2>/dev/null || true"), "");
}

#[test]
fn the_journal_names_step_path_and_cause() {
    let node = Box::boot();
    let command = |name: &str| Service::command(name, &["/bin/true"]);

    let missing = Service::command("program", &["/no/such/program"]);
    fails_with(
        &node,
        &missing,
        &[
            "cannot create the container of program",
            "execute /no/such/program: No such file",
        ],
    );
    let unlisted = Service::command("path", &["no-such-program"]);
    fails_with(
        &node,
        &unlisted,
        &["execute no-such-program: not found in PATH /usr/local/sbin"],
    );
    let format = Service::command("noexec", &["/etc/passwd"]);
    fails_with(&node, &format, &["execute /etc/passwd: Permission denied"]);

    let mut source = command("source");
    source.container.mounts.push(Mount {
        source: Some("/no/such/source".into()),
        target: "/mnt".into(),
        read_only: false,
        recursive: false,
        propagation: Propagation::Private,
        optional: false,
        size: None,
        mode: None,
        user: None,
        group: None,
    });
    fails_with(
        &node,
        &source,
        &["cannot find mount source /no/such/source: No such file"],
    );

    let mut sysctl = command("sysctl");
    sysctl
        .container
        .sysctl
        .insert("net.no_such_key".into(), "1".into());
    fails_with(
        &node,
        &sysctl,
        &["cannot find kernel parameter /proc/sys/net/no_such_key: No such file"],
    );

    for (name, directory, cause) in [
        ("cwd", "/no/such/cwd", "No such file"),
        ("cwd-file", "/etc/passwd", "not a directory"),
    ] {
        let mut cwd = command(name);
        cwd.container.process.cwd = Some(directory.into());
        let expected = format!("cannot enter working directory {directory}: {cause}");
        fails_with(&node, &cwd, &[&expected]);
    }

    let mut shared = command("shared");
    shared.container.mounts.push(Mount {
        source: Some("/srv/alone".into()),
        propagation: Propagation::Shared,
        ..source.container.mounts[0].clone()
    });
    node.ok("mkdir -p /srv/alone && mount -t tmpfs --make-private alone /srv/alone");
    fails_with(
        &node,
        &shared,
        &["/srv/alone: propagation `shared` needs a shared mount, and the host's mount there is private"],
    );
    node.ok("mount --make-shared /srv/alone");
    shared.up(&node);

    let mut digest = command("digest");
    digest.install(&node);
    digest.digest = "1".repeat(64);
    node.ok("mv /var/lib/nodectl/deployments/1/services/digest/digest /tmp/kept");
    digest.install(&node);
    node.ok("mv /tmp/kept /var/lib/nodectl/deployments/1/services/digest/digest; systemctl daemon-reload");
    assert!(!node.sh("systemctl start digest").status.success());
    assert!(
        node.journal("digest")
            .contains("has service digest with digest 1111"),
        "{}",
        node.journal("digest")
    );
}

#[test]
fn a_bundle_that_could_kill_others_is_refused() {
    let node = Box::boot();
    for (name, from, to, expected) in [
        ("slash", "/nodectl/slash", "/", "has to name a cgroup of its own"),
        (
            "climb",
            "/nodectl/climb",
            "/a/..",
            "has to name a cgroup of its own",
        ),
        (
            "writable",
            "\"readonly\": true",
            "\"readonly\": false",
            "root.readonly true",
        ),
        ("broken", "{", "", "is not an OCI runtime configuration"),
    ] {
        let service = Service::command(name, &["/bin/true"]);
        service.install(&node);
        let config = format!("/var/lib/nodectl/deployments/1/services/{name}/config.json");
        let text = node.ok(&format!("cat {config}"));
        assert!(text.contains(from), "{text}");
        node.write(&config, text.replacen(from, to, 1));
        node.ok("systemctl daemon-reload");
        assert!(!node.sh(&format!("systemctl start {name}")).status.success());
        assert!(node.journal(name).contains(expected), "{}", node.journal(name));
        let check = node.sh(&format!("/usr/libexec/node-run check $(dirname {config})"));
        assert!(
            String::from_utf8_lossy(&check.stderr).contains(expected),
            "{check:?}"
        );
    }
    let good = Service::command("good", &["/bin/true"]);
    good.install(&node);
    node.ok("/usr/libexec/node-run check /var/lib/nodectl/deployments/1/services/good");
    node.write("/var/lib/nodectl/deployments/1/services/good/digest", "short\n");
    let short = node.sh("/usr/libexec/node-run check /var/lib/nodectl/deployments/1/services/good");
    assert!(String::from_utf8_lossy(&short.stderr).contains("good/digest: is not a service digest"));
    Service::command("absent", &["/no/such"]).install(&node);
    let absent = node.sh("/usr/libexec/node-run check /var/lib/nodectl/deployments/1/services/absent");
    assert!(String::from_utf8_lossy(&absent.stderr).contains("program /no/such is not in the image"));
}

#[test]
fn children_of_a_killed_daemon_live_on_and_are_not_in_the_way() {
    let node = Box::boot();
    let program = "
import os, socket, signal
if os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True: signal.pause()
n = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
n.sendto(b'READY=1', os.environ['NOTIFY_SOCKET'])
while True: signal.pause()";
    let mut service = Service::python("daemon", program).ready(Readiness::Notify);
    service.container.share.insert(HostNamespace::Pid);
    let service = service.unit("KillMode=process");
    service.up(&node);
    let count = || node.ok("wc -l </sys/fs/cgroup/system.slice/daemon.service/cgroup.procs");
    assert_eq!(count(), "2");
    node.ok("systemctl kill -s KILL --kill-who=main daemon");
    node.wait_property("daemon", "Result", "signal");
    assert_eq!(count(), "1", "the child survives its daemon");
    for expected in ["3", "4"] {
        node.ok("systemctl restart daemon");
        assert_eq!(count(), expected, "{}", node.journal("daemon"));
    }
}

#[test]
fn a_launcher_killed_halfway_leaves_no_process() {
    let node = Box::boot();
    // The launcher stops between the creation of the container and its start, where it talks to
    // systemd: systemd is stopped.
    let mut service = Service::command("halfway", &["/bin/sleep", "1000"]).unit("KillMode=process");
    service.container.share.insert(HostNamespace::Pid);
    service.install(&node);
    let script = "
        export NOTIFY_SOCKET=/run/deaf
        python3 -c 'import socket, signal
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(\"/run/deaf\")
open(\"/run/deaf-ready\", \"w\")
signal.pause()' & deaf=$!
        until test -e /run/deaf-ready; do sleep 0.05; done
        /usr/libexec/node-run start --digest=$DIGEST halfway & launcher=$!
        until test -e /run/nodectl/running/halfway.json; do sleep 0.05; done
        pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/' /run/nodectl/running/halfway.json)
        test -d /proc/$pid || exit 3
        kill -9 $launcher
        timeout 10 sh -c \"while test -d /proc/$pid && ! grep -q '^State:.Z' /proc/$pid/status; do sleep 0.05; done\"
        status=$?
        kill $deaf
        exit $status";
    let output = node.sh(&script.replace("$DIGEST", &service.digest));
    assert!(output.status.success(), "{output:?}");
    service.up(&node);
}

//! Launches on a real systemd: who is the main process, what it sees, what stays on the host.

mod common;

use common::Box;
use common::service::Service;
use node_runtime::launch::Readiness;
use node_runtime::spec::values::Capability;

/// Handles SIGTERM, says so, and waits for it.
const FOREVER: &str = "import signal, os, socket
signal.signal(signal.SIGTERM, lambda *_: exit(0))
if 'NOTIFY_SOCKET' in os.environ:
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.sendto(b'READY=1', os.environ['NOTIFY_SOCKET'])
while True: signal.pause()";

fn mounts(node: &Box, pid: &str) -> String {
    node.ok(&format!("cat /proc/{pid}/mountinfo"))
}

#[test]
fn the_container_is_the_unit_and_nothing_else_stays() {
    let node = Box::boot();
    let before = mounts(&node, "1");
    for (name, host_pid) in [("private", false), ("hostpid", true)] {
        let mut service = Service::python(name, FOREVER).ready(Readiness::Notify);
        if host_pid {
            service = service.host_pid();
        }
        service.up(&node);
        let pid = node.property(name, "MainPID");
        assert_eq!(
            node.ok(&format!("sed -n 's/^PPid:\\t//p' /proc/{pid}/status")),
            "1",
            "child of systemd"
        );
        assert_eq!(
            node.ok(&format!(
                "wc -l </sys/fs/cgroup/system.slice/{name}.service/cgroup.procs"
            )),
            "1"
        );
        let cgroup = node.ok(&format!("cat /proc/{pid}/cgroup"));
        assert!(
            cgroup.ends_with(&format!("0::/system.slice/{name}.service")),
            "{cgroup}"
        );
        assert_eq!(mounts(&node, "1"), before, "mounts on the host while {name} runs");
        let record = node.ok(&format!("cat /run/nodectl/running/{name}.json"));
        assert!(record.contains(&format!("\"pid\":{pid},")), "{record}");
        node.ok(&format!("kill -9 {pid}"));
        node.wait_property(name, "Result", "signal");
        node.ok(&format!("systemctl start {name}"));
        node.ok(&format!("systemctl stop {name}"));
        assert_eq!(node.property(name, "Result"), "success");
        assert_eq!(
            mounts(&node, "1"),
            before,
            "mounts on the host after {name} ended"
        );
    }
    assert_eq!(
        node.ok("ls /run/nodectl/launch"),
        "",
        "the stage is empty on the host"
    );
}

#[test]
fn the_root_is_read_only_and_the_view_is_private() {
    let node = Box::boot();
    let program = "import os\n\
        def refused(path):\n\
        \x20   try:\n        open(path, 'w')\n\
        \x20   except OSError as e: return e.errno == 30\n\
        assert refused('/usr/new') and refused('/new') and refused('/etc/hostname')\n\
        for path in ('/tmp/x', '/run/x', '/dev/shm/x'): open(path, 'w')\n\
        mounts = [line.split() for line in open('/proc/self/mountinfo')]\n\
        assert all('ro' in m[5].split(',') for m in mounts if m[4] == '/sys')\n\
        assert os.path.exists('/dev/null') and not os.path.exists('/dev/loop-control')\n\
        assert os.getpid() == 1 and os.uname().nodename == 'view'\n\
        assert sorted(os.listdir('/sys/class/net')) == ['lo']\n\
        print('all as it should be', flush=True)\n";
    let service = Service::python("view", &format!("{program}{FOREVER}"));
    service.up(&node);
    node.ok("timeout 20 sh -c 'until journalctl -u view -o cat | grep -q \"all as it should\"; do sleep 0.1; done'");
    assert_eq!(node.property("view", "ActiveState"), "active");
    assert!(!node.path("/srv/tree/new").exists());
}

/// The owner of a file in /proc needs no capability to read or write it, and uid 0 owns them all.
#[test]
fn what_root_needs_no_capability_for_is_out_of_its_reach() {
    let node = Box::boot();
    let program = "import os, stat\n\
        def opens(path):\n\
        \x20   try: open(path, 'r+')\n\
        \x20   except OSError as e: return e.errno != 30\n\
        \x20   return True\n\
        knobs = ('/proc/sys/vm/swappiness', '/proc/irq/default_smp_affinity', '/proc/sysrq-trigger')\n\
        print('writes', [p for p in knobs if os.path.exists(p) and opens(p)], flush=True)\n\
        files = ('/proc/kcore', '/proc/keys', '/proc/timer_list')\n\
        shown = [p for p in files if os.path.exists(p) and not stat.S_ISCHR(os.stat(p).st_mode)]\n\
        firmware = '/sys/firmware'\n\
        print('reads', shown + (os.listdir(firmware) if os.path.exists(firmware) else []), flush=True)\n";
    for (name, capability, nothing) in [("confined", None, true), ("trusted", Some("SYS_ADMIN"), false)] {
        let mut service = Service::python(name, &format!("{program}{FOREVER}")).ready(Readiness::Notify);
        if let Some(capability) = capability {
            let capability = Capability::try_from(capability.to_owned()).expect("a capability");
            service.container.capabilities.insert(capability, "test".into());
        }
        service.up(&node);
        let said = node.journal(name);
        for what in ["writes []", "reads []"] {
            assert_eq!(said.lines().any(|line| line == what), nothing, "{name}: {said}");
        }
    }
}

#[test]
fn status_and_signals_are_those_of_the_service() {
    let node = Box::boot();
    for (suffix, host_pid) in [("", false), ("-host", true)] {
        let service = |name: &str, program: &str| {
            let service = Service::python(&format!("{name}{suffix}"), program);
            if host_pid { service.host_pid() } else { service }
        };
        let exits = service("exits", "exit(7)");
        exits.start(&node);
        node.wait_property(&exits.name, "Result", "exit-code");
        assert_eq!(node.property(&exits.name, "ExecMainStatus"), "7");
        let segfault = "import signal, os\nsignal.signal(11, signal.SIG_DFL)\nopen('/proc/self/oom_score_adj')\nimport ctypes\nctypes.string_at(0)";
        let crash = service("crash", segfault);
        crash.start(&node);
        node.wait_property(&crash.name, "ActiveState", "failed");
        let restarts = service("again", "exit(1)")
            .unit("Restart=on-failure\nRestartSec=50ms\nStartLimitBurst=3\nStartLimitIntervalSec=60");
        restarts.start(&node);
        node.wait_property(&restarts.name, "NRestarts", "3");
        let stops = service("stops", FOREVER).ready(Readiness::Notify);
        stops.up(&node);
        node.ok(&format!("systemctl stop {}", stops.name));
        assert_eq!(node.property(&stops.name, "Result"), "success");
    }
}

#[test]
fn of_forty_services_that_fail_at_once_none_counts_as_success() {
    let node = Box::boot();
    let names: Vec<String> = (0..40).map(|number| format!("fail{number}")).collect();
    for name in &names {
        Service::command(name, &["/bin/sh", "-c", "exit 7"]).install(&node);
    }
    node.ok("systemctl daemon-reload");
    node.sh(&format!("systemctl start --no-block {}", names.join(" ")));
    for name in &names {
        node.wait_property(name, "Result", "exit-code");
        assert_eq!(node.property(name, "ExecMainStatus"), "7", "{name}");
    }
}

#[test]
fn readiness_is_reported_by_whoever_knows() {
    let node = Box::boot();
    let notify = "import os, socket\n\
        s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n\
        s.sendto(b'STATUS=says so itself', os.environ['NOTIFY_SOCKET'])\n";
    for (name, host_pid) in [("notify", false), ("notify-host", true)] {
        let service = Service::python(name, &format!("{notify}{FOREVER}")).ready(Readiness::Notify);
        let service = if host_pid { service.host_pid() } else { service };
        service.up(&node);
        assert_eq!(node.property(name, "StatusText"), "says so itself");
    }
    let silent = Service::python("silent", "exit(9)").ready(Readiness::Notify);
    assert!(!silent.start(&node));
    assert_eq!(node.property("silent", "ExecMainStatus"), "9");

    let listens = "import socket, time\ntime.sleep(0.5)\ns = socket.socket(socket.AF_UNIX)\ns.bind('/run/s')\ns.listen()\n";
    let socket = Readiness::UnixSocket {
        path: "/run/s".into(),
    };
    Service::python("listens", &format!("{listens}{FOREVER}"))
        .ready(socket.clone())
        .up(&node);
    let mut deaf = Service::python("deaf", FOREVER).ready(socket);
    deaf.timeout = 1;
    assert!(!deaf.start(&node));
    let journal = node.journal("deaf");
    assert!(
        journal.contains("deaf did not become ready: connect to /run/s"),
        "{journal}"
    );

    let touches = "import time\ntime.sleep(0.5)\nopen('/run/flag', 'w')\n";
    let exec = Readiness::Exec {
        command: vec!["/usr/bin/test".into(), "-e".into(), "/run/flag".into()],
    };
    Service::python("touches", &format!("{touches}{FOREVER}"))
        .ready(exec)
        .up(&node);
}

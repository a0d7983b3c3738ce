//! What a service sees of the host: mounts and their propagation, devices, files, secrets, sockets,
//! privileges.

mod common;

use std::collections::BTreeMap;

use common::Box;
use common::service::Service;
use node_runtime::launch::{CredentialFile, Readiness};
use node_runtime::spec::RenderedFile;
use node_runtime::spec::container::{Directory, HostNamespace};
use node_runtime::spec::mounts::{Mount, Propagation};
use node_runtime::spec::values::{Capability, Mode};

/// Says READY and waits.
const READY: &str = "
import socket, os, signal
n = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
signal.signal(signal.SIGTERM, lambda *_: exit(0))
n.sendto(b'READY=1', os.environ['NOTIFY_SOCKET'])
while True: signal.pause()";

fn sleeper(name: &str) -> Service {
    Service::python(name, READY).ready(Readiness::Notify)
}

fn bind(source: &str, target: &str, propagation: Propagation) -> Mount {
    Mount {
        source: Some(source.into()),
        target: target.into(),
        read_only: false,
        recursive: true,
        propagation,
        optional: false,
        size: None,
        mode: None,
        user: None,
        group: None,
    }
}

fn inside(node: &Box, service: &str, script: &str) -> std::process::Output {
    node.sh(&format!(
        "/usr/libexec/node-run exec {service} -- /bin/sh -c '{script}'"
    ))
}

fn inside_ok(node: &Box, service: &str, script: &str) -> String {
    let output = inside(node, service, script);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    assert!(
        output.status.success(),
        "{script}: {}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

fn capability(name: &str) -> Capability {
    Capability::try_from(name.to_owned()).expect("capability")
}

#[test]
fn mounts_travel_as_far_as_the_definition_says() {
    let node = Box::boot();
    node.ok("mkdir -p /srv/private /srv/slave /srv/shared /srv/late && mount --make-rshared /");
    node.ok("for d in private slave shared; do mkdir /srv/$d/m; done; touch /srv/late/seen");
    let mut service = sleeper("mounts");
    service
        .container
        .capabilities
        .insert(capability("SYS_ADMIN"), "mounts in the test".into());
    service.container.mounts = vec![
        bind("/srv/private", "/mnt/private", Propagation::Private),
        bind("/srv/slave", "/mnt/slave", Propagation::Slave),
        bind("/srv/shared", "/mnt/shared", Propagation::Shared),
        Mount {
            optional: true,
            ..bind("/srv/nothing", "/mnt/nothing", Propagation::Private)
        },
    ];
    service.up(&node);
    node.ok("for d in private slave shared; do mount --bind /srv/late /srv/$d/m; done");
    let seen = |d: &str| {
        inside(&node, "mounts", &format!("test -e /mnt/{d}/m/seen"))
            .status
            .success()
    };
    assert_eq!(
        (seen("private"), seen("slave"), seen("shared")),
        (false, true, true)
    );
    node.ok("for d in private slave shared; do umount /srv/$d/m; done");
    for directory in ["private", "slave", "shared"] {
        inside_ok(
            &node,
            "mounts",
            &format!("mount -t tmpfs inside /mnt/{directory}/m"),
        );
        let on_host = node.sh(&format!("grep -q \" /srv/{directory}/m \" /proc/self/mountinfo"));
        assert_eq!(on_host.status.success(), directory == "shared", "{directory}");
    }
    assert!(!inside(&node, "mounts", "test -e /mnt/nothing").status.success());
}

#[test]
fn mount_points_the_image_lacks_are_laid_over_it() {
    let node = Box::boot();
    let mut service = sleeper("points");
    service.files.push((
        RenderedFile {
            bundle_relative: "files/a.conf".into(),
            target: "/etc/new/deep/a.conf".into(),
        },
        "content".into(),
    ));
    service
        .container
        .mounts
        .push(bind("/srv", "/opt/new/srv", Propagation::Private));
    service.container.directories.push(Directory {
        path: "/var/lib/state/nested".into(),
        user: "nobody".into(),
        group: "nogroup".into(),
        mode: Mode::new(0o750),
    });
    service.up(&node);
    assert_eq!(inside_ok(&node, "points", "cat /etc/new/deep/a.conf"), "content");
    inside_ok(
        &node,
        "points",
        "test -d /opt/new/srv/tree && test -e /etc/passwd && ! touch /etc/x 2>/dev/null",
    );
    assert_eq!(
        inside_ok(&node, "points", "stat -c %a:%u /etc /tmp"),
        "755:0\n1777:0"
    );
    assert!(
        !node.path("/srv/tree/etc/new").exists(),
        "the image is never written to"
    );
    assert_eq!(
        node.ok("stat -c %a:%u:%g /var/lib/state/nested"),
        "750:65534:65534"
    );
}

#[test]
fn the_hosts_dev_is_shown_and_not_touched() {
    let node = Box::boot();
    let listing = "ls -la --time-style=+ /dev /dev/pts | sort";
    for (name, user) in [("dev", "root"), ("dev-user", "nobody")] {
        let before = node.ok(listing);
        let mut service = sleeper(name).host_pid();
        service.container.process.user = Some(user.into());
        service.container.mounts = vec![
            bind("/dev", "/dev", Propagation::Slave),
            bind("/run", "/run", Propagation::Slave),
            bind("/sys", "/sys", Propagation::Slave),
        ];
        service.container.share = [
            HostNamespace::Cgroup,
            HostNamespace::Ipc,
            HostNamespace::Network,
            HostNamespace::Pid,
            HostNamespace::Uts,
        ]
        .into();
        service.up(&node);
        assert_eq!(node.ok(listing), before, "/dev of the host");
        let pid = node.property(name, "MainPID");
        assert_eq!(
            node.ok(&format!("stat -fc %T /proc/{pid}/root/sys/fs/cgroup")),
            "cgroup2fs"
        );
        let id = |path: &str| node.ok(&format!("stat -c %d:%i {path}"));
        assert_eq!(id(&format!("/proc/{pid}/root/dev/null")), id("/dev/null"));
        assert_eq!(
            node.ok(&format!("sed -n 's/^CapEff:\\t//p' /proc/{pid}/status")),
            "0000000000000000"
        );
        inside_ok(&node, name, "echo x >/dev/null");
    }
}

#[test]
fn secrets_are_files_of_the_service_alone() {
    let node = Box::boot();
    node.write("/etc/nodectl/secrets/url", "rabbit://u:p@h\n");
    let keys = BTreeMap::from([("transport_url".to_owned(), "url".to_owned())]);
    let mut service = sleeper("secret").unit("LoadCredential=url:/etc/nodectl/secrets/url");
    service.container.process.user = Some("nobody".into());
    service.credentials.push(CredentialFile {
        target: "/etc/secrets.conf".into(),
        uid: 65534,
        gid: 65534,
        mode: Mode::new(0o400),
        ini: BTreeMap::from([("DEFAULT".to_owned(), keys)]),
    });
    service.up(&node);
    let text = inside_ok(
        &node,
        "secret",
        "cat /etc/secrets.conf; stat -c %a:%u /etc/secrets.conf",
    );
    assert_eq!(text, "[DEFAULT]\ntransport_url = rabbit://u:p@h\n400:65534");
    let swappable = inside(
        &node,
        "secret",
        "grep secrets.conf /proc/self/mountinfo | grep -v ramfs",
    );
    assert_eq!(String::from_utf8_lossy(&swappable.stdout), "");
    let leaks = node.sh("grep -rl rabbit /run/nodectl /var/lib/nodectl; journalctl | grep rabbit");
    assert_eq!(String::from_utf8_lossy(&leaks.stdout), "");
    service.name = "no-secret".into();
    service.unit = String::new();
    assert!(!service.start(&node));
    assert!(
        node.journal("no-secret").contains("needs credentials"),
        "{}",
        node.journal("no-secret")
    );
}

#[test]
fn sockets_of_the_unit_arrive_with_names_and_pid() {
    let node = Box::boot();
    let program = "
import os, socket
assert os.environ['LISTEN_PID'] == str(os.getpid()), os.environ
assert os.environ['LISTEN_FDS'] == '2' and sorted(os.environ['LISTEN_FDNAMES'].split(':')) == ['one', 'two'], os.environ
import select
for _ in range(2):
    ready, _, _ = select.select([3, 4], [], [])
    connection, _ = socket.socket(fileno=os.dup(ready[0])).accept()
    connection.send(str(os.getpid()).encode())
    connection.close()
";
    for (name, host_pid) in [("act", false), ("act-host", true)] {
        for (fd, socket) in [("one", "a"), ("two", "b")] {
            let unit = format!(
                "[Socket]\nListenStream=/run/{name}.{socket}\nFileDescriptorName={fd}\nService={name}.service\n"
            );
            node.write(&format!("/run/systemd/system/{name}-{fd}.socket"), unit);
        }
        let sockets = format!("{name}-one.socket {name}-two.socket");
        let service = Service::python(name, &format!("{program}{READY}")).ready(Readiness::Notify);
        let service = service.unit(&format!("Sockets={sockets}"));
        let service = if host_pid { service.host_pid() } else { service };
        service.install(&node);
        node.ok(&format!("systemctl daemon-reload && systemctl start {sockets}"));
        let client = "import socket, sys\ns = socket.socket(socket.AF_UNIX)\ns.settimeout(20)\ns.connect(sys.argv[1])\nprint(s.recv(9).decode())";
        let ask = |socket: &str| node.ok(&format!("/usr/bin/python3 -c '{client}' /run/{name}.{socket}"));
        let (one, two) = (ask("a"), ask("b"));
        let expected = if host_pid {
            node.property(name, "MainPID")
        } else {
            "1".to_owned()
        };
        assert_eq!((one, two), (expected.clone(), expected), "{}", node.journal(name));
    }
}

#[test]
fn filters_and_capabilities_are_those_of_the_definition() {
    let node = Box::boot();
    assert_ne!(node.ok("perl -e 'syscall(250, 0, -3, 0); print $! + 0'"), "1");
    let filter = node_runtime::seccomp::compile(node_runtime::seccomp::DEFAULT_PROFILE).expect("filter");
    for (name, user, no_new_privileges) in [
        ("root", "root", false),
        ("user", "nobody", false),
        ("user-nnp", "nobody", true),
    ] {
        let mut service = sleeper(name);
        service.filter = Some(filter.clone());
        service.container.process.user = Some(user.into());
        service.container.process.no_new_privileges = no_new_privileges;
        for capability_name in ["NET_ADMIN", "NET_RAW"] {
            service
                .container
                .capabilities
                .insert(capability(capability_name), "test".into());
        }
        service.container.process.ambient.insert(capability("NET_RAW"));
        service.up(&node);
        let pid = node.property(name, "MainPID");
        let status = "grep -E \"^(Cap(Eff|Prm|Bnd|Amb|Inh)|Seccomp|NoNewPrivs):\"";
        let facts = node.ok(&format!("{status} /proc/{pid}/status"));
        let field = |key: &str| {
            let line = facts
                .lines()
                .find(|line| line.starts_with(key))
                .unwrap_or_default();
            line.rsplit('\t')
                .next()
                .unwrap_or_default()
                .trim_start_matches('0')
                .to_owned()
        };
        let (net_raw, both) = ("2000", "3000");
        let held = if user == "root" { both } else { net_raw };
        assert_eq!(
            (field("CapBnd"), field("CapEff"), field("CapPrm")),
            (both.into(), held.into(), held.into()),
            "{name}"
        );
        assert_eq!(field("Seccomp:"), "2", "{name}: {facts}");
        // The box has filters of its own.
        let filters = |pid: &str| -> u32 {
            let count = node.ok(&format!("sed -n 's/^Seccomp_filters:\t//p' /proc/{pid}/status"));
            count.parse().expect("a number")
        };
        assert_eq!(
            filters(&pid),
            filters("1") + 1,
            "{name}: its own filter is loaded"
        );
        assert_eq!(field("NoNewPrivs"), if no_new_privileges { "1" } else { "" });
        let same = inside_ok(
            &node,
            name,
            &format!("{} /proc/self/status", status.replace('\'', "")),
        );
        assert_eq!(same, facts, "exec gives what the service has");
        // keyctl(KEYCTL_GET_KEYRING_ID) may find no keyring, but nobody is forbidden to ask.
        let keyctl = "perl -e \"syscall(250, 0, -3, 0); print \\$! + 0\"";
        assert_eq!(inside_ok(&node, name, keyctl), "1", "EPERM by the filter");
    }
}

#[test]
fn a_service_starts_without_what_the_host_withholds() {
    let node = Box::boot();
    let mut service = sleeper("withheld").unit("CapabilityBoundingSet=~CAP_SYS_RESOURCE");
    for name in ["SYS_RESOURCE", "NET_RAW"] {
        let why = "test".to_owned();
        service.container.capabilities.insert(capability(name), why);
    }
    service.up(&node);
    let journal = node.journal("withheld");
    let warning = "runs without CAP_SYS_RESOURCE: this host does not give it";
    assert!(journal.contains(warning), "{journal}");
    assert!(!journal.contains("CAP_NET_RAW"), "{journal}");
    let pid = node.property("withheld", "MainPID");
    let sets = "grep -E \"^Cap(Eff|Prm|Bnd)\"";
    let held = node.ok(&format!("{sets} /proc/{pid}/status | cut -f 2 | uniq"));
    assert_eq!(held, "0000000000002000");
    assert_eq!(
        inside_ok(
            &node,
            "withheld",
            &format!("{sets} /proc/self/status | cut -f 2 | uniq")
        ),
        held,
        "exec gives what the service has"
    );
}

#[test]
fn exec_passes_on_status_streams_and_terminal() {
    let node = Box::boot();
    for (name, host_pid) in [("exec", false), ("exec-host", true)] {
        let mut service = sleeper(name);
        service
            .container
            .process
            .env
            .insert("FROM".into(), "definition".into());
        let service = if host_pid { service.host_pid() } else { service };
        service.up(&node);
        assert_eq!(inside(&node, name, "exit 42").status.code(), Some(42));
        assert_eq!(inside(&node, name, "kill -9 $$").status.code(), Some(137));
        assert_eq!(inside_ok(&node, name, "echo $FROM; pwd"), "definition\n/");
        let piped = node.ok(&format!("echo in | /usr/libexec/node-run exec {name} -- cat"));
        assert_eq!(piped, "in");
        let cgroup = inside_ok(&node, name, "tail -n1 /proc/self/cgroup");
        assert!(
            cgroup == "0::/" || cgroup.ends_with(&format!("/{name}.service")),
            "{cgroup}"
        );
        let tty = node.ok(&format!(
            "script -qec '/usr/libexec/node-run exec {name} -- test -t 0' /dev/null </dev/null; echo $?"
        ));
        assert_eq!(tty, "0");
        let missing = node.sh(&format!("/usr/libexec/node-run exec {name} -- /no/such"));
        assert_eq!(missing.status.code(), Some(126));
        assert!(
            String::from_utf8_lossy(&missing.stderr).contains("/no/such"),
            "{missing:?}"
        );
        node.sh(&format!(
            "timeout -s KILL 1 /usr/libexec/node-run exec {name} -- sleep 1000"
        ));
        let procs = format!("/sys/fs/cgroup/system.slice/{name}.service/cgroup.procs");
        node.ok(&format!(
            "timeout 10 sh -c 'until [ $(wc -l <{procs}) = 1 ]; do sleep 0.05; done'"
        ));
        node.ok(&format!("systemctl stop {name}"));
        let gone = inside(&node, name, "true");
        assert!(
            String::from_utf8_lossy(&gone.stderr).contains("is gone"),
            "{gone:?}"
        );
    }
    let never = inside(&node, "never", "true");
    assert!(
        String::from_utf8_lossy(&never.stderr).contains("not started since boot"),
        "{never:?}"
    );
}

//! The interface on a real dbus-daemon with the bus policy that is installed: what root may, and an ordinary user.

mod common;

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;

use common::{ScriptedAgent, Step};
use node_agent::daemon::{self, BUS_NAME, Client, OBJECT_PATH, Operations};
use node_agent::error::ExitCode;
use node_agent::protocol::{Query, Report, Request};
use tempfile::TempDir;
use zbus::connection::Builder;

/// Debian's `nobody`.
const ORDINARY_USER: u32 = 65534;

/// What the system bus denies and allows before any service's policy, as in Debian's system.conf.
const SYSTEM_BUS: &str = r#"
  <policy context="default">
    <allow user="*"/>
    <deny own="*"/>
    <deny send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus"/>
  </policy>"#;

/// A policy that somebody opened by mistake.
const OPEN: &str = r#"<policy context="default"><allow own="*"/><allow send_type="method_call"/></policy>"#;

struct Bus {
    process: Child,
    address: String,
    _directory: TempDir,
}

impl Bus {
    fn with_installed_policy() -> Self {
        let policy = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../systemd/dist/usr/share/dbus-1/system.d/org.nodectl.Agent1.conf");
        assert!(policy.exists(), "{}", policy.display());
        Self::new(&format!("<include>{}</include>", policy.display()))
    }

    fn new(policy: &str) -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "this test has to be run as root"
        );
        let directory = tempfile::Builder::new()
            .permissions(mode(0o755))
            .tempdir()
            .unwrap();
        let socket = directory.path().join("bus");
        let configuration = directory.path().join("bus.conf");
        let text = format!(
            "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\" \
             \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\"><busconfig><type>system</type>\
             <listen>unix:path={}</listen>{SYSTEM_BUS}{policy}</busconfig>",
            socket.display()
        );
        std::fs::write(&configuration, text).unwrap();
        let mut process = Command::new("dbus-daemon")
            .arg(format!("--config-file={}", configuration.display()))
            .args(["--nofork", "--nopidfile", "--nosyslog", "--print-address=1"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("dbus-daemon is installed (Debian package dbus)");
        let mut address = String::new();
        BufReader::new(process.stdout.take().unwrap())
            .read_line(&mut address)
            .unwrap();
        assert!(
            address.starts_with("unix:path="),
            "dbus-daemon started: {address}"
        );
        Self {
            process,
            address: address.trim().to_owned(),
            _directory: directory,
        }
    }

    fn connection(&self) -> Builder<'_> {
        Builder::address(self.address.as_str())
    }

    /// Calls a method as an ordinary user.
    fn call(&self, destination: &str, path: &str, method: &str, arguments: &[&str]) -> Output {
        Command::new("dbus-send")
            .arg(format!("--bus={}", self.address))
            .args(["--print-reply", "--reply-timeout=20000"])
            .arg(format!("--dest={destination}"))
            .args([path, method])
            .args(arguments)
            .uid(ORDINARY_USER)
            .gid(ORDINARY_USER)
            .output()
            .expect("dbus-send is installed (Debian package dbus-bin)")
    }

    fn ask(&self, method: &str, arguments: &[&str]) -> Result<String, String> {
        let output = self.call(
            BUS_NAME,
            OBJECT_PATH,
            &format!("org.nodectl.Agent1.{method}"),
            arguments,
        );
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        if output.status.success() {
            Ok(text(output.stdout))
        } else {
            Err(text(output.stderr))
        }
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

fn mode(bits: u32) -> std::fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(bits)
}

/// The daemon on a bus, as long as the runtime lives.
fn serve(bus: &Bus, agent: Arc<ScriptedAgent>) -> (tokio::runtime::Runtime, zbus::Connection) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let operations = Arc::new(Operations::new(agent));
    let builder = bus.connection().name(BUS_NAME);
    let connection = runtime.block_on(daemon::serve(builder, &operations)).unwrap();
    (runtime, connection)
}

const GC: &str = r#"string:{"operation":"gc","dry_run":true}"#;

#[test]
fn root_may_do_everything() {
    let bus = Bus::with_installed_policy();
    let (agent, steps) = ScriptedAgent::new();
    let _daemon = serve(&bus, Arc::clone(&agent));
    let client = Client::over(bus.connection()).unwrap();
    steps.send(common::note("a step")).unwrap();
    steps
        .send(Step::End(Box::new(Ok(Report::acknowledge("done")))))
        .unwrap();

    let seen = std::sync::Mutex::new(0);
    let result = client.run(
        &Request::Gc { dry_run: true },
        &|_| *seen.lock().unwrap() += 1,
        &|_| {},
    );

    assert_eq!(result, Ok(Report::acknowledge("done")));
    assert_eq!(*seen.lock().unwrap(), 1, "root gets the events");
    assert!(matches!(client.query(&Query::Status), Ok(Report::Status(_))));
    let history = client.query(&Query::History {
        limit: 0,
        with_journal: true,
    });
    let Ok(Report::History(history)) = history else {
        panic!("{history:?}")
    };
    assert!(
        !history.entries[0].journal.is_empty(),
        "root sees what the journal said"
    );
}

#[test]
fn an_ordinary_user_may_look_and_not_touch() {
    let bus = Bus::with_installed_policy();
    let (agent, _steps) = ScriptedAgent::new();
    let _daemon = serve(&bus, Arc::clone(&agent));

    assert!(bus.ask("Status", &[]).unwrap().contains("nova-compute"));
    let history = bus.ask("History", &["uint32:0"]).unwrap();
    assert!(
        history.contains("upgrade") && !history.contains("a line of the journal"),
        "{history}"
    );

    for (method, arguments) in [
        ("Start", &[GC][..]),
        ("EventsSince", &["uint64:0"]),
        ("Wait", &["uint64:0"]),
    ] {
        let refused = bus.ask(method, arguments).unwrap_err();
        assert!(
            refused.contains("org.freedesktop.DBus.Error.AccessDenied"),
            "{method}: {refused}"
        );
    }
    let name = format!("string:{BUS_NAME}");
    let taken = bus.call(
        "org.freedesktop.DBus",
        "/org/freedesktop/DBus",
        "org.freedesktop.DBus.RequestName",
        &[&name, "uint32:2"],
    );
    assert!(!taken.status.success(), "nobody else may pretend to be noded");
    assert!(agent.asked.lock().unwrap().is_empty(), "nothing was started");
}

#[test]
fn a_policy_that_was_opened_by_mistake_opens_nothing() {
    let bus = Bus::new(OPEN);
    let (agent, _steps) = ScriptedAgent::new();
    let _daemon = serve(&bus, Arc::clone(&agent));

    let refused = bus.ask("Start", &[GC]).unwrap_err();

    assert!(
        refused.contains("org.nodectl.Agent1.Error.AccessDenied"),
        "{refused}"
    );
    assert!(agent.asked.lock().unwrap().is_empty(), "nothing was started");
}

#[test]
fn a_request_that_is_none_is_refused() {
    let bus = Bus::with_installed_policy();
    let (agent, _steps) = ScriptedAgent::new();
    let (runtime, _connection) = serve(&bus, Arc::clone(&agent));
    let refused = runtime.block_on(async {
        let connection = bus.connection().build().await.unwrap();
        let proxy = daemon::Agent1Proxy::new(&connection).await.unwrap();
        proxy.start(r#"{"operation":"format-disk"}"#).await.unwrap_err()
    });
    assert!(refused.to_string().contains("format-disk"), "{refused}");
}

#[test]
fn a_daemon_that_is_killed_is_reported_as_lost() {
    let bus = Bus::with_installed_policy();
    let (agent, steps) = ScriptedAgent::new();
    let (runtime, connection) = serve(&bus, agent);
    let client = Client::over(bus.connection()).unwrap();
    steps.send(common::note("a step")).unwrap();
    let killed = std::sync::Mutex::new(Some(connection));

    let result = client.run(
        &Request::Gc { dry_run: true },
        &|_| {
            if let Some(connection) = killed.lock().unwrap().take() {
                runtime.spawn(async move { connection.close().await });
            }
        },
        &|_| {},
    );

    assert_eq!(result.unwrap_err().code, ExitCode::Unavailable as u8);
    steps
        .send(Step::End(Box::new(Ok(Report::acknowledge("done")))))
        .unwrap();
}

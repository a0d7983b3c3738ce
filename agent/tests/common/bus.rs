//! A real dbus-daemon of a test's own, with the bus policy that is installed.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use node_agent::daemon::{BUS_NAME, OBJECT_PATH};
use tempfile::TempDir;
use zbus::connection::Builder;

/// Debian's `nobody`.
pub const ORDINARY_USER: u32 = 65534;

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
pub const OPEN: &str =
    r#"<policy context="default"><allow own="*"/><allow send_type="method_call"/></policy>"#;

/// The bus; it ends with the value.
pub struct Bus {
    process: Child,
    pub address: String,
    _directory: TempDir,
}

impl Bus {
    pub fn with_installed_policy() -> Self {
        let policy = installed_policy();
        assert!(policy.exists(), "{}", policy.display());
        Self::new(&format!("<include>{}</include>", policy.display()))
    }

    /// The installed policy on a host whose ordinary user is a member of the group `nodectl`.
    pub fn with_ordinary_user_in_the_group() -> Self {
        let text = std::fs::read_to_string(installed_policy()).unwrap();
        let begin = text.find("<policy").expect("policies");
        let end = text.find("</busconfig>").expect("an end");
        let policies = text[begin..end].replace("group=\"nodectl\"", "group=\"nogroup\"");
        assert!(policies.contains("nogroup"), "the policy has a group");
        Self::new(&policies)
    }

    /// The installed policy, and the one that docs/security.md gives for another group, of which the ordinary user is a
    /// member.
    pub fn with_the_documented_drop_in() -> Self {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/security.md");
        let page = std::fs::read_to_string(page).unwrap();
        let (_, after) = page.split_once("```xml\n").expect("a policy");
        let (text, _) = after.split_once("```").expect("its end");
        assert!(text.contains("group=\"operators\""), "{text}");
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("nodectl-operators.conf");
        std::fs::write(&file, text.replace("operators", "nogroup")).unwrap();
        let installed = installed_policy();
        let include = |path: &Path| format!("<include>{}</include>", path.display());
        // It is read when the bus starts.
        Self::new(&(include(&file) + &include(&installed)))
    }

    pub fn new(policy: &str) -> Self {
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

    pub fn connection(&self) -> Builder<'_> {
        Builder::address(self.address.as_str())
    }

    /// Calls a method as an ordinary user.
    pub fn call(&self, destination: &str, path: &str, method: &str, arguments: &[&str]) -> Output {
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

    pub fn ask(&self, method: &str, arguments: &[&str]) -> Result<String, String> {
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

    /// The signals that reach an ordinary user who listens while this is done.
    pub fn overheard(&self, done: impl FnOnce()) -> String {
        let mut listener = Command::new("dbus-monitor")
            .args(["--address", &self.address, "type='signal'"])
            .uid(ORDINARY_USER)
            .gid(ORDINARY_USER)
            .stdout(Stdio::piped())
            .spawn()
            .expect("dbus-monitor is installed (Debian package dbus-bin)");
        let (sender, lines) = mpsc::channel();
        let output = BufReader::new(listener.stdout.take().unwrap()).lines();
        let reader =
            std::thread::spawn(move || output.map_while(Result::ok).try_for_each(|l| sender.send(l)));
        // A signal that everybody may receive tells that it listens, another that it has heard all.
        let mut heard = String::new();
        let mut hears = |mark: &str, tries: u32| {
            (0..tries).any(|_| {
                self.mark(mark);
                while let Ok(line) = lines.recv_timeout(Duration::from_millis(200)) {
                    heard.push_str(&line);
                    heard.push('\n');
                    if line.contains(mark) {
                        return true;
                    }
                }
                false
            })
        };
        let begun = hears("it listens", 100);
        done();
        let ended = hears("it has heard all", 100);
        listener.kill().unwrap();
        listener.wait().unwrap();
        let _ = reader.join().unwrap();
        assert!(begun && ended, "{heard}");
        heard
    }

    fn mark(&self, text: &str) {
        let sent = Command::new("dbus-send")
            .arg(format!("--bus={}", self.address))
            .args(["--type=signal", "/", "org.example.Mark.Mark"])
            .arg(format!("string:{text}"))
            .status();
        assert!(sent.expect("dbus-send").success());
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

fn installed_policy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../systemd/dist/usr/share/dbus-1/system.d/org.nodectl.Agent1.conf")
}

fn mode(bits: u32) -> std::fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(bits)
}

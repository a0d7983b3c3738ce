//! The bus policy on a real bus: who may call what.

use std::process::Command;

use super::output;

/// Stands where the daemon does on the bus.
struct Daemon;

#[zbus::interface(name = "org.nodectl.Agent1")]
impl Daemon {
    fn start(&self) {}
    fn wait(&self) {}
    fn status(&self) {}
    fn history(&self) {}
    fn events_since(&self) {}
    fn something_new(&self) {}
}

/// Calls a method as a user, by `runuser` arguments; true if the bus let it through.
fn may(who: &[&str], method: &str) -> bool {
    let call = [
        "busctl",
        "call",
        "org.nodectl.Agent1",
        "/org/nodectl/Agent1",
        "org.nodectl.Agent1",
        method,
    ];
    let output = Command::new("setpriv")
        .args(who)
        .args(call)
        .output()
        .expect("setpriv");
    let said = String::from_utf8_lossy(&output.stderr);
    let denied = said.contains("Access denied") || said.contains("rejected send message");
    assert!(output.status.success() || denied, "{who:?} {method}: {said}");
    output.status.success()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "runs inside the box"]
async fn only_root_may_change_anything() {
    // As the package does after unpacking.
    output("systemd-sysusers", &["nodectl.conf"]);
    output("systemctl", &["stop", "noded.service"]);
    output("systemctl", &["reload", "dbus.service"]);
    let _daemon = zbus::connection::Builder::system()
        .serve_at("/org/nodectl/Agent1", Daemon)
        .name("org.nodectl.Agent1")
        .build()
        .await
        .expect("root may own the name");
    let root: &[&str] = &["--reuid=0"];
    let member: &[&str] = &["--reuid=65534", "--regid=65534", "--init-groups"];
    let anybody: &[&str] = &["--reuid=65534", "--regid=65534", "--clear-groups"];
    let table = [
        ("Status", true, true),
        ("History", true, true),
        ("Wait", true, false),
        ("EventsSince", true, false),
        ("Start", false, false),
        ("SomethingNew", false, false),
    ];
    for (method, _, by_anybody) in table {
        assert!(may(root, method), "root: {method}");
        assert_eq!(may(anybody, method), by_anybody, "anybody: {method}");
    }
    // The bus asks the user database, so membership counts and not what the process says.
    output("sed", &["-i", "s/^nodectl:.*/&nobody/", "/etc/group"]);
    output("systemctl", &["reload", "dbus.service"]);
    for (method, by_member, _) in table {
        assert_eq!(may(member, method), by_member, "member: {method}");
    }
    let own = takes_the_name_as_nobody();
    assert!(!own, "only root may own the name");
}

/// Asks for the daemon's name as nobody.
fn takes_the_name_as_nobody() -> bool {
    let request = [
        "busctl",
        "call",
        "org.freedesktop.DBus",
        "/org/freedesktop/DBus",
        "org.freedesktop.DBus",
        "RequestName",
        "su",
        "org.nodectl.Agent1",
        "4",
    ];
    let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    let output = Command::new("setpriv")
        .args(nobody)
        .args(request)
        .output()
        .expect("setpriv");
    output.status.success()
}

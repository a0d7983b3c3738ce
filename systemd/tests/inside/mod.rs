//! What runs inside the box, as root and with its systemd as PID 1.

use std::{path::Path, process::Command, time::Duration};

use node_systemd::{RenderedUnit, Systemd, UnitName};

use crate::common;

mod bus;
mod jobs;
mod switch;
mod values;

const SOON: Duration = Duration::from_secs(60);

fn unit(service: &str) -> UnitName {
    UnitName::service(service).expect("a service name")
}

/// Makes a deployment current and reloads.
async fn deploy(systemd: &Systemd, seq: u32, units: &[RenderedUnit]) {
    let inside = std::env::current_exe().is_ok_and(|path| path == Path::new(crate::SELF));
    assert!(
        inside,
        "this test would change the system it runs on; on_a_real_systemd runs it inside a box"
    );
    common::deploy(Path::new("/"), seq, units);
    common::switch(Path::new("/"), seq);
    systemd.daemon_reload(SOON).await.expect("reloads");
}

/// Standard output of a command that has to succeed.
fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect(program);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {stderr}");
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// A property of a service's unit, as systemctl sees it.
fn property(service: &str, name: &str) -> String {
    output(
        "systemctl",
        &["show", "--value", "-p", name, &format!("{service}.service")],
    )
}

//! The client, the generator and the bus policy on a real systemd.
//!
//! systemd and the bus talk only to processes that they can see, so this program runs itself once more
//! inside a booted box, one time for each test of [`inside`].

mod common;
mod inside;

use std::{fs, os::unix::fs::PermissionsExt as _};

use common::booted::Booted;

/// Where this program is inside the box.
const SELF: &str = "/run/test-inside-the-box";

#[test]
fn on_a_real_systemd() {
    let layer = tempfile::tempdir().expect("a directory");
    fs::set_permissions(layer.path(), fs::Permissions::from_mode(0o755)).expect("open to every user");
    common::install(layer.path());
    let node = Booted::boot(layer.path(), &[]);
    let program = std::env::current_exe().expect("this program");
    fs::copy(program, node.root().join(&SELF[1..])).expect("copy this program into the box");
    let run = |test: &str| {
        let output = node.sh(&format!("{SELF} --ignored --exact --nocapture inside::{test}"));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        let passed = output.status.success() && stdout.contains("1 passed");
        assert!(passed, "{test}\n{stdout}{stderr}");
    };
    run("jobs::end_as_they_do_on_a_node");
    run("jobs::many_at_once_each_get_their_own_result");
    run("switch::leaves_running_services_alone");
    run("values::arrive_as_they_were_given");
    run("bus::only_root_may_change_anything");
    // Last, since it takes the bus away.
    run("jobs::go_on_without_a_bus");
}

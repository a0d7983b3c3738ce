//! The generator as a program, on roots in every state: it always exits 0 and writes what is valid.

mod common;

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Output},
};

const LATE: &str = "multi-user.target.wants/nodectl-late-mount.service -> \
                    /usr/lib/systemd/system/nodectl-late-mount.service";
const TARGET: &str = "multi-user.target.wants/nodectl-services.target -> \
                      /usr/lib/systemd/system/nodectl-services.target";

/// Runs it over a root that `prepare` filled; gives what it wrote and what it said.
fn generate(prepare: impl FnOnce(&Path)) -> (Vec<String>, Output) {
    let root = tempfile::tempdir().expect("a directory");
    let out = tempfile::tempdir().expect("a directory");
    prepare(root.path());
    let output = Command::new(env!("CARGO_BIN_EXE_nodectl-generator"))
        .args([out.path(), out.path(), out.path(), root.path()])
        .output()
        .expect("run the generator");
    assert!(output.status.success(), "{output:?}");
    (common::tree(out.path()), output)
}

fn two_services(root: &Path) {
    common::deploy(
        root,
        1,
        &[
            common::unit("a", "aa", ""),
            common::unit("b", "bb", "wanted_by = []"),
        ],
    );
    common::switch(root, 1);
}

const TWO_SERVICES: [&str; 5] = [
    "a.service",
    "b.service",
    "multi-user.target.wants/a.service -> ../a.service",
    TARGET,
    "nodectl-services.target.wants/a.service -> ../a.service",
];

#[test]
fn a_deployment_is_copied() {
    let (tree, _) = generate(two_services);
    assert_eq!(tree, TWO_SERVICES);
}

#[test]
fn an_empty_node_waits_for_a_mount() {
    assert_eq!(generate(|_| {}).0, [LATE]);
}

#[test]
fn what_is_damaged_is_left_out_and_the_rest_is_written() {
    let (tree, output) = generate(|root| {
        two_services(root);
        let units = root.join("var/lib/nodectl/deployments/1/units");
        common::write(&units.join("no-unit.txt"), "x");
        common::write(&units.join("empty.service"), "");
        common::write(&units.join("c.service.d/x.conf"), "[Service]\n");
        fs::write(units.join("binary.service"), [0xff, 0xfe]).expect("written");
        symlink("/etc/shadow", units.join("link.service")).expect("linked");
        common::write(
            &units.join("bad-install.service"),
            "[Install]\nWantedBy=../../x.target\n",
        );
    });
    let kept: Vec<&str> = tree
        .iter()
        .map(String::as_str)
        .filter(|l| *l != "bad-install.service")
        .collect();
    assert_eq!(kept, TWO_SERVICES);
    let said = String::from_utf8_lossy(&output.stderr);
    for name in [
        "no-unit.txt",
        "empty",
        "c.service.d",
        "binary",
        "link",
        "../../x.target",
    ] {
        assert!(said.contains(name), "{name} is not named in {said}");
    }
}

#[test]
fn a_current_that_leads_nowhere_does_not_stop_the_boot() {
    for prepare in [
        dangling as fn(&Path),
        current_is_a_file,
        units_is_a_file,
        current_is_a_loop,
    ] {
        assert_eq!(generate(prepare).0, [LATE]);
    }
}

fn dangling(root: &Path) {
    fs::create_dir_all(root.join("var/lib/nodectl")).expect("a directory");
    common::switch(root, 7);
}

fn current_is_a_file(root: &Path) {
    common::write(&root.join("var/lib/nodectl/current"), "7");
}

fn units_is_a_file(root: &Path) {
    common::write(&root.join("var/lib/nodectl/deployments/1/units"), "x");
    common::switch(root, 1);
}

fn current_is_a_loop(root: &Path) {
    fs::create_dir_all(root.join("var/lib/nodectl")).expect("a directory");
    symlink("current", root.join("var/lib/nodectl/current")).expect("linked");
}

#[test]
fn a_node_that_has_deployments_and_none_that_is_current_is_settled_first() {
    for lose in [no_current as fn(&Path), current_leads_to_none] {
        let (tree, output) = generate(|root| {
            two_services(root);
            fs::remove_file(root.join("var/lib/nodectl/current")).expect("removed");
            lose(root);
        });
        let wanted = "multi-user.target.wants/nodectl-recover.service";
        assert!(tree.iter().any(|line| line.starts_with(wanted)), "{tree:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("none is current"));
    }
}

fn no_current(_: &Path) {}

fn current_leads_to_none(root: &Path) {
    common::switch(root, 7);
}

#[test]
fn what_lies_under_a_mount_that_is_still_missing_is_not_looked_at() {
    let (tree, _) = generate(|root| {
        two_services(root);
        common::write(&root.join("etc/fstab"), "/dev/vdb /var ext4 defaults 0 2\n");
        common::write(
            &root.join("proc/self/mountinfo"),
            "22 1 8:1 / / rw - ext4 /dev/vda rw\n",
        );
    });
    assert_eq!(tree, [LATE]);
}

#[test]
fn the_operator_can_switch_it_off() {
    let (tree, _) = generate(|root| {
        two_services(root);
        common::write(&root.join("proc/cmdline"), "quiet nodectl.disable\n");
    });
    assert!(tree.is_empty(), "{tree:?}");
}

#[test]
fn a_retired_service_keeps_its_unit_and_an_open_transaction_is_settled_first() {
    let (tree, _) = generate(|root| {
        two_services(root);
        let old = common::unit("old", "cc", "");
        common::write(&root.join("run/nodectl/retired/old.service"), &old.text);
        common::write(&root.join("var/lib/nodectl/transaction.json"), "{}");
    });
    assert!(tree.contains(&"old.service".to_owned()));
    assert!(!tree.iter().any(|line| line.contains("wants/old.service")));
    let recover = tree
        .iter()
        .filter(|line| line.contains("wants/nodectl-recover.service"))
        .count();
    assert_eq!(recover, 2, "{tree:?}");
}

#[test]
fn other_arguments_are_a_mistake() {
    let output = Command::new(env!("CARGO_BIN_EXE_nodectl-generator"))
        .output()
        .expect("run the generator");
    assert!(!output.status.success());
}

//! Boots with a real systemd: from the current deployment, from a late mount, out of an open transaction,
//! and with everything switched off.

mod common;

use std::path::Path;

use common::booted::Booted;

/// A layer with the installation and what `fill` puts there; booted with `arguments`.
fn boot(arguments: &[&str], fill: impl FnOnce(&Path)) -> (Booted, tempfile::TempDir) {
    let layer = tempfile::tempdir().expect("a directory");
    std::fs::set_permissions(layer.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("a root that every user can pass");
    common::install(layer.path());
    fill(layer.path());
    (Booted::boot(layer.path(), arguments), layer)
}

/// Waits for the end of the boot's jobs, then gives the unit's state.
fn settled(node: &Booted, unit: &str) -> String {
    node.sh("systemctl is-system-running --wait");
    node.property(unit, "ActiveState")
}

fn ordered_services() -> [node_systemd::RenderedUnit; 3] {
    [
        common::unit("a", "aa", ""),
        common::unit(
            "b",
            "bb",
            "after = [\"a.service\"]\nrequires = [\"a.service\"]\naliases = [\"alias.service\"]",
        ),
        common::unit("idle", "cc", "wanted_by = []"),
    ]
}

#[test]
fn the_current_deployment_comes_up_in_order_without_the_daemon() {
    let (node, _layer) = boot(&[], |root| {
        common::deploy(root, 1, &ordered_services());
        common::switch(root, 1);
        // Not even the daemon's program is there.
        std::fs::remove_file(root.join("usr/libexec/nodectl/noded")).expect("removed");
    });
    assert_eq!(settled(&node, "b.service"), "active", "{}", node.console());
    assert_eq!(node.property("a.service", "ActiveState"), "active");
    assert_eq!(node.property("nodectl-services.target", "ActiveState"), "active");
    assert_eq!(node.property("alias.service", "Id"), "b.service");
    assert_eq!(node.property("idle.service", "ActiveState"), "inactive");
    let started = |unit: &str| -> u64 {
        node.property(unit, "ActiveEnterTimestampMonotonic")
            .parse()
            .expect("a time")
    };
    assert!(started("a.service") <= started("b.service"));
    assert!(started("b.service") <= started("nodectl-services.target"));
    assert_eq!(node.sh("systemctl is-enabled a.service").stdout, b"generated\n");
    let enable = node.sh("systemctl enable a.service");
    assert!(
        !enable.status.success(),
        "a generated unit cannot be pinned by enabling it"
    );
    assert_eq!(node.property("a.service", "Result"), "success");
    assert_eq!(node.property("a.service", "Delegate"), "yes");
}

#[test]
fn services_on_a_late_mount_start_after_it_and_what_lies_under_it_does_not() {
    let (node, _layer) = boot(&[], |root| {
        common::deploy(&root.join("srv"), 1, &ordered_services());
        common::switch(&root.join("srv"), 1);
        common::deploy(root, 9, &[common::unit("stale", "aa", "")]);
        common::switch(root, 9);
        common::write(
            &root.join("etc/fstab"),
            "/srv/var/lib/nodectl /var/lib/nodectl none bind 0 0\n",
        );
    });
    assert_eq!(settled(&node, "b.service"), "active", "{}", node.console());
    assert_eq!(node.property("a.service", "ActiveState"), "active");
    assert_eq!(node.property("stale.service", "LoadState"), "not-found");
    assert_eq!(node.property("nodectl-late-mount.service", "Result"), "success");
    // After the reload nothing waits for the mount any more.
    node.ok("test ! -e /run/systemd/generator/multi-user.target.wants/nodectl-late-mount.service");
}

#[test]
fn an_open_transaction_is_settled_before_the_services_start() {
    let (node, _layer) = boot(&[], |root| {
        let good = [common::unit("a", "aa", ""), common::unit("only-old", "bb", "")];
        let bad = [
            common::unit("a", "dd", "description = \"new\""),
            common::unit("only-new", "ee", ""),
        ];
        common::deploy(root, 1, &good);
        common::deploy(root, 2, &bad);
        common::switch(root, 2);
        common::write(&root.join("var/lib/nodectl/transaction.json"), "{}");
    });
    assert_eq!(settled(&node, "a.service"), "active", "{}", node.console());
    let command = node.property("a.service", "ExecStart");
    assert!(command.contains("--digest=aa"), "{command}");
    assert_eq!(node.property("a.service", "NRestarts"), "0");
    node.ok("systemctl is-active only-old.service || journalctl --no-pager -u nodectl-recover.service");
    assert_eq!(node.property("only-old.service", "ActiveState"), "active");
    assert_ne!(node.property("only-new.service", "ActiveState"), "active");
    // What ran is what is current: the old one was started, once, and the new one never.
    let argv = node.ok("tr '\\0' ' ' < /proc/$(systemctl show --value -p MainPID a.service)/cmdline");
    assert!(argv.contains("sleep"), "{argv}");
    let journal = node.journal("a.service");
    assert_eq!(journal.matches("Started").count(), 1, "{journal}");
}

#[test]
fn break_glass_on_the_kernel_command_line() {
    let (node, _layer) = boot(&["nodectl.disable"], |root| {
        common::deploy(root, 1, &ordered_services());
        common::switch(root, 1);
    });
    node.sh("systemctl is-system-running --wait");
    assert_eq!(node.property("a.service", "LoadState"), "not-found");
    assert_eq!(node.property("multi-user.target", "ActiveState"), "active");
}

//! A node on a kernel of its own: real components installed, power cuts, reboots, and what only such a kernel has.
//! Needs root, and `make stage` before it. `NODECTL_E2E_KIND=vm` runs it in QEMU instead of user-mode-linux.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use node_agent::api::Status;
use node_tests::guests::{self, Card, Guest, virsh, vsctl};
use node_tests::hypervisor::{self, SERVICES};
use node_tests::node::{Name, Node};
use node_tests::nodectl::{self, main_process};
use node_tests::privileges;
use node_tests::stage::play;
use node_tests::story::Story;

const STATE: &str = "/var/lib/nodectl";

const BRIDGE: &str = "br-test";

#[test]
fn a_node_on_its_own_kernel_outlives_cuts() {
    play(
        &format!("nodectl-{}", hypervisor::kind()),
        &format!("a node on its own kernel ({})", hypervisor::kind()),
        tell,
    );
}

fn tell(story: &mut Story, stage: &Path) -> Result<()> {
    let publisher = story.step("images are in the registry", |progress| {
        hypervisor::publisher(stage, progress)
    })?;
    let release = story.step("a release is in the registry", |_| publisher.publish_release(1))?;
    let name = Name::parse("k1")?;
    let node = story.step("a node boots on its own kernel", |_| {
        hypervisor::boot(&name, hypervisor::kind(), stage, &publisher)
    })?;
    story.show(&node.run(["systemd-analyze", "time"])?);
    story.step("its kernel is its own, and its commands are as in a box", |_| {
        own_kernel(&node)?;
        commands(&node)
    })?;
    let said = story.step("nodectl upgrade, on the empty node", |progress| {
        hypervisor::upgrade(&node, &release, progress)
    })?;
    story.show(&said);
    story.step("the real components see a real kernel", |_| {
        serves(&node)?;
        machined(&node)?;
        dataplane(&node)?;
        limits(&node)
    })?;
    story.step("a guest has a port on the bridge and a scope of its own", |_| {
        guest_lives(&node)
    })?;
    let deployment = deployment(&node)?;
    story.step("a power cut leads back to the same deployment", |_| {
        node.write("/root/synced", "synced")?;
        node.run(["sync"])?;
        node.cut()?;
        node.boot()?;
        ensure!(
            node.run(["cat", "/root/synced"])? == "synced",
            "what was synced is lost"
        );
        same(&node, &deployment)
    })?;
    story.step("so does a reboot", |_| {
        let before = node.run(["cat", "/proc/sys/kernel/random/boot_id"])?;
        node.reboot()?;
        let after = node.run(["cat", "/proc/sys/kernel/random/boot_id"])?;
        ensure!(before != after, "it is the same boot");
        same(&node, &deployment)
    })?;
    story.step("nodectl fsck finds nothing after all of it", |_| {
        nodectl::on(&node, &["fsck"])?.expect(0).map(drop)
    })?;
    story.step("the node is switched off, and on", |_| {
        node.power_off()?;
        ensure!(!node.running()?, "it runs");
        let off = node
            .run(["true"])
            .err()
            .context("a command runs on a node that is off")?;
        ensure!(off.to_string().contains("is off"), "{off:#}");
        node.boot()?;
        same(&node, &deployment)
    })
}

fn own_kernel(node: &Node) -> Result<()> {
    let state = node.attempt(["systemctl", "is-system-running"])?;
    let failed = node.run(["systemctl", "--failed", "--no-legend", "--plain"])?;
    ensure!(state.status.success(), "units failed at boot: {failed}");
    let mounts = node.run(["cat", "/proc/self/mounts"])?;
    let cgroups: Vec<&str> = mounts.lines().filter(|line| line.contains(" cgroup")).collect();
    ensure!(
        cgroups.len() == 1 && cgroups[0].starts_with("cgroup2 /sys/fs/cgroup cgroup2 "),
        "cgroup v2 is not alone: {cgroups:?}"
    );
    let controllers = node.run(["cat", "/sys/fs/cgroup/cgroup.controllers"])?;
    for controller in ["cpu", "io", "memory", "pids"] {
        ensure!(
            controllers.split_whitespace().any(|one| one == controller),
            "no controller {controller}: {controllers}"
        );
    }
    let release = node.run(["uname", "-r"])?;
    let host = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    ensure!(release != host, "it runs on the host's kernel {host}");
    Ok(())
}

/// Exit codes, both streams, bytes that are no text, much output, nothing to read.
fn commands(node: &Node) -> Result<()> {
    let said = node.attempt(["sh", "-c", "echo out; echo err >&2; exit 7"])?;
    ensure!(
        said.status.code() == Some(7) && said.stdout == b"out\n" && said.stderr == b"err\n",
        "{said:?}"
    );
    let killed = node.attempt(["sh", "-c", "kill -9 $$"])?;
    ensure!(killed.status.code() == Some(137), "{killed:?}");
    ensure!(
        node.attempt(["cat"])?.stdout.is_empty(),
        "there is something to read"
    );
    let much: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    node.write("/root/deep/er/it's much", &much)?;
    let back = node.attempt(["cat", "/root/deep/er/it's much"])?;
    ensure!(back.stdout == much, "{} bytes came back", back.stdout.len());
    node.start("test-sleeper", ["sleep", "1000"])?;
    node.run(["systemctl", "is-active", "test-sleeper"]).map(drop)
}

/// All services are up with exactly what their definitions give them, and nodectl says the node is healthy.
fn serves(node: &Node) -> Result<()> {
    for service in SERVICES {
        privileges::are_as_defined(node, service)?;
    }
    let status: Status = nodectl::json(node, &["status"])?;
    ensure!(status.healthy, "{status:?}");
    Ok(())
}

fn machined(node: &Node) -> Result<()> {
    node.run([
        "busctl",
        "call",
        "org.freedesktop.machine1",
        "/org/freedesktop/machine1",
        "org.freedesktop.machine1.Manager",
        "ListMachines",
    ])
    .map(drop)
}

/// A bridge of the kernel's datapath, made through the database.
fn dataplane(node: &Node) -> Result<()> {
    vsctl(node, &["--may-exist", "add-br", BRIDGE])?;
    let modules = node.run(["cat", "/proc/modules"])?;
    ensure!(
        modules.lines().any(|line| line.starts_with("openvswitch ")),
        "the kernel's module is not loaded"
    );
    let kind = node.run(["ip", "-details", "link", "show", "br-test"])?;
    ensure!(
        kind.contains("openvswitch"),
        "br-test is not of the kernel: {kind}"
    );
    Ok(())
}

/// What a definition asks for is what a process has; a box refuses part of it.
fn limits(node: &Node) -> Result<()> {
    for (service, nofile) in [
        ("libvirtd", "524288"),
        ("ovs-vswitchd", "65536"),
        ("virtlogd", "65536"),
    ] {
        let pid = main_process(node, service)?;
        let limits = node.run(["cat", &format!("/proc/{pid}/limits")])?;
        let open = limits.lines().find(|line| line.starts_with("Max open files"));
        ensure!(
            open.is_some_and(|line| line.contains(nofile)),
            "{service} has {open:?}"
        );
    }
    let pid = main_process(node, "virtlogd")?;
    let score = node.run(["cat", &format!("/proc/{pid}/oom_score_adj")])?;
    ensure!(score.trim() == "-900", "virtlogd has oom_score_adj {score}");
    Ok(())
}

/// A guest beats, sees what is plugged into it, and is neither libvirt's child nor in libvirt's cgroup.
fn guest_lives(node: &Node) -> Result<()> {
    let card = Card {
        bridge: BRIDGE,
        address: Ipv4Addr::new(203, 0, 113, 11),
    };
    let guest = Guest::start(node, "g1", Some(card))?;
    let beat = guest.beat_after(None)?;
    ensure!(beat.disks == 1 && beat.written, "{beat:?}");
    let cgroup = guest.cgroup()?;
    ensure!(
        cgroup.starts_with("/machine.slice/machine-qemu") && cgroup.contains(".scope"),
        "QEMU is in {cgroup}"
    );
    let ports = vsctl(node, &["list-ports", BRIDGE])?;
    ensure!(ports.lines().count() == 1, "ports of {BRIDGE}: {ports}");
    guest.attach_disk("vdb")?;
    guest.attach_interface(BRIDGE)?;
    guest.beat_that(|beat| beat.disks == 2)?;
    let ports = vsctl(node, &["list-ports", BRIDGE])?;
    ensure!(ports.lines().count() == 2, "ports of {BRIDGE}: {ports}");
    let missing = guests::missing(&guest.beats()?)?;
    ensure!(missing.is_empty(), "never said: {missing:?}");
    ensure!(
        virsh(node, &["list", "--name"])?.trim() == "g1",
        "libvirt does not know g1 alone"
    );
    Ok(())
}

/// What `current` names, and the files of its definition by their digests.
fn deployment(node: &Node) -> Result<BTreeMap<String, String>> {
    let current = node.run(["readlink", &format!("{STATE}/current")])?;
    let sums = node.run([
        "sh",
        "-c",
        &format!("cd {STATE}/current/ && find . -type f -exec sha256sum {{}} +"),
    ])?;
    let mut files: BTreeMap<String, String> = sums
        .lines()
        .filter_map(|line| line.split_once("  "))
        .map(|(sum, file)| (file.to_owned(), sum.to_owned()))
        .collect();
    files.insert("current".to_owned(), current);
    Ok(files)
}

/// The boot has led to that deployment, whole and healthy, with the kernel's datapath as it was.
fn same(node: &Node, before: &BTreeMap<String, String>) -> Result<()> {
    node.attempt(["systemctl", "is-system-running", "--wait"])?;
    serves(node)?;
    ensure!(*before == deployment(node)?, "the deployment is another");
    machined(node)?;
    let bridges = vsctl(node, &["list-br"])?;
    ensure!(bridges.trim() == BRIDGE, "bridges: {bridges}");
    let guests = virsh(node, &["list", "--name"])?;
    ensure!(guests.trim().is_empty(), "guests after a boot: {guests}");
    limits(node)
}

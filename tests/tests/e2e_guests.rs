//! Guests while libvirt is upgraded, rolled back and killed, on a kernel of its own. Needs root, and `make stage` before.
//!
//! `NODECTL_ROUNDS` is how often all below the guests is upgraded, rolled back and restarted; the table of the figures is
//! printed. Where it is absent a selection is run, for its time. `NODECTL_E2E_KIND=vm` runs it in QEMU instead of
//! user-mode-linux.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use node_agent::api::{ServiceStatus, Status};
use node_tests::node::{Name, Node};
use node_tests::stage::{number, play};
use node_tests::story::Story;
use node_tests::survival::{BRIDGE, Releases, Rig, in_the_cgroup_of_its_daemon, table, way_back_is_closed};
use node_tests::{hypervisor, nodectl, order};

#[test]
fn guests_outlive_their_libvirt() {
    play("nodectl-guests", "guests", tell);
}

fn tell(story: &mut Story, stage: &Path) -> Result<()> {
    let (publisher, releases) = story.step("releases of libvirt are published", |progress| {
        let publisher = hypervisor::publisher(stage, progress)?;
        let releases = Releases::publish(&publisher, progress)?;
        Ok((publisher, releases))
    })?;
    let node = story.step(
        "a node boots on a kernel of its own, with release 1",
        |progress| {
            let node = hypervisor::boot(&Name::parse("g1")?, hypervisor::kind(), stage, &publisher)?;
            hypervisor::upgrade(&node, &releases.libvirt[0], progress)?;
            Ok(node)
        },
    )?;
    let mut rig = story.step("three guests count, and two answer pings", |_| Rig::start(&node))?;
    let whole = std::env::var_os("NODECTL_ROUNDS").is_some();
    libvirt_moves(story, &rig, &releases, whole)?;
    later(story, &mut rig)?;
    dangers(story, &rig, &releases)?;
    let rounds = rig.rounds(story, &releases.whole, number("NODECTL_ROUNDS", 1))?;
    story.show(&table(&rounds));
    story.step("a guest without a machine is named, and dies by force", |_| {
        rig.known_bad(&releases.whole)?;
        rig.back()
    })?;
    story.step(
        "at a reboot nova ends before guests and guests before libvirt; Open vSwitch is there before the network; \
         virtlogd is the new one",
        |_| reboot_in_order(&node),
    )?;
    if whole {
        story.step("what an image does not offer closes the way to it", |_| {
            way_back_is_closed(&node, &releases)
        })?;
    }
    story.step(
        "a guest in the cgroup of libvirtd would die with it, and is named",
        |progress| in_the_cgroup_of_its_daemon(&node, releases.last(), progress),
    )
}

/// All of them, or one of each kind.
fn libvirt_moves(story: &mut Story, rig: &Rig<'_>, releases: &Releases, all: bool) -> Result<()> {
    let (signals, later) = if all {
        (&["KILL", "SEGV", "ABRT"][..], 1)
    } else {
        // Two, so that nothing but the guests keeps the image that they were started from.
        (&["KILL"][..], releases.libvirt.len() - 2)
    };
    let told = story.step("upgrade to release 2; virtlogd waits for the guests", |_| {
        rig.virtlogd_waits(&releases.libvirt[1])?;
        rig.through(&["upgrade", &releases.libvirt[1]])
    })?;
    story.show(&told);
    let told = story.step("rollback to release 1", |_| rig.through(&["rollback"]))?;
    story.show(&told);
    for signal in signals {
        let title = format!("libvirtd dies of SIG{signal}, and systemd starts another");
        let told = story.step(&title, |_| rig.crash(signal))?;
        story.show(&told);
    }
    for (number, release) in releases.libvirt.iter().enumerate().skip(later) {
        let title = format!("upgrade to release {}", number + 1);
        let told = story.step(&title, |_| rig.through(&["upgrade", release]))?;
        story.show(&told);
    }
    Ok(())
}

/// With guests that release 1 has started.
fn later(story: &mut Story, rig: &mut Rig<'_>) -> Result<()> {
    story.step("gc leaves the root that they were started from", |_| {
        rig.root_is_kept()
    })?;
    story.step(
        "a disk and a card are plugged into a guest that release 1 started",
        |_| rig.plug(),
    )?;
    story.step("its disk gets a snapshot, and is made whole again", |_| {
        rig.snapshot()
    })?;
    story.step(
        "another one is saved, and goes on in the QEMU of the new image",
        |_| rig.save_and_restore(),
    )
}

fn dangers(story: &mut Story, rig: &Rig<'_>, releases: &Releases) -> Result<()> {
    story.step("a block job and a backup stand in the way, and are named", |_| {
        rig.busy_is_refused()
    })?;
    story.step("machined is away: nothing moves", |_| {
        rig.without_machined_is_refused()
    })?;
    story.step("a key and a socket are missing: nothing moves", |_| {
        rig.out_of_reach_is_refused()
    })?;
    let told = story.step("a libvirtd that does not see the guests is left again", |_| {
        rig.blind_is_left(&releases.blind)
    })?;
    story.show(&told);
    Ok(())
}

/// Nova before guests, guests before libvirt; Open vSwitch before the network that is configured on top of it; and
/// virtlogd, which no guest needs any more, from the current release.
fn reboot_in_order(node: &Node) -> Result<()> {
    let before = virtlogd(node)?;
    ensure!(before.pending && !before.up_to_date, "{before:?}");
    node.write(
        "/etc/systemd/system/nova-compute.service",
        "[Unit]\nDescription=in place of nova\nAfter=libvirtd.service\n[Service]\nExecStart=/bin/sleep infinity\n",
    )?;
    order::network_on(node, BRIDGE, "203.0.113.1/24")?;
    node.run(["systemctl", "daemon-reload"])?;
    node.run(["systemctl", "start", "nova-compute"])?;
    node.reboot()?;
    order::stopped_in_order(
        node,
        &[
            "Stopped nova-compute.service",
            "Stopping nodectl-guests.service",
            "Stopped nodectl-guests.service",
            "Stopped target virt-guest-shutdown.target",
            "Stopped machine-qemu",
            "Stopping libvirtd.service",
            "Stopped libvirtd.service",
            "Stopping virtlogd.service",
        ],
    )?;
    order::network_after(node, "ovs-vswitchd", BRIDGE, "203.0.113.1")?;
    let up = [
        "systemctl",
        "is-active",
        "nodectl-guests",
        "virt-guest-shutdown.target",
    ];
    node.run(up)?;
    let after = virtlogd(node)?;
    ensure!(
        after.up_to_date && !after.pending && after.digest_running != before.digest_running,
        "from {before:?} to {after:?}"
    );
    Ok(())
}

fn virtlogd(node: &Node) -> Result<ServiceStatus> {
    let status: Status = nodectl::json(node, &["status"])?;
    let mut services = status.services.into_iter();
    services
        .find(|service| service.name == "virtlogd")
        .context("status does not know virtlogd")
}

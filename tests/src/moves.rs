//! The steps of the story that move a node between releases: each does its part with nodectl, proves what became of
//! the services, and shows what nodectl printed.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use node_agent::api::{Action, HistoryEntry, OperationKind, OperationResult, Plan, Status};

use crate::cloud::{Cloud, Heartbeat};
use crate::compute;
use crate::node::Node;
use crate::nodectl::{self, SERVICES, main_processes};
use crate::privileges;
use crate::publish::Publisher;
use crate::story::Story;

/// The service that differs between the releases of the story.
const COMPUTE: &str = "nova-compute";

/// The registry holds signed releases 1, 2 and 3; returns the references that nodes use.
///
/// # Errors
/// An image cannot be built, or the registry refuses something.
pub fn releases_are_published(story: &mut Story, publisher: &Publisher) -> Result<[String; 3]> {
    story.step(
        "images for libvirt, Open vSwitch, nova-compute and neutron are built from Debian packages",
        |progress| publisher.build_images(progress),
    )?;
    story.step(
        "images and signed releases 1, 2 and 3 are pushed to the registry",
        |progress| {
            publisher.push_images(progress)?;
            progress.say("releases");
            Ok([
                publisher.publish_release(1)?,
                publisher.publish_release(2)?,
                publisher.publish_release(3)?,
            ])
        },
    )
}

/// An empty node comes up on a release, its services in order.
///
/// # Errors
/// nodectl fails, a service is not up, or they came up in another order.
pub fn empty_node_upgrades(story: &mut Story, node: &Node, release: &str) -> Result<()> {
    let said = story.step(
        &format!("nodectl upgrade {release}, on the empty node"),
        |progress| {
            let said = nodectl::telling(node, &["upgrade", release], progress)?.expect(0)?;
            main_processes(node)?;
            started_in_order(node)?;
            SERVICES
                .iter()
                .try_for_each(|service| privileges::are_as_defined(node, service))?;
            let status: Status = nodectl::json(node, &["status"])?;
            ensure!(status.healthy, "the node is not healthy: {status:?}");
            Ok(said)
        },
    )?;
    story.show(&said);
    story.show(&nodectl::on(node, &["status"])?.expect(0)?);
    Ok(())
}

/// Each service was started after those that it needs: OVS by itself, libvirt after its log daemon, nova at last.
fn started_in_order(node: &Node) -> Result<()> {
    let mut since = BTreeMap::new();
    for service in SERVICES {
        let unit = format!("{service}.service");
        let shown = node.run([
            "systemctl",
            "show",
            "--value",
            "--property=ActiveEnterTimestampMonotonic",
            &unit,
        ])?;
        since.insert(
            service,
            shown
                .trim()
                .parse::<u64>()
                .with_context(|| format!("{unit}: {shown}"))?,
        );
    }
    let chains: [&[&str]; 3] = [
        &["ovsdb-server", "ovs-vswitchd", COMPUTE],
        &["ovsdb-server", "ovs-vswitchd", "neutron-openvswitch-agent"],
        &["virtlogd", "libvirtd", COMPUTE],
    ];
    for chain in chains {
        ensure!(
            chain.is_sorted_by_key(|service| since[service]),
            "started in another order: {since:?}"
        );
    }
    Ok(())
}

/// What must not change when only nova-compute does.
#[derive(Debug)]
struct Untouched {
    services: BTreeMap<String, u32>,
    guests: String,
}

impl Untouched {
    fn look(node: &Node) -> Result<Self> {
        Ok(Self {
            services: main_processes(node)?,
            guests: guests(node)?,
        })
    }

    /// All main processes but nova-compute's are the same, nova-compute's is not, and the guests are.
    fn check(&self, node: &Node) -> Result<()> {
        let now = Self::look(node)?;
        for (service, before) in &self.services {
            let after = now.services.get(service);
            if service == COMPUTE {
                ensure!(after != Some(before), "{service} still has pid {before}");
            } else {
                ensure!(
                    after == Some(before),
                    "{service} had pid {before} and has {after:?}"
                );
            }
        }
        ensure!(
            self.guests == now.guests,
            "guests were {:?} and are {:?}",
            self.guests,
            now.guests
        );
        Ok(())
    }
}

/// Process ids of QEMU on the node, one on a line.
fn guests(node: &Node) -> Result<String> {
    let found = node.run(["pgrep", "-f", "^/usr/bin/qemu-system-"])?;
    ensure!(!found.trim().is_empty(), "no guest runs on {}", node.name());
    Ok(found)
}

/// The plan for a release that changes nova-compute names it as the one service that restarts.
///
/// # Errors
/// It plans anything else.
pub fn plan_names_compute_alone(story: &mut Story, node: &Node, release: &str) -> Result<()> {
    let said = story.step(
        &format!("nodectl plan {release} says that nova-compute alone restarts"),
        |_| {
            let plan: Plan = nodectl::json(node, &["plan", release])?;
            for service in &plan.services {
                let wanted = if service.name == COMPUTE {
                    Action::Restart
                } else {
                    Action::Keep
                };
                ensure!(
                    service.action == wanted,
                    "{}: {} ({})",
                    service.name,
                    service.action,
                    service.reason
                );
            }
            ensure!(
                plan.services.len() == SERVICES.len(),
                "{} services are planned",
                plan.services.len()
            );
            ensure!(
                plan.way_back.open,
                "the way back closes: {:?}",
                plan.way_back.notes
            );
            nodectl::on(node, &["plan", release])?.expect(0)
        },
    )?;
    story.show(&said);
    Ok(())
}

/// The upgrade does what the plan said; the guest runs on and nova-compute reports again.
///
/// # Errors
/// Another service or a guest was touched, or nova-compute does not come back.
pub fn compute_alone_upgrades(
    story: &mut Story,
    node: &Node,
    cloud: &Cloud,
    release: &str,
    guest: &(String, Heartbeat),
) -> Result<()> {
    let said = story.step(
        &format!("nodectl upgrade {release} does exactly that"),
        |progress| {
            let before = Untouched::look(node)?;
            let said = nodectl::telling(node, &["upgrade", release], progress)?.expect(0)?;
            before.check(node)?;
            progress.say("waiting for the guest and for nova-compute's report");
            alive(cloud, node, guest)?;
            Ok(said)
        },
    )?;
    story.show(&said);
    Ok(())
}

/// The guest beats in the same boot and nova-compute is up.
fn alive(cloud: &Cloud, node: &Node, (name, beat): &(String, Heartbeat)) -> Result<()> {
    compute::guest_lives(cloud, name, beat)?;
    let service = cloud.wait_compute(node.name().as_str(), compute::COMPUTE_UP_SECONDS)?;
    compute::compute_reports(cloud, &service).map(drop)
}

/// A release that does not work is noticed, left again and put on record; nodectl says why.
///
/// # Errors
/// The node ends anywhere but healthy on the release it had.
pub fn broken_release_is_left(story: &mut Story, node: &Node, release: &str) -> Result<()> {
    let said = story.step(
        &format!("nodectl upgrade {release}, which is broken, goes back by itself"),
        |progress| {
            let (before, was) = (
                Untouched::look(node)?,
                nodectl::json::<Status>(node, &["status"])?,
            );
            let said = nodectl::telling(node, &["upgrade", release], progress)?.expect(70)?;
            ensure!(
                said.contains("broken on purpose"),
                "nodectl does not show the unit's last words: {said}"
            );
            before.check(node)?;
            let now: Status = nodectl::json(node, &["status"])?;
            ensure!(
                now.healthy && now.deployment == was.deployment,
                "from {was:?} to {now:?}"
            );
            ensure!(
                now.rejected.len() == was.rejected.len() + 1,
                "rejected: {:?}",
                now.rejected
            );
            let again = nodectl::on(node, &["upgrade", release])?;
            ensure!(again.code == 75, "a rejected release is tried again: {again:?}");
            Ok(said)
        },
    )?;
    story.show(&said);
    Ok(())
}

/// `nodectl rollback` returns to the deployment before.
///
/// # Errors
/// It leads elsewhere, or touches what did not change.
pub fn node_rolls_back(
    story: &mut Story,
    node: &Node,
    cloud: &Cloud,
    guest: &(String, Heartbeat),
) -> Result<()> {
    let said = story.step("nodectl rollback goes to release 1", |progress| {
        let before = Untouched::look(node)?;
        let said = nodectl::telling(node, &["rollback"], progress)?.expect(0)?;
        before.check(node)?;
        let status: Status = nodectl::json(node, &["status"])?;
        let version = status.release.map(|release| release.version);
        ensure!(
            version.as_deref() == Some("1") && status.healthy,
            "the node is on release {version:?}"
        );
        progress.say("waiting for the guest and for nova-compute's report");
        alive(cloud, node, guest)?;
        Ok(said)
    })?;
    story.show(&said);
    Ok(())
}

/// `nodectl history` tells all of it.
///
/// # Errors
/// It tells anything else.
pub fn history_tells_all(story: &mut Story, node: &Node) -> Result<()> {
    use OperationKind::{Rollback, Upgrade};
    use OperationResult::{Done, RolledBack};
    let said = story.step("nodectl history tells all of it", |_| {
        let told = nodectl::history(node)?;
        let version = |entry: &HistoryEntry| {
            entry
                .release
                .as_ref()
                .map(|r| r.version.clone())
                .unwrap_or_default()
        };
        let told: Vec<_> = told.iter().map(|e| (e.kind, version(e), e.result)).collect();
        let happened = [
            (Upgrade, "1", Done),
            (Upgrade, "2", Done),
            (Upgrade, "3", RolledBack),
            (Rollback, "1", Done),
        ]
        .map(|(kind, version, result)| (kind, version.to_owned(), result));
        let without_refusals: Vec<_> = told
            .iter()
            .filter(|(_, _, result)| *result != OperationResult::Failed)
            .cloned()
            .collect();
        ensure!(without_refusals == happened, "it tells {told:?}");
        nodectl::on(node, &["history"])?.expect(0)
    })?;
    story.show(&said);
    Ok(())
}

/// After a reboot the services come up from the current deployment, without noded's help.
///
/// # Errors
/// One does not, or nova-compute does not report again.
pub fn reboot_needs_no_daemon(story: &mut Story, node: &Node, cloud: &Cloud) -> Result<()> {
    story.step(
        "the node reboots: the services start by themselves, noded being masked",
        |progress| {
            let service = cloud.wait_compute(node.name().as_str(), compute::COMPUTE_UP_SECONDS)?;
            node.run(["systemctl", "mask", "noded.service"])?;
            node.reboot()?;
            progress.say("waiting for the services");
            node.attempt(["systemctl", "is-system-running", "--wait"])?;
            main_processes(node)?;
            started_in_order(node)?;
            let noded = node.attempt(["systemctl", "is-active", "--quiet", "noded.service"])?;
            ensure!(!noded.status.success(), "noded runs though it is masked");
            node.run(["systemctl", "unmask", "noded.service"])?;
            node.run(["systemctl", "start", "noded.service"])?;
            let status: Status = nodectl::json(node, &["status"])?;
            ensure!(
                status.healthy && status.services.iter().all(|s| s.up_to_date),
                "after the reboot: {status:?}"
            );
            progress.say("waiting for nova-compute's report");
            compute::compute_reports(cloud, &service).map(drop)
        },
    )?;
    story.show(&nodectl::on(node, &["status"])?.expect(0)?);
    Ok(())
}

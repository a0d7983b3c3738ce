//! The steps of a compute node's story that are about its surroundings: each does its part, proves it and tells it.
//!
//! The demo and the node tests tell the same steps, so what a person is shown is what is asserted.

use anyhow::{Context, Result, bail, ensure};

use crate::cloud::{Cloud, Heartbeat, Service};
use crate::control_plane::Pending;
use crate::node::{Name, Node, Setup};
use crate::story::Story;
use crate::{lab, registry};

/// Programs that run containers as daemons or for them; a node must do without any.
const DAEMONS: &[&str] = &[
    "containerd",
    "crio",
    "crun",
    "docker",
    "dockerd",
    "kubelet",
    "podman",
    "runc",
];

/// For nova-compute to be loaded, to register and to report, on a host that has other work.
pub const COMPUTE_UP_SECONDS: u32 = 240;
const AGENT_SECONDS: u32 = 240;
/// For a server to be active again, on such a host.
pub const ACTIVE_SECONDS: u32 = 240;
const HEARTBEAT_SECONDS: u32 = 120;

/// The registry answers in the lab.
///
/// # Errors
/// It does not.
pub fn registry_serves(story: &mut Story) -> Result<()> {
    story.step("a registry serves on loopback", |_| registry::up())?;
    story.show(&format!(
        "{} in the lab, {} for nodes",
        registry::FROM_LAB,
        registry::from_nodes()
    ));
    Ok(())
}

/// A node boots, with systemd as PID 1 and nothing on it that runs containers.
///
/// # Errors
/// It does not boot, a unit has failed, or there is a container runtime on it.
pub fn node_boots(story: &mut Story, name: &Name, setup: &Setup) -> Result<Node> {
    let node = story.step("a node boots, without any container daemon", |_| {
        let node = Node::up(name, setup)?;
        let first = node.run(["cat", "/proc/1/comm"])?;
        ensure!(first.trim() == "systemd", "PID 1 is {}", first.trim());
        let failed = node.run(["systemctl", "--failed", "--no-legend", "--plain"])?;
        ensure!(failed.trim().is_empty(), "units failed at boot: {failed}");
        for daemon in DAEMONS {
            let found = node.attempt(["sh", "-c", "command -v \"$1\"", "sh", daemon])?;
            ensure!(!found.status.success(), "{daemon} is on the node");
        }
        Ok(node)
    })?;
    story.show(&node.run(["systemd-analyze", "time"])?);
    Ok(node)
}

/// The control plane, begun earlier, serves.
///
/// # Errors
/// It cannot be built or booted.
pub fn control_plane_serves(story: &mut Story, pending: Pending) -> Result<Cloud> {
    story
        .step("a control plane serves at its own address", |progress| {
            pending.wait(progress)
        })
        .inspect(|_| {
            story.show(&format!(
                "keystone, placement, glance, nova, neutron at {}",
                lab::CONTROL_PLANE
            ));
        })
}

/// nova-compute on the node is up in the eyes of the cloud, and may be scheduled to.
///
/// # Errors
/// It does not report in time.
pub fn cloud_sees_compute(story: &mut Story, cloud: &Cloud, host: &Name) -> Result<Service> {
    let service = story.step("the cloud sees nova-compute up", |progress| {
        progress.say("waiting for the first report");
        let service = cloud.wait_compute(host.as_str(), COMPUTE_UP_SECONDS)?;
        progress.say("mapping the host into the cell");
        cloud.discover_hosts()?;
        Ok(service)
    })?;
    story.show(&cloud.openstack(&["compute", "service", "list"])?);
    Ok(service)
}

/// neutron hears the agent of the node, and there is a network for instances.
///
/// # Errors
/// It does not in time, or refuses the network.
pub fn network_is_made(story: &mut Story, cloud: &Cloud, host: &Name, network: &str) -> Result<()> {
    story.step("neutron sees the node's agent alive, and makes a network", |_| {
        cloud.wait_agent("neutron-openvswitch-agent", host.as_str(), AGENT_SECONDS)?;
        cloud.network_create(network, "10.10.0.0/24")
    })?;
    story.show(&cloud.openstack(&["network", "agent", "list"])?);
    Ok(())
}

/// The instance has a port on the node, wired by the agent.
///
/// # Errors
/// It is not, or is attached in another way.
fn port_is_wired(cloud: &Cloud, host: &Name, guest: &str) -> Result<String> {
    let ports = cloud.server_ports(guest)?;
    let [port] = ports.as_slice() else {
        bail!("{guest} has {} ports", ports.len());
    };
    let as_it_should = port.status == "ACTIVE" && port.vif_type == "ovs" && port.host == host.as_str();
    ensure!(as_it_should, "the port of {guest} is {port:?}");
    let [address] = port.fixed_ips.as_slice() else {
        bail!("{guest} has no address, or several: {port:?}");
    };
    Ok(format!(
        "port {} {} {} on {host}, {}",
        port.id, port.vif_type, port.status, address.ip_address
    ))
}

/// An instance with a port becomes active on the node and its console has a heartbeat; returns it.
///
/// # Errors
/// It goes to ERROR, lands elsewhere, or stays silent; its port is not bound and wired.
pub fn guest_boots(
    story: &mut Story,
    cloud: &Cloud,
    host: &Name,
    guest: &str,
    network: &str,
) -> Result<Heartbeat> {
    let (server, port) = story.step(
        &format!("openstack server create --network {network} {guest}: ACTIVE, and so is its port"),
        |_| {
            cloud.server_create_on(guest, network)?;
            let server = cloud.wait_active(guest, ACTIVE_SECONDS)?;
            ensure!(
                server.host.as_deref() == Some(host.as_str()),
                "{guest} is on {:?}",
                server.host
            );
            Ok((server, port_is_wired(cloud, host, guest)?))
        },
    )?;
    let domain = server.domain.as_deref().unwrap_or_default();
    story.show(&format!(
        "{} {} {} {domain}\n{port}",
        server.id, server.name, server.status
    ));
    let beat = story.step(&format!("{guest} is alive on its serial console"), |_| {
        cloud.wait_heartbeat(guest, None, HEARTBEAT_SECONDS)
    })?;
    story.show(&last_lines(&cloud.console(guest)?, 3));
    Ok(beat)
}

/// The guest beats now, in the same boot as `last`; returns the beat.
///
/// # Errors
/// It is silent, not active, or has started anew.
pub fn guest_lives(cloud: &Cloud, guest: &str, last: &Heartbeat) -> Result<Heartbeat> {
    let server = cloud.server_show(guest)?;
    ensure!(server.status == "ACTIVE", "{guest} is {}", server.status);
    // What is on the console already may be older than what was done to the guest; the next beat is not.
    let seen = cloud.wait_heartbeat(guest, None, HEARTBEAT_SECONDS)?;
    let later = cloud.wait_heartbeat(guest, Some(&seen), HEARTBEAT_SECONDS)?;
    ensure!(later.boot == last.boot, "{guest} has started anew");
    Ok(later)
}

/// nova-compute has reported after `service` was seen.
///
/// # Errors
/// It has not within a minute and a half.
pub fn compute_reports(cloud: &Cloud, service: &Service) -> Result<Service> {
    cloud
        .wait_report_after(service, COMPUTE_UP_SECONDS)
        .context("nova-compute after the change")
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// The guests here know nothing of a power button: at a shutdown of the node they get ten seconds, not minutes.
///
/// # Errors
/// The drop-in cannot be written.
pub fn guests_are_not_waited_for(node: &Node) -> Result<()> {
    node.write(
        "/etc/systemd/system/nodectl-guests.service.d/50-short.conf",
        "[Service]\nTimeoutStopSec=10s\n",
    )
}

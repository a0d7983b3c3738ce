//! The services that the story does without, with exactly the capabilities of their definitions: OVN against a
//! southbound database, telemetry and metrics; and a node that changes from one networking to another. Needs root, and
//! `make stage` before it.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use node_agent::api::{Action, Plan, Status};
use node_tests::node::{Name, Node, Setup};
use node_tests::nodectl::{self, inside, main_process};
use node_tests::privileges::{self, HELD_BY};
use node_tests::publish::{Image, Publisher, trust_policy};
use node_tests::stage::play;
use node_tests::story::Story;
use node_tests::{registry, southbound};

const IMAGES: [Image; 6] = [
    Image::first("openvswitch"),
    Image::first("libvirt"),
    Image::first("neutron"),
    Image::first("ovn"),
    Image::first("ceilometer"),
    Image::first("exporters"),
];

/// The services of each networking.
const OVN: [&str; 2] = ["ovn-controller", "neutron-ovn-metadata-agent"];
const OPENVSWITCH: &str = "neutron-openvswitch-agent";

/// Services that no change of the networking may touch.
const OTHERS: [&str; 4] = ["ovsdb-server", "ovs-vswitchd", "virtlogd", "libvirtd"];

/// Waits for a command to succeed; what it waits for gives no event.
const WAIT: &str = "for i in $(seq 240); do if eval \"$1\"; then exit 0; fi; sleep 0.25; done; exit 1";

#[test]
fn services_work_with_exactly_their_capabilities() {
    play("nodectl-services", "more services", tell);
}

fn tell(story: &mut Story, stage: &Path) -> Result<()> {
    let release = release_is_published(story, stage)?;
    let node = node_fetches(story, stage, &release)?;
    bad_choices_are_named(story, &node, &release.0)?;
    services_come_up(story, &node)?;
    story.step("guests on OVN have metadata", |_| ovn_serves_metadata(&node))?;
    story.step("figures of the host and of libvirt are served", |_| {
        figures_tell(&node)
    })?;
    networking_changes(story, &node, &release.0)?;
    networking_changes_back(story, &node)?;
    services_end_well(story, &node)
}

fn release_is_published(story: &mut Story, stage: &Path) -> Result<(String, Publisher)> {
    story.step(
        "a release with all networkings, telemetry and metrics",
        |progress| {
            registry::up()?;
            let publisher = Publisher::of(stage, &IMAGES)?;
            publisher.build_images(progress)?;
            publisher.push_images(progress)?;
            Ok((publisher.publish_release(1)?, publisher))
        },
    )
}

fn node_fetches(story: &mut Story, stage: &Path, (release, publisher): &(String, Publisher)) -> Result<Node> {
    story.step("a node fetches it and does not begin with it", |progress| {
        let node = Node::up(&Name::parse("node1")?, &Setup::node()?.install(stage))?;
        node.write("/etc/nodectl/node.toml", configuration(&node, release, "\"ovn\""))?;
        node.write("/etc/nodectl/trust/policy.toml", trust_policy())?;
        node.write("/etc/nodectl/trust/release.pub", publisher.public_key()?)?;
        for secret in [
            "neutron-metadata-secret",
            "nova-neutron-password",
            "ceilometer-password",
        ] {
            node.write(&format!("/etc/nodectl/secrets/{secret}"), "secret")?;
        }
        for secret in ["neutron-transport-url", "ceilometer-transport-url"] {
            let nowhere = "rabbit://nobody:x@127.0.0.1:5672/";
            node.write(&format!("/etc/nodectl/secrets/{secret}"), nowhere)?;
        }
        node.run(["chmod", "-R", "go=", "/etc/nodectl/secrets"])?;
        nodectl::telling(&node, &["upgrade", "--download-only"], progress)?.expect(0)?;
        Ok(node)
    })
}

/// `networking` as in TOML.
fn configuration(node: &Node, release: &str, networking: &str) -> String {
    let ip = node.address();
    let registry = registry::from_nodes();
    format!(
        r#"[release]
reference = "{release}"

[registries]
insecure_http = ["{registry}"]

[choices]
networking = {networking}
telemetry = "ceilometer"
metrics = "prometheus"

# There is no cloud here, so neutron never sees its agent.
[probation]
hold_sec = 5

[parameters]
keystone_url = "http://{ip}:5000/v3"
tunnel_ip = "{ip}"
# The box's kernel has no Open vSwitch.
datapath_type = "netdev"
ovn_remote = "tcp:{ip}:{port}"
metadata_host = "{ip}"
guest_max_files = 0
guest_max_processes = 0
"#,
        port = southbound::PORT
    )
}

/// A node takes one networking, of those that the release has.
fn bad_choices_are_named(story: &mut Story, node: &Node, release: &str) -> Result<()> {
    let both = format!("services = {:?}\n", [OVN[0], OPENVSWITCH]);
    let refusals = [
        (
            configuration(node, release, "\"linuxbridge\""),
            "networking has no option linuxbridge; its options are none, openvswitch, ovn",
        ),
        (
            configuration(node, release, "[\"openvswitch\", \"ovn\"]"),
            "invalid type: sequence, expected a string",
        ),
        (
            both + &configuration(node, release, "\"ovn\""),
            "service neutron-openvswitch-agent is not part of networking = ovn",
        ),
    ];
    let told = story.step("an unknown networking and two at once are refused", |_| {
        let mut told = String::new();
        for (configuration, why) in &refusals {
            node.write("/etc/nodectl/node.toml", configuration)?;
            let said = nodectl::on(node, &["upgrade"])?;
            ensure!(
                said.code == 78
                    && said.errors.contains(why)
                    && said.errors.contains("/etc/nodectl/node.toml"),
                "instead of {why}: {said:?}"
            );
            told += &said.errors;
        }
        node.write("/etc/nodectl/node.toml", configuration(node, release, "\"ovn\""))?;
        Ok(told)
    })?;
    story.show(&told);
    Ok(())
}

fn services_come_up(story: &mut Story, node: &Node) -> Result<()> {
    let held = HELD_BY.iter().find(|(test, _)| *test == "node_services");
    let (_, services) = held.context("node_services is in no table")?;
    let status = story.step("all services work with exactly their capabilities", |progress| {
        southbound::begin(node)?;
        nodectl::telling(node, &["upgrade"], progress)?.expect(0)?;
        let networks = |service: &&&str| **service != OPENVSWITCH;
        let services: Vec<&str> = services.iter().filter(networks).copied().collect();
        node_runs(node, &services)
    })?;
    story.show(&status);
    Ok(())
}

/// Exactly these services run, healthy and each as it is defined; returns the status for people.
fn node_runs(node: &Node, services: &[&str]) -> Result<String> {
    let status: Status = nodectl::json(node, &["status"])?;
    ensure!(status.healthy, "the node is not healthy: {status:?}");
    let mut running: Vec<&str> = status.services.iter().map(|s| s.name.as_str()).collect();
    let mut wanted = services.to_vec();
    running.sort_unstable();
    wanted.sort_unstable();
    ensure!(running == wanted, "{running:?} run instead of {wanted:?}");
    services
        .iter()
        .try_for_each(|service| privileges::are_as_defined(node, service))?;
    nodectl::on(node, &["status"])?.expect(0)
}

/// Waits for a shell command to succeed: what it waits for gives no event.
fn wait(node: &Node, what: &str, condition: &str) -> Result<()> {
    let waited = node.attempt(["bash", "-c", WAIT, "bash", condition])?;
    let said = String::from_utf8_lossy(&waited.stdout).into_owned();
    ensure!(waited.status.success(), "{what}: not within a minute; {said}");
    Ok(())
}

/// A port of a network is bound to the node: the agent makes the network's namespace and serves metadata there.
fn ovn_serves_metadata(node: &Node) -> Result<()> {
    let chassis = southbound::chassis(node)?;
    ensure!(chassis == ["node1"], "chassis: {chassis:?}");
    southbound::make_network(node)?;
    let port = ["ovs-vsctl", "add-port", "br-int", "guest0", "--"];
    let kind = ["set", "Interface", "guest0", "type=internal"];
    let owner = ["external_ids:iface-id=guest"];
    inside(node, "ovs-vswitchd", &[&port[..], &kind, &owner].concat())?;
    let namespace = format!("ovnmeta-{}", southbound::NETWORK);
    wait(
        node,
        "the namespace of the network",
        &format!("[ -e /run/netns/{namespace} ]"),
    )?;
    // The proxy asks the agent, which does not know who asks from here: any answer will do.
    let talk = r#"exec 3<>/dev/tcp/169.254.169.254/80; printf "GET / HTTP/1.0\r\n\r\n" >&3; head -n 1 <&3"#;
    let ask = format!("ip netns exec {namespace} timeout 5 bash -c '{talk}' | grep ^HTTP");
    wait(node, "an answer of the metadata proxy", &ask)?;
    // Its proxy and its helpers are there by now.
    privileges::are_as_defined(node, "neutron-ovn-metadata-agent")
}

/// The exporters see the host and libvirt, from a service without any capability.
fn figures_tell(node: &Node) -> Result<()> {
    let host = nodectl::figures(node, 9100)?;
    for figure in [
        "node_memory_MemTotal_bytes ",
        "node_network_up{device=\"eth0\"} 1",
        "node_filesystem_size_bytes{",
    ] {
        ensure!(host.contains(figure), "{figure} is not in {host}");
    }
    let guests = nodectl::figures(node, 9177)?;
    ensure!(guests.contains("\nlibvirt_up 1\n"), "{guests}");
    Ok(())
}

/// The same release with the other networking: its agent comes, those of OVN go, nothing else is touched.
fn networking_changes(story: &mut Story, node: &Node, release: &str) -> Result<()> {
    let said = story.step("the node's networking becomes openvswitch", |progress| {
        node.write(
            "/etc/nodectl/node.toml",
            configuration(node, release, "\"openvswitch\""),
        )?;
        let plan: Plan = nodectl::json(node, &["plan"])?;
        for service in &plan.services {
            let wanted = match service.name.as_str() {
                OPENVSWITCH => Action::Start,
                name if OVN.contains(&name) => Action::Retire,
                _ => Action::Keep,
            };
            ensure!(
                service.action == wanted,
                "{} of {} is planned",
                service.action,
                service.name
            );
        }
        let before = others(node)?;
        let said = nodectl::telling(node, &["upgrade"], progress)?.expect(0)?;
        ensure!(others(node)? == before, "a service was restarted");
        are_gone(node, &OVN)?;
        ensure!(!bridges_follow(node)?.is_empty(), "the agent has made no bridge");
        privileges::are_as_defined(node, OPENVSWITCH)?;
        Ok(said)
    })?;
    story.show(&said);
    Ok(())
}

/// The deployment before had OVN, and has it again.
fn networking_changes_back(story: &mut Story, node: &Node) -> Result<()> {
    let said = story.step("nodectl rollback leads back to OVN", |progress| {
        let before = others(node)?;
        let said = nodectl::telling(node, &["rollback"], progress)?.expect(0)?;
        ensure!(others(node)? == before, "a service was restarted");
        are_gone(node, &[OPENVSWITCH])?;
        for service in OVN {
            privileges::are_as_defined(node, service)?;
        }
        let status: Status = nodectl::json(node, &["status"])?;
        ensure!(status.healthy, "the node is not healthy: {status:?}");
        Ok(said)
    })?;
    story.show(&said);
    Ok(())
}

/// Stopped, as at every shutdown, no service counts as failed: monitoring would tell of each.
fn services_end_well(story: &mut Story, node: &Node) -> Result<()> {
    story.step("services that are stopped have not failed", |_| {
        let status: Status = nodectl::json(node, &["status"])?;
        // In the order of a shutdown; here each has a transaction of its own.
        let units = status
            .services
            .iter()
            .rev()
            .map(|s| format!("{}.service", s.name));
        let stop = ["systemctl", "stop"].map(String::from).into_iter().chain(units);
        node.run(stop)?;
        let failed = node.run(["systemctl", "list-units", "--failed", "--no-legend", "--plain"])?;
        ensure!(failed.trim().is_empty(), "failed: {failed}");
        Ok(())
    })
}

fn others(node: &Node) -> Result<Vec<u32>> {
    OTHERS.iter().map(|service| main_process(node, service)).collect()
}

/// Bridges whose controller is there, one on a line.
fn bridges_follow(node: &Node) -> Result<String> {
    let list = [
        "--bare",
        "--columns=target",
        "find",
        "Controller",
        "is_connected=true",
    ];
    inside(node, "ovs-vswitchd", &[&["ovs-vsctl"][..], &list].concat())
}

/// systemd does not know these any more, and nothing of them runs.
fn are_gone(node: &Node, services: &[&str]) -> Result<()> {
    for service in services {
        let unit = format!("{service}.service");
        let shown = node.run([
            "systemctl",
            "show",
            "--value",
            "--property=LoadState,ActiveState",
            &unit,
        ])?;
        let words: Vec<&str> = shown.split_whitespace().collect();
        ensure!(words == ["not-found", "inactive"], "{unit} is {words:?}");
    }
    Ok(())
}

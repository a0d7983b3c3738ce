//! nova-compute and an instance of nova through everything that can go wrong around a move: outages of the control
//! plane, an operator's own wishes, a way back that nova refuses, an image that does not start, another libvirt. On the
//! real components. Needs root, and `make stage` before it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use node_agent::api::{Plan, Status};
use node_tests::cell::{Lab, NODE};
use node_tests::cloud::Heartbeat;
use node_tests::node::Node;
use node_tests::nodectl::{self, main_process};
use node_tests::outage::{Outage, Since};
use node_tests::progress::Progress;
use node_tests::stage::play;
use node_tests::story::Story;
use node_tests::{cell, compute, moves};

const COMPUTE: &str = "nova-compute";

const GUEST: &str = "guest1";

/// Why the compute service is disabled, by somebody who is not this software.
const OPERATOR: &str = "disk 3 is being replaced";

#[test]
fn nova_compute_is_moved_with_its_cell_in_mind() {
    play("nodectl-nova", "nova-compute, its cell and an instance", tell);
}

fn tell(story: &mut Story, stage: &Path) -> Result<()> {
    let lab = cell::lab(story, stage)?;
    comes_when_others_answer(story, &lab)?;
    lab.cloud.openstack(&[
        "compute",
        "service",
        "set",
        "--disable",
        "--disable-reason",
        OPERATOR,
        NODE,
        COMPUTE,
    ])?;
    queue_dies_in_an_upgrade(story, &lab)?;
    rollback_that_nova_refuses(story, &lab)?;
    forced_it_comes_back(story, &lab)?;
    conductor_is_dead(story, &lab)?;
    lab.cloud
        .openstack(&["compute", "service", "set", "--enable", NODE, COMPUTE])?;
    work_is_finished_first(story, &lab)?;
    let guest = story.step("the instance is alive on its serial console", |_| {
        Ok((GUEST.to_owned(), lab.cloud.wait_heartbeat(GUEST, None, 120)?))
    })?;
    moves::broken_release_is_left(story, &lab.node, &lab.releases.broken)?;
    stop_that_kills_is_refused(story, &lab)?;
    libvirt_is_moved(story, &lab, &guest)?;
    instance_is_measured(story, &lab)?;
    host_reboots(story, &lab, &guest.1)?;
    story.step("openstack server delete", |_| {
        lab.cloud.openstack(&["server", "delete", "--wait", GUEST])?;
        ensure!(lab.guests()?.is_empty(), "left: {:?}", lab.guests()?);
        Ok(())
    })
}

/// Everything below nova-compute is started with it, and both libvirt and Open vSwitch answer a question that is asked
/// once, right before nova-compute.
fn comes_when_others_answer(story: &mut Story, lab: &Lab) -> Result<()> {
    const ASKS: &str = "[Service]\n\
        ExecStartPre=/usr/bin/nodectl exec libvirtd -- timeout 10 virsh --connect qemu:///system version --daemon\n\
        ExecStartPre=/usr/bin/nodectl exec ovs-vswitchd -- ovs-vsctl --timeout=10 set Open_vSwitch . external_ids:asked=1\n";
    const DROP_IN: &str = "/run/systemd/system/nova-compute.service.d/50-asks.conf";
    let node = &lab.node;
    story.step(
        "nova-compute is started when libvirt and Open vSwitch answer",
        |_| {
            node.write(DROP_IN, ASKS)?;
            node.run(["systemctl", "daemon-reload"])?;
            node.run([
                "systemctl",
                "stop",
                COMPUTE,
                "libvirtd",
                "ovs-vswitchd",
                "ovsdb-server",
            ])?;
            node.run(["systemctl", "start", COMPUTE])?;
            nodectl::main_processes(node)?;
            ensure!(lab.restarts(COMPUTE)? == 0, "they did not answer at once");
            node.run(["rm", DROP_IN])?;
            node.run(["systemctl", "daemon-reload"])?;
            let service = lab.cloud.wait_compute(NODE, compute::COMPUTE_UP_SECONDS)?;
            compute::compute_reports(&lab.cloud, &service).map(drop)
        },
    )
}

/// RabbitMQ goes while nova-compute comes up: the probation is held open, nothing is restarted or reverted; it comes
/// back: the release is blessed.
fn queue_dies_in_an_upgrade(story: &mut Story, lab: &Lab) -> Result<()> {
    let newer = &lab.releases.newer;
    let plan: Plan = nodectl::json(&lab.node, &["plan", newer])?;
    ensure!(plan.refused.is_empty(), "the upgrade would be refused: {plan:?}");
    ensure!(
        !plan.way_back.open && plan.way_back.notes.iter().any(|n| n.contains("ServiceTooOld")),
        "the only compute of the cell can go back: {:?}",
        plan.way_back
    );
    let said = story.step("RabbitMQ dies in the middle of an upgrade", |progress| {
        let said = Outage {
            unit: "rabbitmq-server",
            since: Since::Started,
        }
        .hits(lab, &["upgrade", newer], progress)?;
        // A conductor remembers the minimum that it saw first.
        lab.cloud.node().run(["systemctl", "restart", "nova-conductor"])?;
        lab.cloud.wait_ready(300)?;
        on_release(lab, "1")?;
        disabled_by_the_operator(lab)?;
        Ok(said)
    })?;
    story.show(&said);
    Ok(())
}

/// The cell's minimum has risen with its only compute: nova would refuse the older one, so the node does first.
fn rollback_that_nova_refuses(story: &mut Story, lab: &Lab) -> Result<()> {
    let said = story.step(
        "a rollback that nova would refuse is refused before it starts",
        |_| {
            let before = nodectl::main_processes(&lab.node)?;
            let said = nodectl::on(&lab.node, &["rollback"])?;
            ensure!(
                said.code == 75 && said.errors.contains("ServiceTooOld"),
                "{said:?}"
            );
            let plan: Plan = nodectl::json(&lab.node, &["plan", &lab.releases.older])?;
            ensure!(
                plan.refused.iter().any(|r| r.contains("ServiceTooOld")),
                "{plan:?}"
            );
            ensure!(
                nodectl::main_processes(&lab.node)? == before,
                "a service was restarted"
            );
            Ok(said)
        },
    )?;
    story.show(&said.errors);
    Ok(())
}

/// What the judgement says is what nova does.
fn forced_it_comes_back(story: &mut Story, lab: &Lab) -> Result<()> {
    let said = story.step(
        "forced, nova does refuse it, and the node comes back by itself",
        |progress| {
            let said = nodectl::telling(&lab.node, &["rollback", "--force"], progress)?.expect(70)?;
            ensure!(said.contains("ServiceTooOld"), "{said}");
            on_release(lab, "1")?;
            let service = lab.cloud.wait_compute(NODE, compute::COMPUTE_UP_SECONDS)?;
            compute::compute_reports(&lab.cloud, &service)?;
            disabled_by_the_operator(lab)?;
            Ok(said)
        },
    )?;
    story.show(&said);
    Ok(())
}

/// Nobody can be asked whether anything is in progress, and nobody disables the service; what the operator disabled
/// is not enabled when the conductor is back.
fn conductor_is_dead(story: &mut Story, lab: &Lab) -> Result<()> {
    let said = story.step("parameters change while the conductor is dead", |progress| {
        let said = Outage {
            unit: "nova-conductor",
            since: Since::Before,
        }
        .hits(lab, &["set", "debug=true"], progress)?;
        disabled_by_the_operator(lab)?;
        Ok(said)
    })?;
    story.show(&said);
    Ok(())
}

/// An instance is being built: the scheduler sends nothing more, and nova-compute is stopped when that one is done, not
/// before.
fn work_is_finished_first(story: &mut Story, lab: &Lab) -> Result<()> {
    let (node, cloud) = (&lab.node, &lab.cloud);
    // The image is asked for after the instance was claimed by the node, and comes when glance goes on.
    let glance = |signal: &str| {
        let signal = format!("--signal={signal}");
        cloud.node().run(["systemctl", "kill", &signal, "glance-api"])
    };
    story.step("nova-compute is moved while it builds an instance", |progress| {
        cloud.server_create(GUEST)?;
        glance("STOP")?;
        wait("instance that is being built on the node", 60, || {
            let server = cloud.server_show(GUEST)?;
            let building = server.host.is_some() && server.task.is_some();
            Ok(building.then_some(()))
        })?;
        let before = main_process(node, COMPUTE)?;
        let said = std::thread::scope(|scope| {
            let moving = scope.spawn(|| nodectl::telling(node, &["set", "debug=false"], progress));
            let stayed = wait("drained compute service", 60, || {
                let reason = lab.service()?.disabled_reason.unwrap_or_default();
                Ok(reason.starts_with("nodectl: set to deployment").then_some(()))
            })
            .and_then(|()| stays(lab, before, Duration::from_secs(15)));
            let freed = glance("CONT");
            let said = moving.join().expect("the thread ends")?;
            stayed.and(freed.map(|_| said))
        })?;
        said.expect(0)?;
        let server = cloud.wait_active(GUEST, compute::ACTIVE_SECONDS)?;
        ensure!(server.task.is_none(), "nova still does {:?}", server.task);
        ensure!(
            main_process(node, COMPUTE)? != before,
            "nova-compute was not moved"
        );
        let service = lab.service()?;
        ensure!(service.status == "enabled", "left disabled: {service:?}");
        Ok(())
    })
}

/// For so long the process stays, since its instance is not built.
fn stays(lab: &Lab, process: u32, time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    while Instant::now() < end {
        ensure!(
            main_process(&lab.node, COMPUTE)? == process,
            "nova-compute was stopped in the middle of its work"
        );
        std::thread::sleep(Duration::from_millis(500));
    }
    Ok(())
}

/// In this box QEMU is in libvirtd's cgroup, where it lives by `KillMode=process` alone.
fn stop_that_kills_is_refused(story: &mut Story, lab: &Lab) -> Result<()> {
    const DROP_IN: &str = "/run/systemd/system/libvirtd.service.d/50-kills.conf";
    let node = &lab.node;
    let said = story.step(
        "a stop of libvirtd that would kill the instance is refused",
        |_| {
            let before = (main_process(node, "libvirtd")?, lab.guests()?);
            node.write(DROP_IN, "[Service]\nKillMode=mixed\n")?;
            node.run(["systemctl", "daemon-reload"])?;
            let said = nodectl::on(node, &["upgrade", &lab.releases.libvirt])?;
            node.run(["rm", DROP_IN])?;
            node.run(["systemctl", "daemon-reload"])?;
            let guest = before.1.keys().next().context("there is no guest")?;
            for word in [&format!("guest {guest} (pid "), "which kills it (KillMode=mixed)"] {
                ensure!(
                    said.code == 75 && said.errors.contains(word),
                    "no {word} in {said:?}"
                );
            }
            let after = (main_process(node, "libvirtd")?, lab.guests()?);
            ensure!(after == before, "it was {before:?} and is {after:?}");
            Ok(said)
        },
    )?;
    story.show(&said.errors);
    Ok(())
}

/// How the libvirtd under an instance of nova comes to be another one.
enum Replaced<'a> {
    By(&'a [&'a str]),
    Killed,
}

/// Another libvirt and back under an instance of nova, and a libvirtd that dies: the same QEMU, and all agree about it.
fn libvirt_is_moved(story: &mut Story, lab: &Lab, guest: &(String, Heartbeat)) -> Result<()> {
    let before = lab.guests()?;
    ensure!(before.len() == 1, "guests: {before:?}");
    for (title, how) in [
        (
            "nodectl upgrade",
            Replaced::By(&["upgrade", &lab.releases.libvirt]),
        ),
        ("nodectl rollback", Replaced::By(&["rollback"])),
        ("SIGKILL", Replaced::Killed),
    ] {
        let title = format!("libvirt under an instance of nova: {title}");
        story.step(&title, |progress| {
            let compute = main_process(&lab.node, COMPUTE)?;
            libvirtd_is_another(lab, &how, progress)?;
            ensure!(
                main_process(&lab.node, COMPUTE)? == compute,
                "nova-compute was restarted"
            );
            let now = lab.guests()?;
            ensure!(now == before, "guests were {before:?} and are {now:?}");
            // Its console comes through nova-compute's connection to the new libvirtd.
            compute::guest_lives(&lab.cloud, &guest.0, &guest.1)?;
            // nova disables a service that has lost its libvirt, and enables it when that is back.
            wait("enabled compute service", 120, || {
                Ok((lab.service()?.status == "enabled").then_some(()))
            })?;
            agree(lab, progress)
        })?;
    }
    Ok(())
}

fn libvirtd_is_another(lab: &Lab, how: &Replaced<'_>, progress: &Progress) -> Result<()> {
    let node = &lab.node;
    let before = main_process(node, "libvirtd")?;
    match how {
        Replaced::By(words) => {
            nodectl::telling(node, words, progress)?.expect(0)?;
            ensure!(
                main_process(node, "libvirtd")? != before,
                "libvirtd is the old one"
            );
            Ok(())
        }
        Replaced::Killed => {
            node.run(["kill", "-KILL", &before.to_string()])?;
            wait("other libvirtd that answers", 60, || {
                let another = main_process(node, "libvirtd").is_ok_and(|now| now != before);
                Ok((another && lab.virsh_list().is_ok()).then_some(()))
            })
        }
    }
}

/// Ceilometer's samples of the instance are in the cloud's queue, and libvirt's exporter has its figures.
fn instance_is_measured(story: &mut Story, lab: &Lab) -> Result<()> {
    const ALSO: &str = "[choices]\ntelemetry = \"ceilometer\"\nmetrics = \"prometheus\"\n\n\
        [overrides.nova-compute.files.\"/etc/nova/nova.conf\".DEFAULT]\nresume_guests_state_on_host_boot = true\n";
    let (node, cloud) = (&lab.node, &lab.cloud);
    let figures = story.step("ceilometer and Prometheus measure the instance", |progress| {
        let access = cloud.access()?;
        let user = ["user", "create", "--password", &access.password, "ceilometer"];
        cloud.openstack(&user)?;
        // It asks nova for flavours, those of others as well.
        cloud.openstack(&["role", "add", "--project=service", "--user=ceilometer", "admin"])?;
        for (name, secret) in [
            ("ceilometer-password", &access.password),
            ("ceilometer-transport-url", &access.transport_url),
        ] {
            let path = format!("/etc/nodectl/secrets/{name}");
            node.write(&path, secret)?;
            node.run(["chmod", "0600", &path])?;
        }
        node.write("/etc/nodectl/node.toml.d/also.toml", ALSO)?;
        nodectl::telling(node, &["set", "debug=true"], progress)?.expect(0)?;
        let queues = ["rabbitmqctl", "--quiet", "list_queues", "name", "messages"];
        wait("sample of ceilometer", 90, || {
            let queues = cloud.node().run(queues)?;
            let mut samples = queues
                .lines()
                .filter_map(|line| line.strip_prefix("notifications.sample\t"));
            Ok(samples.any(|count| count.trim() != "0").then_some(()))
        })?;
        let guests = lab.guests()?;
        let guest = guests.keys().next().context("there is no guest")?;
        let figures = figures_of(node, guest)?;
        ensure!(!figures.is_empty(), "there are no figures of {guest}");
        Ok(figures)
    })?;
    story.show(&figures);
    Ok(())
}

/// What libvirt's exporter says of a guest.
fn figures_of(node: &Node, guest: &str) -> Result<String> {
    let all = nodectl::figures(node, 9177)?;
    let of_guest = |line: &&str| line.starts_with("libvirt_domain") && line.contains(&format!("\"{guest}\""));
    let figures: Vec<&str> = all.lines().filter(of_guest).collect();
    Ok(figures.join("\n"))
}

/// The order of a shutdown is such that nova does not take the end of its instances for somebody's wish: asked to, it
/// starts them again after the boot. What it has on record as stopped it would leave alone.
fn host_reboots(story: &mut Story, lab: &Lab, last: &Heartbeat) -> Result<()> {
    story.step(
        "the host reboots, and nova starts its instance again",
        |progress| {
            let before = lab.guests()?;
            lab.node.reboot()?;
            // Until nova-compute is back nova has no console to show.
            let beat = wait("heartbeat of another boot", 240, || {
                let beat = lab.cloud.wait_heartbeat(GUEST, None, 5).ok();
                Ok(beat.filter(|beat| beat.boot != last.boot))
            })?;
            let server = lab.cloud.wait_active(GUEST, compute::ACTIVE_SECONDS)?;
            ensure!(server.task.is_none(), "nova still does {:?}", server.task);
            let now = lab.guests()?;
            ensure!(
                now.keys().eq(before.keys()) && now != before,
                "guests were {before:?} and are {now:?} with {beat:?}"
            );
            agree(lab, progress)
        },
    )
}

/// nova, libvirt and the process table name the same instances as running.
fn agree(lab: &Lab, progress: &Progress) -> Result<()> {
    let processes: Vec<String> = lab.guests()?.into_keys().collect();
    let listed = lab.virsh_list()?;
    let nova = lab.nova_list()?;
    progress.say(format!("nova: {nova:?}"));
    ensure!(
        processes == listed && listed == nova,
        "processes {processes:?}, libvirt {listed:?}, nova {nova:?}"
    );
    Ok(())
}

fn disabled_by_the_operator(lab: &Lab) -> Result<()> {
    let service = lab.service()?;
    ensure!(
        service.status == "disabled" && service.disabled_reason.as_deref() == Some(OPERATOR),
        "what the operator disabled is {service:?}"
    );
    Ok(())
}

fn on_release(lab: &Lab, version: &str) -> Result<()> {
    let status: Status = nodectl::json(&lab.node, &["status"])?;
    let now = status.release.as_ref().map(|r| r.version.as_str());
    ensure!(
        now == Some(version) && status.healthy,
        "the node is not healthy on {version}: {status:?}"
    );
    Ok(())
}

fn wait<T>(what: &str, seconds: u64, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let end = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        ensure!(Instant::now() < end, "no {what} within {seconds} s");
        std::thread::sleep(Duration::from_millis(500));
    }
}

//! Packets while Open vSwitch is upgraded and rolled back, on a kernel of its own. Needs root, and `make stage` before it.
//!
//! `NODECTL_ROUNDS` is the number of upgrades and of rollbacks, 1 if absent; the table of all figures is printed.
//! `NODECTL_E2E_KIND=vm` runs it in QEMU instead of user-mode-linux.

use std::path::Path;

use anyhow::{Result, ensure};
use node_tests::dataplane::{Releases, Rig, Round, table};
use node_tests::node::{Name, Node, Setup};
use node_tests::publish::{Publisher, trust_policy};
use node_tests::stage::{number, play};
use node_tests::story::Story;
use node_tests::{hypervisor, nodectl, registry};

#[test]
fn packets_flow_while_open_vswitch_is_replaced() {
    play("nodectl-ovs", "traffic", tell);
}

fn tell(story: &mut Story, stage: &Path) -> Result<()> {
    let rounds = number("NODECTL_ROUNDS", 1);
    let publisher = Publisher::new(stage)?;
    let releases = story.step("releases of Open vSwitch are published", |progress| {
        registry::up()?;
        Releases::publish(&publisher, progress)
    })?;
    let node = story.step("a node boots on a kernel of its own", |_| {
        Node::up(
            &Name::parse("n1")?,
            &Setup::node_on(hypervisor::kind())?.install(stage),
        )
    })?;
    configure(&node, &publisher)?;
    let rig = story.step("bridges with traffic on release 1", |progress| {
        nodectl::telling(&node, &["upgrade", &releases.first], progress)?.expect(0)?;
        Rig::set_up(&node)
    })?;
    let mut told = Vec::new();
    for number in 1..=rounds {
        let round = story.step(&format!("upgrade {number}: both daemons, and the schema"), |_| {
            replaced(&rig, "upgrade", &["nodectl", "upgrade", &releases.second])
        })?;
        ensure!(rig.schema()? == "99.0.0", "conf.db was not converted");
        tell_round(story, &mut told, round);
        let round = story.step(&format!("rollback {number}"), |_| {
            replaced(&rig, "rollback", &["nodectl", "rollback"])
        })?;
        ensure!(rig.schema()? != "99.0.0", "conf.db was not converted back");
        tell_round(story, &mut told, round);
    }
    let round = story.step("noded is killed in the middle of a handover", |_| {
        replaced(
            &rig,
            "upgrade, noded killed",
            &["sh", "/root/killed.sh", &releases.second],
        )
    })?;
    tell_round(story, &mut told, round);
    nodectl::on(&node, &["rollback"])?.expect(0)?;
    let round = story.step(
        "a release with another schema, and an ovs-vswitchd that can't take over, is left",
        |_| left_broken(&rig, &releases.broken),
    )?;
    tell_round(story, &mut told, round);
    for number in 1..=rounds {
        let round = story.step(&format!("a plain restart, {number}"), |_| rig.plain_round())?;
        tell_round(story, &mut told, round);
    }
    story.show(&table(&told));
    unharmed(&told)?;
    story.step("ovs-vswitchd is killed", |_| rig.kill())?;
    story.step("the power goes off between a stop and a start", |_| {
        cut_while_it_waits(&rig)
    })
}

/// Nothing was lost in any round of nodectl that is not explained, and a plain restart did lose something.
fn unharmed(told: &[Round]) -> Result<()> {
    let (plain, ours): (Vec<&Round>, Vec<&Round>) =
        told.iter().partition(|round| round.what.starts_with("systemctl"));
    let harmed: Vec<_> = ours.iter().filter(|round| round.unexplained_harm()).collect();
    ensure!(
        harmed.is_empty(),
        "{} of {} rounds lost something: {harmed:#?}",
        harmed.len(),
        ours.len()
    );
    ensure!(
        plain.iter().any(|round| round.lost() > 0),
        "plain restarts lost nothing: this rig can't tell"
    );
    Ok(())
}

/// Both daemons are other processes afterwards, and everything they had is there.
fn replaced(rig: &Rig<'_>, what: &'static str, command: &[&str]) -> Result<Round> {
    let (state, processes) = (rig.state()?, rig.processes()?);
    let round = rig.round(what, command, 0)?;
    for (service, pid) in rig.processes()? {
        ensure!(processes[service] != pid, "{service} was not replaced");
    }
    same(rig, &state)?;
    Ok(round)
}

/// The node goes back by itself, and what the broken release could not take over the old one does.
fn left_broken(rig: &Rig<'_>, release: &str) -> Result<Round> {
    let (state, schema) = (rig.state()?, rig.schema()?);
    let round = rig.round("revert", &["nodectl", "upgrade", release], 70)?;
    same(rig, &state)?;
    let said = &round.figures.said;
    ensure!(
        rig.schema()? == schema && said.contains("ovsdb-server: restored"),
        "conf.db was not put back: {said}"
    );
    Ok(round)
}

/// What was saved for the next process is lost with the power, the flag that makes it wait is not.
fn cut_while_it_waits(rig: &Rig<'_>) -> Result<()> {
    rig.hold()?;
    ensure!(rig.waits()?, "the flag is not there");
    rig.lose_power()?;
    ensure!(!rig.waits()?, "ovs-vswitchd was left waiting");
    Ok(())
}

fn same(rig: &Rig<'_>, before: &str) -> Result<()> {
    let after = rig.state()?;
    let gone: Vec<&str> = before.lines().filter(|line| !after.contains(line)).collect();
    ensure!(after == before, "not as it was; gone: {gone:?}");
    ensure!(!rig.waits()?, "ovs-vswitchd was left waiting");
    Ok(())
}

fn configure(node: &Node, publisher: &Publisher) -> Result<()> {
    let registry = registry::from_nodes();
    node.write(
        "/etc/nodectl/node.toml",
        format!("[registries]\ninsecure_http = [\"{registry}\"]\n"),
    )?;
    node.write("/etc/nodectl/trust/policy.toml", trust_policy())?;
    node.write("/etc/nodectl/trust/release.pub", publisher.public_key()?)
}

fn tell_round(story: &Story, told: &mut Vec<Round>, round: Round) {
    story.show(&format!("{round:?}"));
    told.push(round);
}

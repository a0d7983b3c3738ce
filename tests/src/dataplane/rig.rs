//! The node with its bridges, and rounds on it.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::figures::{Figures, Round};
use crate::node::Node;
use crate::nodectl;

const SETUP: &str = include_str!("../../dataplane/setup.sh");
const ROUND: &str = include_str!("../../dataplane/round.py");
const PINGS: &str = include_str!("../../dataplane/pings.py");
const KILLED: &str = include_str!("../../dataplane/killed.sh");
const PLAIN: &str = include_str!("../../dataplane/plain.sh");

/// What must be the same after a round; one entry into the container, since each costs a second on a busy machine.
const STATE: &str = "set -eu
for bridge in br-int br-ex; do
  for what in '--no-names --no-stats --sort dump-flows' dump-groups dump-meters; do
    ovs-ofctl -O OpenFlow14 $what $bridge | sed '/xid=/d'
  done
done
exec ovs-vsctl --columns=name,ofport list Interface";

/// Kills a process, and waits until systemd has another one that has started.
const KILL: &str = "kill -KILL $1
until [ \"$(systemctl show --value --property=ActiveState ovs-vswitchd)\" = active ] &&
  [ \"$(systemctl show --value --property=MainPID ovs-vswitchd)\" != $1 ]; do
  sleep 0.2
done";

/// A node on a kernel of its own that runs a release of Open vSwitch.
#[derive(Debug)]
pub struct Rig<'a> {
    node: &'a Node,
}

impl<'a> Rig<'a> {
    /// Makes the bridges, ports and flows, and checks that packets get through.
    ///
    /// # Errors
    /// Something cannot be made, or nothing gets through.
    pub fn set_up(node: &'a Node) -> Result<Self> {
        node.write("/root/setup.sh", SETUP)?;
        node.write("/root/round.py", ROUND)?;
        node.write("/root/pings.py", PINGS)?;
        node.write("/root/plain.sh", PLAIN)?;
        node.write("/root/killed.sh", KILLED)?;
        node.run(["sh", "/root/setup.sh"]).context("set up bridges")?;
        for (from, to) in [("a", "10.9.0.2"), ("c", "10.8.0.2")] {
            node.run(["ip", "netns", "exec", from, "ping", "-c3", "-i0.2", "-W5", to])?;
        }
        Ok(Self { node })
    }

    /// Everything that must be the same afterwards: flows with cookies, groups, meters, ports with their numbers.
    ///
    /// # Errors
    /// ovs-vswitchd does not answer.
    pub fn state(&self) -> Result<String> {
        self.inside(&["/bin/sh", "-c", STATE])
    }

    /// The schema version of the database that is on the disk.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn schema(&self) -> Result<String> {
        let head = self
            .node
            .run(["sed", "-n", "2p", "/var/lib/openvswitch/conf.db"])?;
        let schema: Value = serde_json::from_str(&head).context("the first record of conf.db")?;
        Ok(schema["version"].as_str().unwrap_or_default().to_owned())
    }

    /// Whether ovs-vswitchd was left waiting.
    ///
    /// # Errors
    /// The database does not answer.
    pub fn waits(&self) -> Result<bool> {
        let config = self.inside(&["/usr/bin/ovs-vsctl", "get", "Open_vSwitch", ".", "other_config"])?;
        Ok(config.contains("flow-restore-wait"))
    }

    /// Makes the next ovs-vswitchd wait, as a handover does.
    ///
    /// # Errors
    /// The database does not answer.
    pub fn hold(&self) -> Result<()> {
        let flag = "other_config:flow-restore-wait=true";
        self.inside(&[
            "/usr/bin/ovs-vsctl",
            "--no-wait",
            "set",
            "Open_vSwitch",
            ".",
            flag,
        ])?;
        Ok(())
    }

    /// Kills ovs-vswitchd; systemd starts another one, which handles packets and begins with the bridges of the database.
    ///
    /// # Errors
    /// It does not, in two minutes.
    pub fn kill(&self) -> Result<()> {
        let before = nodectl::main_process(self.node, "ovs-vswitchd")?;
        self.node
            .run(["timeout", "120", "sh", "-c", KILL, "kill", &before.to_string()])?;
        ensure!(!self.waits()?, "ovs-vswitchd was left waiting");
        let bridges = self.inside(&["/usr/bin/ovs-vsctl", "list-br"])?;
        ensure!(bridges.split_whitespace().eq(["br-ex", "br-int"]), "{bridges}");
        Ok(())
    }

    /// Cuts the power of the node, boots it, and waits for Open vSwitch.
    ///
    /// # Errors
    /// It does not boot, or a daemon does not start.
    pub fn lose_power(&self) -> Result<()> {
        // What was made just now has to be on the disk.
        self.node.run(["sync"])?;
        self.node.cut()?;
        self.node.boot()?;
        self.node
            .run(["systemctl", "start", "ovsdb-server", "ovs-vswitchd"])
            .map(drop)
    }

    /// One round: traffic, the command in the middle of it, figures.
    ///
    /// # Errors
    /// The command does not end with this exit code, or nothing can be counted.
    pub fn round(&self, what: &'static str, command: &[&str], code: i32) -> Result<Round> {
        let before = handovers(self.node)?;
        let output = self
            .node
            .run([&["python3", "/root/round.py"], command].concat())?;
        let last = output.lines().last().unwrap_or_default();
        let figures: Figures = serde_json::from_str(last).with_context(|| format!("figures: {output}"))?;
        ensure!(
            figures.status == code,
            "{what} ended with {}: {}",
            figures.status,
            figures.said
        );
        Ok(Round {
            what,
            figures,
            window_ms: last_window(&before, &handovers(self.node)?),
        })
    }

    /// Both daemons restarted by systemd as units without a handover are, and flows put back as soon as the new one
    /// answers.
    ///
    /// # Errors
    /// As [`Rig::round`].
    pub fn plain_round(&self) -> Result<Round> {
        self.round("systemctl restart, then replay", &["sh", "/root/plain.sh"], 0)
    }

    /// Main processes of the daemons.
    ///
    /// # Errors
    /// One is not active.
    pub fn processes(&self) -> Result<BTreeMap<&'static str, u32>> {
        let one = |service| Ok((service, nodectl::main_process(self.node, service)?));
        ["ovsdb-server", "ovs-vswitchd"].into_iter().map(one).collect()
    }

    fn inside(&self, command: &[&str]) -> Result<String> {
        let mut words = vec!["nodectl", "exec", "ovs-vswitchd", "--"];
        words.extend(command);
        self.node.run(words)
    }
}

/// Windows of all handovers in milliseconds, from the journal of ovs-vswitchd.
///
/// # Errors
/// The journal cannot be read.
pub(super) fn handovers(node: &Node) -> Result<Vec<u64>> {
    let unit = "--unit=ovs-vswitchd.service";
    let journal = node.run(["journalctl", "--no-pager", "--output=cat", unit])?;
    let window = |line: &str| {
        let (_, rest) = line.split_once("took over the dataplane: ")?;
        let (_, last) = rest.rsplit_once(", ")?;
        last.split_whitespace().next()?.parse().ok()
    };
    Ok(journal.lines().filter_map(window).collect())
}

/// The last one that came after those `before`.
pub(super) fn last_window(before: &[u64], after: &[u64]) -> Option<u64> {
    after.get(before.len()..).and_then(|new| new.last().copied())
}

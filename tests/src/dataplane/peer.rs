//! Somebody in another network name space of a node who pings its guests, all the time and every 10 ms.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::figures::{Pings, excused_ms, pings_in};
use super::rig;
use crate::guests::vsctl;
use crate::node::Node;

const PINGS: &str = include_str!("../../dataplane/pings.py");
const GUESTS: &str = include_str!("../../dataplane/guests.py");

/// For the guests to answer at all.
const PATIENCE: Duration = Duration::from_secs(180);

const SPACE: &str = "peer";
const PORT: &str = "to-peer";
const ADDRESS: &str = "203.0.113.10/24";

/// Joins a name space to a port that is there.
const JOIN: &str = r#"set -eu
ip netns add "$1"
ip link add "$2" type veth peer name eth0 netns "$1"
ip link set "$2" up
ip -n "$1" address add "$3" dev eth0
ip -n "$1" link set eth0 up"#;

/// The one who pings, and whom.
#[derive(Debug)]
pub struct Peer<'a> {
    node: &'a Node,
    guests: Vec<Ipv4Addr>,
}

/// What was counted while something was done.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counted {
    /// By address.
    pub guests: BTreeMap<Ipv4Addr, Pings>,
    /// How often a guest's address was asked for in vain, so that the peer's kernel forgot it.
    pub neighbours_lost: u32,
    /// How it ended.
    pub status: i32,
    /// What it said.
    pub said: String,
    /// Time in which packets of new flows were not handled, in milliseconds, where Open vSwitch was replaced.
    #[serde(skip)]
    pub window_ms: Option<u64>,
}

impl Counted {
    /// Pings without an answer.
    #[must_use]
    pub fn lost(&self) -> u32 {
        self.guests.values().map(|pings| pings.lost).sum()
    }

    /// Whether pings were lost, and not because this machine was so slow that the peer forgot a guest in the window, or
    /// more than it sends until the window is over.
    #[must_use]
    pub fn unexplained_loss(&self) -> bool {
        let excused = pings_in(excused_ms(self.window_ms, self.neighbours_lost));
        self.guests.values().any(|pings| u64::from(pings.lost) > excused)
    }
}

impl<'a> Peer<'a> {
    /// Joins the peer to a bridge of Open vSwitch on which these guests are.
    ///
    /// # Errors
    /// It can't be joined, or a guest does not answer.
    pub fn join(node: &'a Node, bridge: &str, guests: &[Ipv4Addr]) -> Result<Self> {
        node.write("/root/pings.py", PINGS)?;
        node.write("/root/guests.py", GUESTS)?;
        node.run(["sh", "-c", JOIN, "join", SPACE, PORT, ADDRESS])?;
        vsctl(node, &["add-port", bridge, PORT])?;
        let peer = Self {
            node,
            guests: guests.to_vec(),
        };
        peer.is_answered()?;
        Ok(peer)
    }

    /// Waits until all guests answer everything: before the kernel has learnt where they are it drops what it has too
    /// much of.
    fn is_answered(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let quiet = self.count(&["true"])?;
            if quiet.lost() == 0 {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "guests do not answer: {quiet:?}");
        }
    }

    /// Counts while a command runs.
    ///
    /// # Errors
    /// Nothing can be counted.
    pub fn count(&self, command: &[&str]) -> Result<Counted> {
        let before = rig::handovers(self.node)?;
        let guests: Vec<String> = self.guests.iter().map(ToString::to_string).collect();
        let guests = guests.join(",");
        let words = [&["python3", "/root/guests.py", SPACE, &guests], command].concat();
        let output = self.node.run(words)?;
        let last = output.lines().last().unwrap_or_default();
        let mut counted: Counted =
            serde_json::from_str(last).with_context(|| format!("figures: {output}"))?;
        counted.window_ms = rig::last_window(&before, &rig::handovers(self.node)?);
        Ok(counted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forgotten_guest_excuses_what_goes_to_it_until_the_window_ends() {
        let counted = |lost: [u32; 2], neighbours_lost, window_ms| Counted {
            guests: (1..)
                .zip(lost)
                .map(|(host, lost)| {
                    let pings = Pings {
                        sent: 1000,
                        lost,
                        missing: String::new(),
                        gap_ms: 10.0,
                    };
                    (Ipv4Addr::new(203, 0, 113, host), pings)
                })
                .collect(),
            neighbours_lost,
            status: 0,
            said: String::new(),
            window_ms,
        };
        for (counted, unexplained) in [
            (counted([0, 0], 0, None), false),
            (counted([0, 1], 0, None), true),
            (counted([0, 1], 1, None), true),
            (counted([1, 0], 1, Some(3000)), true),
            (counted([100, 100], 1, Some(4000)), false),
            (counted([0, 101], 1, Some(4000)), true),
            (counted([1, 0], 0, Some(9000)), true),
        ] {
            assert_eq!(counted.unexplained_loss(), unexplained, "{counted:?}");
        }
    }
}

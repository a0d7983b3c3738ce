//! What is handed over, as data.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Times that a successor may fail to take over before the dataplane begins anew.
const ATTEMPTS: u32 = 3;

/// What an ovs-vswitchd left to its successor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    /// All bridges, by name.
    pub bridges: Vec<Bridge>,
    /// When it was saved, in milliseconds of `CLOCK_MONOTONIC`.
    pub at_ms: u64,
    /// How many successors have tried to take over.
    pub attempts: u32,
}

/// The part of a bridge that is in no database. Texts are as ovs-ofctl(8) takes them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bridge {
    /// Its name.
    pub name: String,
    /// The newest OpenFlow version it speaks, for example `OpenFlow14`.
    pub version: String,
    /// Tunnel options that flows match on, one mapping each.
    pub tunnel_fields: Vec<String>,
    /// Meters.
    pub meters: Vec<String>,
    /// Groups.
    pub groups: Vec<String>,
    /// Flows with their cookies, by which a network agent knows its own.
    pub flows: Vec<String>,
    /// Numbers of its ports, which flows refer to, by name.
    pub ports: BTreeMap<String, String>,
}

/// What a new process has to do before it may handle packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Task {
    /// Nothing was left to it.
    Begin,
    /// Take over.
    TakeOver(Saved),
    /// Begin anew: others have failed to take over, and a dataplane that waits for ever forwards nothing new.
    GiveUp,
}

impl Saved {
    /// Number of flows of all bridges.
    pub fn flows(&self) -> usize {
        self.bridges.iter().map(|b| b.flows.len()).sum()
    }

    /// Number of ports of all bridges.
    pub fn ports(&self) -> usize {
        self.bridges.iter().map(|b| b.ports.len()).sum()
    }
}

/// What to do with what was left. Attempts are counted before they are made.
pub(super) fn task(saved: Option<Saved>) -> Task {
    match saved {
        None => Task::Begin,
        Some(saved) if saved.attempts >= ATTEMPTS => Task::GiveUp,
        Some(saved) => Task::TakeOver(Saved {
            attempts: saved.attempts + 1,
            ..saved
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved(attempts: u32) -> Saved {
        let bridge = Bridge {
            name: "br-int".into(),
            ports: [("tap1".to_owned(), "3".to_owned())].into(),
            ..Bridge::default()
        };
        Saved {
            bridges: vec![bridge],
            at_ms: 0,
            attempts,
        }
    }

    #[test]
    fn a_successor_takes_over_until_too_many_have_failed() {
        assert_eq!(task(None), Task::Begin);
        for attempts in 0..ATTEMPTS {
            assert_eq!(
                task(Some(saved(attempts))),
                Task::TakeOver(saved(attempts + 1)),
                "{attempts}"
            );
        }
        assert_eq!(task(Some(saved(ATTEMPTS))), Task::GiveUp);
    }
}

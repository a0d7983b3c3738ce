//! Until when a transaction may be found open and still go on.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Engine;
use super::activate::GRACE;
use crate::definition::{Definition, When};
use crate::deployment::{Deployment, Seq};
use crate::error::Result;
use crate::release::Probation;

/// An instant that later boots can tell, too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deadline {
    /// The boot in which `uptime_sec` counts.
    pub boot_id: String,
    /// Seconds since that boot, suspend included. Never jumps.
    pub uptime_sec: u64,
    /// The same by the clock on the wall, for other boots. A clock that jumped forward leads back too early, which is
    /// safe; one that jumped backward leaves it to the tries to end the transaction.
    pub time: jiff::Timestamp,
}

impl Deadline {
    fn passed(&self, boot_id: &str, uptime: Duration, now: jiff::Timestamp) -> bool {
        if self.boot_id == boot_id {
            uptime.as_secs() >= self.uptime_sec
        } else {
            now >= self.time
        }
    }
}

impl Engine {
    /// The deadline of a move that begins now: what all its tries may take when every step takes as long as it may.
    pub(super) fn deadline(
        &self,
        to: Seq,
        present: Option<&Deployment>,
        probation: &Probation,
    ) -> Result<Deadline> {
        let target = Deployment::load(&self.roots, to)?;
        let services = [Some(&target), present]
            .into_iter()
            .flatten()
            .flat_map(|d| d.release.services.values());
        let watched = [probation.window_sec, probation.hold_sec].map(|sec| Duration::from_secs(sec.into()));
        let one_try = all(services.map(longest).chain(watched).chain([GRACE]));
        let tries = one_try.saturating_mul(probation.tries.max(1));
        let clock = &self.ports.clock;
        let later = jiff::SignedDuration::try_from(tries).unwrap_or(jiff::SignedDuration::MAX);
        Ok(Deadline {
            boot_id: self.ports.host.boot_id()?,
            uptime_sec: clock.monotonic().saturating_add(tries).as_secs(),
            time: clock.now().saturating_add(later).unwrap_or(jiff::Timestamp::MAX),
        })
    }

    /// Whether it has passed.
    pub(super) fn is_over(&self, deadline: &Deadline) -> Result<bool> {
        let clock = &self.ports.clock;
        Ok(deadline.passed(&self.ports.host.boot_id()?, clock.monotonic(), clock.now()))
    }
}

/// The longest that stopping and starting a service and asking its gates may take.
fn longest(definition: &Definition) -> Duration {
    let unit = &definition.unit;
    let gates = [When::PreStart, When::PostStart]
        .into_iter()
        .flat_map(|when| definition.gates_at(when))
        .map(|gate| (gate.timeout + gate.interval).saturating_mul(gate.attempts));
    let own = [unit.timeout_stop_sec, unit.timeout_start_sec].map(|span| span.duration());
    all(gates.chain(own).chain([2 * GRACE]))
}

/// The sum, or as long as can be told: a definition may ask for patience without end.
fn all(times: impl Iterator<Item = Duration>) -> Duration {
    times.fold(Duration::ZERO, Duration::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_without_end_is_the_longest_there_is() {
        let gate = |n: u32| {
            format!(
                "[[gates]]\nname = \"g{n}\"\nkind = \"unit\"\nwhen = [\"pre-start\", \"post-start\"]\n\
                 attempts = 4294967295\ntimeout_ms = 4294967295\ninterval_ms = 4294967295\n"
            )
        };
        let gates: String = (0..400).map(gate).collect();
        let text = format!("format = 1\nname = \"s\"\ndescription = \"\"\nimage = \"i\"\n{gates}");
        let definition = Definition::parse(&text, std::path::Path::new("s.toml")).unwrap();
        assert_eq!(longest(&definition), Duration::MAX);
    }

    #[test]
    fn within_its_boot_the_uptime_decides_and_later_the_clock() {
        let at = |second| jiff::Timestamp::from_second(second).unwrap();
        let deadline = Deadline {
            boot_id: "a".into(),
            uptime_sec: 100,
            time: at(1000),
        };
        let table = [
            ("a", 99, 950, false),
            ("a", 100, 1000, true),
            ("a", 99, 9_000_000, false),
            ("a", 100, 0, true),
            ("b", 5, 999, false),
            ("b", 5, 1000, true),
            ("b", 500, 0, false),
        ];
        for (boot, uptime, now, over) in table {
            let passed = deadline.passed(boot, Duration::from_secs(uptime), at(now));
            assert_eq!(passed, over, "boot {boot}, up {uptime} s, clock at {now}");
        }
    }
}

//! The whole set below the guests replaced again and again, with nodectl and without.

use std::fmt::Write as _;

use anyhow::{Result, ensure};

use super::rig::Rig;
use crate::dataplane::Counted;
use crate::story::Story;

/// All that differs between the two releases of a round.
const SERVICES: [&str; 3] = ["ovsdb-server", "ovs-vswitchd", "libvirtd"];

const UPGRADE: &str = "upgrade of both daemons of Open vSwitch and libvirtd";
const ROLLBACK: &str = "rollback";
const PLAIN: &str = "`systemctl restart` of the three, without a handover";

/// One of them.
#[derive(Debug)]
pub struct Round {
    what: &'static str,
    guests_lost: usize,
    counted: Counted,
}

impl Rig<'_> {
    /// So many upgrades and rollbacks, and then a quarter as many plain restarts. No guest may be lost in any of it, and no ping in
    /// the former unless the peer forgot a guest in too long a window; what the latter lose is only told.
    ///
    /// # Errors
    /// It is not so.
    pub fn rounds(&self, story: &mut Story, release: &str, rounds: u64) -> Result<Vec<Round>> {
        let mut all = Vec::new();
        for number in 1..=rounds {
            for (what, command) in [
                (UPGRADE, &["nodectl", "upgrade", release][..]),
                (ROLLBACK, &["nodectl", "rollback"]),
            ] {
                let title = format!("{what}: {number} of {rounds}");
                let round = story.step(&title, |_| self.round(what, command))?;
                let explained = !round.counted.unexplained_loss();
                story.show(&round.told());
                ensure!(explained, "{title}: pings were lost: {:?}", round.counted);
                all.push(round);
            }
        }
        let plain = rounds.div_ceil(4);
        for number in 1..=plain {
            let title = format!("{PLAIN}: {number} of {plain}");
            let restart = ["sh", "/root/restart.sh"];
            let round = story.step(&title, |_| self.round(PLAIN, &restart))?;
            story.show(&round.told());
            all.push(round);
        }
        Ok(all)
    }

    /// Back from such a release, as in a round.
    ///
    /// # Errors
    /// As for [`Rig::rounds`].
    pub fn back(&self) -> Result<()> {
        let round = self.round(ROLLBACK, &["nodectl", "rollback"])?;
        ensure!(
            !round.counted.unexplained_loss(),
            "pings were lost: {:?}",
            round.counted
        );
        Ok(())
    }

    fn round(&self, what: &'static str, command: &[&str]) -> Result<Round> {
        let counted = self.replaced_by(&SERVICES, command)?;
        let guests_lost = self.ended();
        self.lives()?;
        Ok(Round {
            what,
            guests_lost,
            counted,
        })
    }
}

impl Round {
    fn told(&self) -> String {
        let window = self
            .counted
            .window_ms
            .map_or_else(String::new, |ms| format!(", window {ms} ms"));
        format!("{:?}{window}", self.counted.guests)
    }

    fn sent(&self) -> u32 {
        self.counted.guests.values().map(|pings| pings.sent).sum()
    }

    fn gap_ms(&self) -> f64 {
        self.counted
            .guests
            .values()
            .map(|pings| pings.gap_ms)
            .fold(0.0, f64::max)
    }
}

/// A table in Markdown: one line for each thing that was done, over all its rounds.
#[must_use]
pub fn table(rounds: &[Round]) -> String {
    let mut text = String::from(
        "| what | rounds | guests lost | pings | lost | longest gap | window |\n|---|---|---|---|---|---|---|\n",
    );
    for kind in [UPGRADE, ROLLBACK, PLAIN] {
        let of: Vec<&Round> = rounds.iter().filter(|round| round.what == kind).collect();
        let windows: Vec<u64> = of.iter().filter_map(|round| round.counted.window_ms).collect();
        let window = match (windows.iter().min(), windows.iter().max()) {
            (Some(min), Some(max)) => format!("{min}–{max} ms"),
            _ => "–".to_owned(),
        };
        // Writing to a String can't fail.
        let _ = writeln!(
            text,
            "| {kind} | {} | {} | {} | {} | {:.0} ms | {window} |",
            of.len(),
            of.iter().map(|round| round.guests_lost).sum::<usize>(),
            of.iter().map(|round| round.sent()).sum::<u32>(),
            of.iter().map(|round| round.counted.lost()).sum::<u32>(),
            of.iter().map(|round| round.gap_ms()).fold(0.0, f64::max),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::Pings;
    use std::net::Ipv4Addr;

    #[test]
    fn a_table_sums_up_and_keeps_the_worst() {
        let round = |what, lost, window_ms| Round {
            what,
            guests_lost: 0,
            counted: Counted {
                guests: [(
                    Ipv4Addr::LOCALHOST,
                    Pings {
                        sent: 100,
                        lost,
                        missing: String::new(),
                        gap_ms: f64::from(lost) * 10.0,
                    },
                )]
                .into(),
                neighbours_lost: 0,
                status: 0,
                said: String::new(),
                window_ms,
            },
        };
        let rounds = [
            round(UPGRADE, 0, Some(900)),
            round(UPGRADE, 1, Some(1200)),
            round(PLAIN, 7, None),
        ];
        let table = table(&rounds);
        for line in [
            format!("| {UPGRADE} | 2 | 0 | 200 | 1 | 10 ms | 900–1200 ms |"),
            format!("| {ROLLBACK} | 0 | 0 | 0 | 0 | 0 ms | – |"),
            format!("| {PLAIN} | 1 | 0 | 100 | 7 | 70 ms | – |"),
        ] {
            assert!(table.contains(&line), "no {line} in\n{table}");
        }
    }
}

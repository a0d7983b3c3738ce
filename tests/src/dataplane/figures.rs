//! What was counted.

use std::fmt::Write as _;

use serde::Deserialize;

/// One stream of pings.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pings {
    /// Packets sent.
    pub sent: u32,
    /// Packets whose answer never came.
    pub lost: u32,
    /// Their numbers, beginning with 1: `7-9 12`.
    pub missing: String,
    /// Longest time between two answers, in milliseconds.
    pub gap_ms: f64,
}

/// What one round has counted.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figures {
    /// Pings over the bridge with explicit flows.
    pub secure: Pings,
    /// Pings over the bridge that learns.
    pub standalone: Pings,
    /// Longest time in which an established connection got no answer, in milliseconds.
    pub stream_gap_ms: f64,
    /// Whether that connection broke.
    pub stream_broke: bool,
    /// Connections opened.
    pub opened: u32,
    /// Connections that could not be opened within half a minute.
    pub refused: u32,
    /// Longest time to open one, in milliseconds.
    pub slowest_ms: f64,
    /// How often a peer's address was asked for in vain, so that the kernel of the one who sends or answers forgot it.
    pub neighbours_lost: u32,
    /// How the operation ended.
    pub status: i32,
    /// Time it took, in milliseconds.
    pub took_ms: f64,
    /// What it said.
    pub said: String,
}

/// One round.
#[derive(Debug, Clone)]
pub struct Round {
    /// What was done.
    pub what: &'static str,
    /// What was counted.
    pub figures: Figures,
    /// Time in which packets of new flows were not handled, in milliseconds, where that is known.
    pub window_ms: Option<u64>,
}

/// Linux asks three times, a second apart, for an address that was not confirmed for some time, and then forgets it
/// (`ucast_solicit` and `retrans_time_ms` in arp(7)). A question that falls into a longer window may find no flow.
const NEIGHBOUR_PATIENCE_MS: u64 = 3000;

/// A ping goes every so many milliseconds.
const PING_EVERY_MS: u64 = 10;

/// A connection is opened every so many milliseconds.
const OPEN_EVERY_MS: u64 = 200;

/// TCP asks 1, 3, 7 and 15 s after its first question (`tcp_syn_retries` in tcp(7)); the next time is too late for one
/// who waits half a minute.
const OPENING_PATIENCE_MS: u64 = 15_000;

/// An established connection may get no answer for so long: what a machine out of breath needs, and less than TCP, which
/// doubles its patience each time, takes over a second without forwarding.
const SILENCE_MS: f64 = 2000.0;

/// The time in which a loss is explained, in milliseconds: what is left of so long a window once a neighbour that did not
/// answer is forgotten, if one was.
pub(super) fn excused_ms(window_ms: Option<u64>, neighbours_lost: u32) -> u64 {
    let forgotten = window_ms.filter(|_| neighbours_lost > 0).unwrap_or_default();
    forgotten.saturating_sub(NEIGHBOUR_PATIENCE_MS)
}

/// How many pings of one stream a time is long.
pub(super) const fn pings_in(ms: u64) -> u64 {
    ms / PING_EVERY_MS
}

impl Round {
    /// Pings without an answer.
    #[must_use]
    pub const fn lost(&self) -> u32 {
        self.figures.secure.lost + self.figures.standalone.lost
    }

    /// Whether something was lost, and not because this machine was so slow that a sender on the bridge that learns forgot
    /// its peer's address in the window, or that a connection was given up in it. Over the bridge with explicit flows
    /// nothing may be lost: the answers of the established connection there confirm both addresses all the time.
    #[must_use]
    pub fn unexplained_harm(&self) -> bool {
        let Some(window_ms) = self.window_ms else {
            return true;
        };
        let figures = &self.figures;
        let excused = excused_ms(self.window_ms, figures.neighbours_lost);
        let unanswered = window_ms.saturating_sub(OPENING_PATIENCE_MS);
        figures.stream_broke
            || figures.stream_gap_ms > SILENCE_MS
            || figures.secure.lost > 0
            || u64::from(figures.standalone.lost) > pings_in(excused)
            || u64::from(figures.refused) > unanswered / OPEN_EVERY_MS
    }
}

/// A table in Markdown: one line for each thing that was done, over all its rounds.
#[must_use]
pub fn table(rounds: &[Round]) -> String {
    let mut text = String::from(
        "| what | rounds | pings | lost | longest gap | neighbours forgotten | TCP stream: longest silence | new connections | failed | slowest | window |\n\
         |---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    let mut kinds: Vec<&str> = rounds.iter().map(|r| r.what).collect();
    kinds.dedup();
    kinds.sort_unstable();
    kinds.dedup();
    for kind in kinds {
        let of: Vec<&Round> = rounds.iter().filter(|r| r.what == kind).collect();
        let sum = |of_one: fn(&Figures) -> u32| of.iter().map(|r| of_one(&r.figures)).sum::<u32>();
        let most = |of_one: fn(&Figures) -> f64| of.iter().map(|r| of_one(&r.figures)).fold(0.0, f64::max);
        let windows: Vec<u64> = of.iter().filter_map(|r| r.window_ms).collect();
        let window = match (windows.iter().min(), windows.iter().max()) {
            (Some(min), Some(max)) => format!("{min}–{max} ms"),
            _ => "–".to_owned(),
        };
        // Writing to a String can't fail.
        let _ = writeln!(
            text,
            "| {kind} | {} | {} | {} | {:.0} ms | {} | {:.0} ms | {} | {} | {:.0} ms | {window} |",
            of.len(),
            sum(|f| f.secure.sent + f.standalone.sent),
            of.iter().map(|r| r.lost()).sum::<u32>(),
            most(|f| f.secure.gap_ms.max(f.standalone.gap_ms)),
            sum(|f| f.neighbours_lost),
            most(|f| f.stream_gap_ms),
            sum(|f| f.opened),
            sum(|f| f.refused),
            most(|f| f.slowest_ms),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(lost: [u32; 2], neighbours_lost: u32, window_ms: Option<u64>) -> Round {
        let pings = |lost| Pings {
            sent: 9,
            lost,
            missing: String::new(),
            gap_ms: 10.0,
        };
        Round {
            what: "upgrade",
            window_ms,
            figures: Figures {
                secure: pings(lost[0]),
                standalone: pings(lost[1]),
                stream_gap_ms: 1.0,
                stream_broke: false,
                opened: 1,
                refused: 0,
                slowest_ms: 1.0,
                neighbours_lost,
                status: 0,
                took_ms: 1.0,
                said: String::new(),
            },
        }
    }

    #[test]
    fn only_a_neighbour_forgotten_in_a_long_window_explains_a_loss() {
        for (round, harm) in [
            (round([0, 0], 0, Some(900)), false),
            (round([0, 1], 0, Some(9000)), true),
            (round([0, 1], 1, Some(900)), true),
            (round([0, 1], 1, Some(9000)), false),
            (round([0, 600], 1, Some(9000)), false),
            (round([0, 601], 1, Some(9000)), true),
            (round([1, 0], 1, Some(9000)), true),
            (round([0, 0], 0, None), true),
        ] {
            assert_eq!(round.unexplained_harm(), harm, "{round:?}");
        }
    }

    #[test]
    fn an_established_connection_is_never_silent_for_long() {
        for (gap_ms, harm) in [(900.0, false), (3549.0, true)] {
            let mut round = round([0, 0], 1, Some(16_343));
            round.figures.stream_gap_ms = gap_ms;
            assert_eq!(round.unexplained_harm(), harm, "{round:?}");
        }
    }

    #[test]
    fn a_window_longer_than_the_patience_of_tcp_explains_connections_that_were_given_up() {
        for (refused, window_ms, harm) in [(1, 9000, true), (55, 26_227, false), (57, 26_227, true)] {
            let mut round = round([0, 0], 0, Some(window_ms));
            round.figures.refused = refused;
            assert_eq!(round.unexplained_harm(), harm, "{round:?}");
        }
    }
}

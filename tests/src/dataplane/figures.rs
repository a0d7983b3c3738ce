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

/// A table in Markdown: one line for each thing that was done, over all its rounds.
#[must_use]
pub fn table(rounds: &[Round]) -> String {
    let mut text = String::from(
        "| what | rounds | pings | lost | longest gap | TCP stream: longest silence | new connections | failed | slowest | window |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
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
            "| {kind} | {} | {} | {} | {:.0} ms | {:.0} ms | {} | {} | {:.0} ms | {window} |",
            of.len(),
            sum(|f| f.secure.sent + f.standalone.sent),
            sum(|f| f.secure.lost + f.standalone.lost),
            most(|f| f.secure.gap_ms.max(f.standalone.gap_ms)),
            most(|f| f.stream_gap_ms),
            sum(|f| f.opened),
            sum(|f| f.refused),
            most(|f| f.slowest_ms),
        );
    }
    text
}

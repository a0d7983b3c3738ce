//! Whether a service that reports to somebody still does. Pure.

use std::time::Duration;

use serde::Deserialize;

/// A service that has not reported for this long is down in nova's eyes (`service_down_time`).
const DOWN: Duration = Duration::from_secs(60);

/// What the conductor knows about the reports of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reports {
    /// How often it has reported in all.
    pub reports: u64,
}

/// The reports of one process, as far as they were watched. The number is compared with the one before, never a time
/// of somebody else's clock with ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pulse {
    process: u32,
    reports: u64,
    /// When the number was seen to change last, or was seen first.
    since: Duration,
    /// Whether it was seen to change.
    alive: bool,
}

/// Takes one more look at the reports of a process: what is remembered of it, and whether it lives.
///
/// # Errors
/// Why it does not, for people.
pub fn look(before: Option<Pulse>, process: u32, reports: u64, now: Duration) -> (Pulse, Result<(), String>) {
    let pulse = match before.filter(|p| p.process == process) {
        None => Pulse {
            process,
            reports,
            since: now,
            alive: false,
        },
        Some(p) if p.reports == reports => p,
        Some(p) => Pulse {
            reports,
            since: now,
            alive: true,
            ..p
        },
    };
    let silent = now.saturating_sub(pulse.since);
    let answer = match (pulse.alive, silent < DOWN) {
        (true, true) => Ok(()),
        (true, false) => Err(format!("no report to the conductor for {} s", silent.as_secs())),
        (false, _) => Err(format!(
            "no report to the conductor yet, watched for {} s",
            silent.as_secs()
        )),
    };
    (pulse, answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_lives_while_its_reports_go_on() {
        // process, reports, second, whether it lives
        let looks = [
            (1, 500, 0, false),
            (1, 500, 10, false),
            (1, 501, 20, true),
            (1, 501, 79, true),
            (1, 501, 80, false),
            (1, 502, 90, true),
            // Reports of the process before prove nothing about this one.
            (2, 503, 100, false),
            (2, 504, 110, true),
        ];
        let mut pulse = None;
        for (process, reports, second, lives) in looks {
            let (seen, answer) = look(pulse, process, reports, Duration::from_secs(second));
            assert_eq!(answer.is_ok(), lives, "second {second}: {answer:?}");
            pulse = Some(seen);
        }
    }
}

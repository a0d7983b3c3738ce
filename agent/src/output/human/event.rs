//! One event as one line.

use super::Human;
use super::figures::{bytes, time};
use crate::api::{Event, EventKind, Phase};
use crate::output::Page;

impl Human for Event {
    fn human(&self, page: &mut Page) {
        page.line(format!("{} {:>6} {}", time(self.time), self.seq, sentence(self)));
    }
}

/// What happened, without when.
pub(in crate::output) fn sentence(event: &Event) -> String {
    match &event.kind {
        EventKind::Begin { message } | EventKind::Note { message } => message.clone(),
        EventKind::Entered => phase(event.phase).to_owned(),
        EventKind::Progress {
            item,
            done,
            total: Some(total),
        } => {
            format!("{item}: {} of {}", bytes(*done), bytes(*total))
        }
        EventKind::Progress {
            item,
            done,
            total: None,
        } => format!("{item}: {}", bytes(*done)),
        EventKind::Service { service, step } => format!("{service}: {step}"),
        EventKind::Gate {
            service,
            gate,
            passed,
            message,
        } => {
            let verdict = if *passed { "holds" } else { "does not hold" };
            let reason = if message.is_empty() {
                String::new()
            } else {
                format!(": {message}")
            };
            format!("{service}: gate {gate} {verdict}{reason}")
        }
        EventKind::Warning { message } => format!("warning: {message}"),
        EventKind::End {
            exit_code: 0,
            message,
        } => message.clone(),
        EventKind::End { exit_code, message } => format!("{message} (exit status {exit_code})"),
    }
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Idle => "idle",
        Phase::Fetching => "fetching and verifying",
        Phase::Verified => "verified",
        Phase::Staged => "staged: the new deployment is complete on disk",
        Phase::Armed => "armed: the way back is on record",
        Phase::Activating => "activating: the new deployment is current",
        Phase::Probation => "probation: all services are up and being watched",
        Phase::Blessed => "blessed: the new deployment held",
        Phase::Reverting => "reverting to the old deployment",
    }
}

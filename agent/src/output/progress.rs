//! Progress of an operation on standard error: bars on a terminal, one line a step elsewhere.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::human::sentence;
use super::{Terminal, to_stderr};
use crate::api::{Event, EventKind};
use crate::protocol::EventSender;

/// How often the spinner of the present step moves, so that a person sees that something is going on.
const TICK: Duration = Duration::from_millis(120);

/// Shows the events of an operation.
#[derive(Debug, Clone)]
pub struct ProgressView {
    view: View,
}

#[derive(Debug, Clone)]
enum View {
    Silent,
    Lines,
    Bars(Arc<Bars>),
}

impl ProgressView {
    /// Shows nothing.
    #[must_use]
    pub fn silent() -> Self {
        Self { view: View::Silent }
    }

    /// One line a step; bytes are told when a transfer ends.
    #[must_use]
    pub fn lines() -> Self {
        Self { view: View::Lines }
    }

    /// A bar for each transfer and the present step below.
    #[must_use]
    pub fn bars(terminal: Terminal) -> Self {
        Self {
            view: View::Bars(Arc::new(Bars::new(terminal))),
        }
    }

    /// Where the operation puts its events.
    #[must_use]
    pub fn sender(&self) -> EventSender {
        let view = self.view.clone();
        Arc::new(move |event| view.show(&event))
    }

    /// Lets something else write to the terminal without tearing the bars.
    pub fn aside(&self, write: impl FnOnce()) {
        match &self.view {
            View::Silent | View::Lines => write(),
            View::Bars(bars) => bars.all.suspend(write),
        }
    }

    /// A step begins.
    pub fn step(&self, text: &str) {
        match &self.view {
            View::Silent => {}
            View::Lines => to_stderr(text),
            View::Bars(bars) => bars.step.set_message(text.to_owned()),
        }
    }

    /// Something small within a step: seen on a terminal only.
    pub fn detail(&self, text: &str) {
        if let View::Bars(bars) = &self.view {
            bars.step.set_message(text.to_owned());
        }
    }

    /// A line that stays.
    pub fn say(&self, text: &str) {
        match &self.view {
            View::Silent => {}
            View::Lines => to_stderr(text),
            View::Bars(bars) => bars.say(text),
        }
    }

    /// Takes the bars away; what was said in lines stays.
    pub fn finish(&self) {
        if let View::Bars(bars) = &self.view {
            bars.step.finish_and_clear();
            // Nothing can be told to anybody when the terminal is gone.
            let _ = bars.all.clear();
        }
    }
}

impl View {
    fn show(&self, event: &Event) {
        match self {
            Self::Silent => {}
            Self::Lines => {
                if is_worth_a_line(&event.kind) {
                    to_stderr(&sentence(event));
                }
            }
            Self::Bars(bars) => bars.show(event),
        }
    }
}

/// Elsewhere than on a terminal, a transfer is one line when it is complete. What an operation ends with is its result
/// and is printed as such.
fn is_worth_a_line(kind: &EventKind) -> bool {
    match kind {
        EventKind::Progress { done, total, .. } => *total == Some(*done),
        EventKind::End { .. } => false,
        EventKind::Begin { .. }
        | EventKind::Entered
        | EventKind::Service { .. }
        | EventKind::Gate { .. }
        | EventKind::Warning { .. }
        | EventKind::Note { .. } => true,
    }
}

#[derive(Debug)]
struct Bars {
    all: MultiProgress,
    step: ProgressBar,
    transfers: Mutex<HashMap<String, ProgressBar>>,
    terminal: Terminal,
}

impl Bars {
    fn new(terminal: Terminal) -> Self {
        let all = MultiProgress::new();
        let step = all.add(ProgressBar::new_spinner());
        step.set_style(style("{spinner} {wide_msg} {elapsed:>4}"));
        step.enable_steady_tick(TICK);
        Self {
            all,
            step,
            transfers: Mutex::default(),
            terminal,
        }
    }

    fn show(&self, event: &Event) {
        match &event.kind {
            EventKind::Progress { item, done, total } => self.transfer(item, *done, *total),
            EventKind::Entered | EventKind::Service { .. } => self.step.set_message(sentence(event)),
            EventKind::Gate { passed: true, .. } => self.step.set_message(sentence(event)),
            EventKind::Gate { passed: false, .. } | EventKind::Warning { .. } => {
                self.say(&self.terminal.yellow(sentence(event)));
            }
            EventKind::Begin { .. } | EventKind::Note { .. } => self.say(&sentence(event)),
            EventKind::End { .. } => {}
        }
    }

    /// A line that stays, above the bars.
    fn say(&self, line: &str) {
        self.all.suspend(|| to_stderr(line));
    }

    fn transfer(&self, item: &str, done: u64, total: Option<u64>) {
        let mut transfers = self.transfers.lock().unwrap_or_else(PoisonError::into_inner);
        if total == Some(done) {
            if let Some(bar) = transfers.remove(item) {
                bar.finish_and_clear();
            }
            return;
        }
        let bar = transfers.entry(item.to_owned()).or_insert_with(|| {
            let bar = self.all.insert_before(&self.step, ProgressBar::new(total.unwrap_or(0)));
            bar.set_style(style("  {msg:<28!} {wide_bar} {binary_bytes:>11}/{binary_total_bytes:<11} {binary_bytes_per_sec:>13}"));
            bar.set_message(item.to_owned());
            bar
        });
        if let Some(total) = total {
            bar.set_length(total);
        }
        bar.set_position(done);
    }
}

/// The templates are constants, and a test renders them.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_tell_a_transfer_once_and_leave_the_end_to_the_result() {
        let progress = |done, total| EventKind::Progress {
            item: "layer".into(),
            done,
            total,
        };
        assert!(!is_worth_a_line(&progress(1, None)));
        assert!(!is_worth_a_line(&progress(1, Some(2))));
        assert!(is_worth_a_line(&progress(2, Some(2))));
        assert!(is_worth_a_line(&EventKind::Entered));
        assert!(!is_worth_a_line(&EventKind::End {
            exit_code: 0,
            message: String::new()
        }));
    }
}

//! How an operation ended, for the operator and for the history.

use super::run::Run;
use crate::api::{Action, HistoryEntry, OperationResult, Outcome, OutcomeKind};
use crate::deployment::current;
use crate::error::{AgentError, Result};
use crate::history;
use crate::machine::State;

impl Run<'_> {
    /// Writes the end into the history and makes the outcome of it.
    ///
    /// # Errors
    /// What went wrong, when nothing was touched or the way back is still open.
    pub async fn finish(mut self, end: State, mut entry: HistoryEntry, since_ms: u64) -> Result<Outcome> {
        let error = self.error.take();
        let result = match (&end, &error) {
            (State::Idle, None) if self.journal.setback.is_some() => OperationResult::RolledBack,
            (State::Idle, None) => OperationResult::Done,
            (State::Idle, Some(_)) if self.committed => OperationResult::RolledBack,
            (State::Idle, Some(_)) => OperationResult::Failed,
            (State::Blessed(_), _) => OperationResult::Done,
            _ => OperationResult::Stuck,
        };
        entry.ended = Some(self.engine.ports.clock.now());
        entry.result = result;
        entry.reason = match (&self.failure, &self.journal.setback, &error) {
            (Some(f), ..) => Some(format!("service {}: {}", f.service, f.reason)),
            (None, Some(setback), _) => Some(setback.reason.clone()),
            (None, None, Some(e)) => Some(e.chain()),
            (None, None, None) => None,
        };
        if let (OperationResult::Stuck, Some(reason), Some(hindrance)) =
            (result, &mut entry.reason, &self.hindrance)
        {
            reason.push_str(&format!("; going back: {}", hindrance.chain()));
        }
        entry.journal = self
            .failure
            .as_ref()
            .map(|f| f.journal.clone())
            .unwrap_or_default();
        if let Err(e) = history::record(&self.engine.roots, &entry) {
            self.reporter.warn(e.chain());
        }
        if let (State::Blessed(_), Some(e)) = (&end, &error) {
            self.reporter.warn(format!(
                "it holds, but its transaction is still open: {}",
                e.chain()
            ));
        }
        match (result, error) {
            (OperationResult::Failed, Some(e)) => Err(e),
            (OperationResult::Stuck, Some(e)) => Err(self.stuck(&entry, e)),
            _ => self.outcome(result, &entry, since_ms),
        }
    }

    fn stuck(&mut self, entry: &HistoryEntry, error: AgentError) -> AgentError {
        let what = format!(
            "the {} to deployment {} failed",
            entry.kind, self.journal.movement.to
        );
        let stuck = match self.hindrance.take() {
            Some(hindrance) => {
                AgentError::other(format!("{what} ({}), and so did going back", error.chain()))
                    .because(hindrance)
            }
            None => AgentError::other(format!("{what}, and so did going back")).because(error),
        };
        stuck.hint("`nodectl recover` tries again")
    }

    fn outcome(self, result: OperationResult, entry: &HistoryEntry, duration_ms: u64) -> Result<Outcome> {
        let release = &self.journal.release;
        let to = self.journal.movement.to;
        let now = current(&self.engine.roots)?;
        let rolled_back = result == OperationResult::RolledBack;
        let back = now.map_or("an empty node".to_owned(), |seq| format!("deployment {seq}"));
        let message = if rolled_back {
            let why = entry.reason.as_deref().unwrap_or("it did not hold");
            format!(
                "{} of {} {} failed, back on {back}: {why}",
                entry.kind, release.name, release.version
            )
        } else {
            let pending = self.services.iter().filter(|s| s.action == Action::Pending);
            let pending: Vec<&str> = pending.map(|s| s.name.as_str()).collect();
            let waits = match pending.as_slice() {
                [] => String::new(),
                names => format!("; pending until no guest needs it: {}", names.join(", ")),
            };
            format!(
                "now on deployment {to}, {} {}{waits}",
                release.name, release.version
            )
        };
        Ok(Outcome {
            kind: if rolled_back {
                OutcomeKind::RolledBack
            } else {
                OutcomeKind::Done
            },
            from: self.journal.movement.from,
            current: now,
            to: Some(to),
            release: Some(release.clone()),
            services: self.services,
            failure: self.failure,
            message,
            duration_ms,
        })
    }
}

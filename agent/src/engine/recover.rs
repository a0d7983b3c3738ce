//! What becomes of a transaction that was interrupted.

use node_images::store::Locked;
use node_systemd::render::SERVICES_TARGET;

use super::Engine;
use super::journal::{Claim, Claimant, Transaction};
use super::report::{EventSink, Reporter};
use super::run::Run;
use crate::api::{EventKind, HistoryEntry, OperationResult, Outcome, OutcomeKind};
use crate::deployment::current;
use crate::error::{AgentError, ExitCode, Result};
use crate::history;
use crate::machine::{Effect, Event, State, next};
use crate::reserve;

fn exit_of(outcome: &Outcome) -> u8 {
    match outcome.kind {
        OutcomeKind::RolledBack => ExitCode::RolledBack as u8,
        OutcomeKind::Done | OutcomeKind::NothingToDo | OutcomeKind::Staged => ExitCode::Done as u8,
    }
}

impl Engine {
    /// Whether a transaction was left open, or nova-compute disabled for one, or what says so is lost.
    ///
    /// # Errors
    /// The node's state can't be read.
    pub fn interrupted(&self) -> Result<bool> {
        match Transaction::load(&self.roots) {
            Ok(None) => Ok(self.is_drained()? || self.unended()?.is_some() || self.adrift()?.is_some()),
            // What can't be read is set aside, or is told by whoever tries.
            Ok(Some(_)) | Err(_) => Ok(true),
        }
    }

    /// Finishes the open transaction, or goes back.
    ///
    /// With `boot`, before the services start: takes one try off durably and, when none is left,
    /// flips back; the engine that comes later in this boot does the rest. In the boot that the
    /// transaction was last worked on there is nothing to take: the services are up already.
    ///
    /// # Errors
    /// Another process holds the lock, the journal can't be read, or going back failed.
    pub async fn recover(&self, boot: bool, sink: EventSink) -> Result<Outcome> {
        if boot
            && let Ok(Some(journal)) = Transaction::load(&self.roots)
            && journal.claim.boot_id == self.ports.host.boot_id()?
        {
            return self.nothing_to_settle("the open transaction is of this boot");
        }
        let lock = self.lock()?;
        let reporter = Reporter::new(sink, self.ports.clock.clone());
        let Some(mut journal) = self.open_journal(&lock, &reporter)? else {
            return self.nothing_open(&lock, boot, &reporter).await;
        };
        let boot_id = self.ports.host.boot_id()?;
        let taken = journal.claim
            == Claim {
                boot_id: boot_id.clone(),
                by: Claimant::Boot,
            };
        let resumed = Event::Resumed {
            current: current(&self.roots)?,
            attempt: boot || !taken,
            expired: match &journal.deadline {
                Some(deadline) => self.is_over(deadline)?,
                None => false,
            },
        };
        let (state, effects) = next(journal.state()?, &resumed)
            .map_err(|e| AgentError::other("the transaction lost its way").because(e))?;
        let by = if boot { Claimant::Boot } else { Claimant::Engine };
        journal.claim = Claim { boot_id, by };
        journal.follow(&state);
        reporter.tell(EventKind::Begin {
            message: format!(
                "resuming the {} to deployment {}",
                journal.movement.kind, journal.movement.to
            ),
        });
        if boot {
            return self
                .settle_for_boot(&lock, &reporter, journal, &state, effects)
                .await;
        }
        let begun = self.ports.clock.monotonic();
        let entry = self.entry_of(&journal)?;
        let mut run = Run::new(self, &lock, &reporter, journal);
        let end = run.drive(state, effects).await?;
        self.undrain(&reporter).await;
        let elapsed = self.ports.clock.monotonic().saturating_sub(begun).as_millis();
        let outcome = run
            .finish(end, entry, u64::try_from(elapsed).unwrap_or(u64::MAX))
            .await;
        let (exit_code, message) = match &outcome {
            Ok(o) => (exit_of(o), o.message.clone()),
            Err(e) => (e.exit_code() as u8, e.chain()),
        };
        reporter.tell(EventKind::End { exit_code, message });
        outcome
    }

    /// The journal, if one is open; what can't be read is set aside.
    fn open_journal(&self, lock: &Locked, reporter: &Reporter) -> Result<Option<Transaction>> {
        if let Some(problem) = Transaction::set_aside_if_damaged(&self.roots, lock)? {
            reporter.warn(format!("{problem}: set aside, the node stays on what is current"));
        }
        Transaction::load(&self.roots)
    }

    /// Only what has to be right before the services start: the journal and `current`.
    async fn settle_for_boot(
        &self,
        lock: &Locked,
        reporter: &Reporter,
        journal: Transaction,
        state: &State,
        effects: Vec<Effect>,
    ) -> Result<Outcome> {
        for effect in effects {
            match effect {
                Effect::Journal if matches!(state, State::Reverting(..)) => {
                    // The older journal leads back as well.
                    if let Err(e) = reserve::or_spend(&self.roots, lock, &|| journal.save(&self.roots, lock))
                    {
                        reporter.warn(e.chain());
                    }
                }
                Effect::Journal => journal.save(&self.roots, lock)?,
                Effect::Flip(to) if current(&self.roots)? != to => {
                    reserve::or_spend(&self.roots, lock, &|| self.flip(to))?;
                    self.ports.units.daemon_reload().await?;
                    // The boot has queued what was current before; what only the old set has was not among it.
                    self.ports.units.enqueue_start(SERVICES_TARGET).await?;
                }
                Effect::Flip(_)
                | Effect::Fetch
                | Effect::Stage
                | Effect::Activate(_)
                | Effect::Watch
                | Effect::WalkBack(_)
                | Effect::Reject
                | Effect::Close => {}
            }
        }
        let m = &journal.movement;
        let message = match state {
            State::Reverting(_, setback) => {
                format!("going back before the services start: {}", setback.reason)
            }
            _ => format!(
                "deployment {} gets another try, {} left after it",
                m.to, m.tries_left
            ),
        };
        Ok(Outcome {
            kind: if matches!(state, State::Reverting(..)) {
                OutcomeKind::RolledBack
            } else {
                OutcomeKind::Done
            },
            from: m.from,
            current: current(&self.roots)?,
            to: Some(m.to),
            release: Some(journal.release.clone()),
            services: Vec::new(),
            failure: None,
            message,
            duration_ms: 0,
        })
    }

    /// Services that could be asked are up only after the boot.
    async fn nothing_open(&self, lock: &Locked, boot: bool, reporter: &Reporter) -> Result<Outcome> {
        // A history that can't be read keeps nobody from booting.
        let regained = self.regain(lock, reporter).await.unwrap_or_else(|e| {
            reporter.warn(e.chain());
            None
        });
        if let Err(e) = self.end_the_unended(lock, reporter) {
            reporter.warn(e.chain());
        }
        if !boot {
            self.undrain(reporter).await;
        }
        let mut outcome = self.nothing_to_settle("no transaction is open")?;
        if let Some(seq) = regained {
            outcome.kind = OutcomeKind::Done;
            outcome.message = format!("current was lost: deployment {seq} is current again");
        }
        Ok(outcome)
    }

    fn nothing_to_settle(&self, message: &str) -> Result<Outcome> {
        let seq = current(&self.roots)?;
        Ok(Outcome {
            kind: OutcomeKind::NothingToDo,
            from: seq,
            current: seq,
            to: seq,
            release: None,
            services: Vec::new(),
            failure: None,
            message: message.into(),
            duration_ms: 0,
        })
    }

    /// The history's entry of a transaction, also where the history was lost. What was put on record at the beginning
    /// does not say where it goes yet.
    fn entry_of(&self, journal: &Transaction) -> Result<HistoryEntry> {
        let known = history::read(&self.roots)?
            .into_iter()
            .find(|e| e.id == journal.id);
        let entry = known.unwrap_or_else(|| HistoryEntry {
            id: journal.id.clone(),
            kind: journal.movement.kind,
            from: journal.movement.from,
            to: None,
            release: Some(journal.release.clone()),
            started: journal.started,
            ended: None,
            result: OperationResult::Open,
            reason: None,
            journal: Vec::new(),
        });
        Ok(HistoryEntry {
            to: Some(journal.movement.to),
            ..entry
        })
    }
}

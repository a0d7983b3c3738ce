//! One operation from its beginning to its end: prepare, ask the gates, switch, report.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use node_images::store::Locked;

use super::Engine;
use super::consider::Considered;
use super::journal::{Claim, Claimant, FORMAT, Transaction};
use super::report::Reporter;
use super::run::Run;
use super::verbs::UpgradeOptions;
use crate::api::{
    Action, Disruption, EventKind, HistoryEntry, OperationKind, OperationResult, Outcome, OutcomeKind, Phase,
    PlannedService, ReleaseInfo,
};
use crate::config::Changes;
use crate::deployment::{Deployment, Reason, Seq, stage};
use crate::error::{AgentError, Kind, Result};
use crate::machine::{Effect, Event, Move, State, next};
use crate::release::Probation;
use crate::{config, history, rejected, reserve};

/// An operation under way, before its transaction is armed.
pub(super) struct Operation<'a> {
    pub engine: &'a Engine,
    pub lock: &'a Locked,
    pub reporter: &'a Reporter,
    pub entry: HistoryEntry,
    pub begun: Duration,
    /// What the operator's parameters become when it succeeds.
    pub parameters: Changes,
    /// Whether nova-compute is disabled while it is moved.
    pub drain: bool,
}

impl Engine {
    /// Begins an operation; nothing is written yet.
    pub(super) fn begin<'a>(
        &'a self,
        lock: &'a Locked,
        reporter: &'a Reporter,
        kind: OperationKind,
        from: Option<Seq>,
    ) -> Operation<'a> {
        let started = self.ports.clock.now();
        let entry = HistoryEntry {
            id: operation_id(started),
            kind,
            from,
            to: None,
            release: None,
            started,
            ended: None,
            result: OperationResult::Open,
            reason: None,
            journal: Vec::new(),
        };
        Operation {
            engine: self,
            lock,
            reporter,
            entry,
            begun: self.ports.clock.monotonic(),
            parameters: Changes::new(),
            drain: false,
        }
    }
}

impl Operation<'_> {
    /// Fetch, stage, switch.
    pub async fn forward(mut self, considered: Considered, options: UpgradeOptions) -> Result<Outcome> {
        let release = considered.release.info.clone();
        self.entry.release = Some(release.clone());
        self.drain = considered.settings.drain;
        self.tell_begin(&format!(
            "{} to {} {}",
            self.entry.kind, release.name, release.version
        ))?;
        match self.prepare(&considered, options).await {
            Err(e) => self.failed(e),
            Ok(to) if options.download_only => self.parked(to, &considered),
            Ok(to) => {
                let probation = considered.probation();
                self.switch(
                    to,
                    considered.present.as_ref(),
                    release,
                    &probation,
                    options.force,
                )
                .await
            }
        }
    }

    /// Everything before the transaction is armed. Touches no service.
    async fn prepare(&mut self, considered: &Considered, options: UpgradeOptions) -> Result<Seq> {
        let engine = self.engine;
        let kind = self.entry.kind;
        let (state, _) = advance(State::Idle, &Event::Begun { kind })?;
        self.reporter.enter(state.phase());
        let images = considered.images();
        let cost = engine
            .ports
            .images
            .cost(&considered.settings, &considered.release, &images)
            .await?;
        for warning in engine.check_host(considered, cost.store).await? {
            self.reporter.warn(warning);
        }
        engine
            .prospect(considered)
            .await?
            .permit(options.force, self.reporter)?;
        let tell = |item: &str, done: u64, total: Option<u64>| {
            self.reporter.tell(EventKind::Progress {
                item: item.into(),
                done,
                total,
            });
        };
        engine
            .ports
            .images
            .pull(
                self.lock,
                &considered.settings,
                &considered.release,
                &images,
                &tell,
            )
            .await?;
        self.check_way_back(considered.present.as_ref(), options.force)?;
        let (state, _) = advance(state, &Event::Fetched)?;
        self.reporter.enter(state.phase());
        let reason = match kind {
            OperationKind::Upgrade | OperationKind::Rollback => Reason::Upgrade,
            OperationKind::Set => Reason::Set,
        };
        let staging = engine.render(considered, reason)?;
        let to = match engine.staged_before(&staging, considered.present.as_ref().map(|p| p.seq))? {
            Some(seq) => seq,
            None => {
                stage(&engine.roots, self.lock, &staging)?;
                staging.document.seq
            }
        };
        self.entry.to = Some(to);
        let (state, _) = advance(state, &Event::Staged { to })?;
        self.reporter.enter(state.phase());
        Ok(to)
    }

    fn check_way_back(&self, present: Option<&Deployment>, force: bool) -> Result<()> {
        let notes = self.engine.way_back(present)?;
        if notes.is_empty() {
            return Ok(());
        }
        let text = format!("the way back would be closed: {}", notes.join("; "));
        if force {
            self.reporter.warn(text);
            return Ok(());
        }
        Err(AgentError::vetoed(text).hint("`nodectl fsck --repair` mends it; --force goes on without"))
    }

    pub async fn back_to(mut self, target: &Deployment, force: bool) -> Result<Outcome> {
        let release = target.document.release.clone();
        self.entry.release = Some(release.clone());
        self.entry.to = Some(target.seq);
        self.tell_begin(&format!(
            "rollback to deployment {}, {} {}",
            target.seq, release.name, release.version
        ))?;
        let settings = config::load(&self.engine.roots)?;
        self.drain = settings.drain;
        let probation = settings.probation(&target.release.probation);
        let present = match self.entry.from {
            Some(seq) => Some(Deployment::load(&self.engine.roots, seq)?),
            None => None,
        };
        let permitted = match self.engine.prospect_back(present.as_ref(), target).await {
            Ok(prospect) => prospect.permit(force, self.reporter),
            Err(e) => Err(e),
        };
        if let Err(e) = permitted {
            return self.failed(e);
        }
        self.switch(target.seq, present.as_ref(), release, &probation, force)
            .await
    }

    /// Asks the gates, arms the transaction and runs it.
    async fn switch(
        self,
        to: Seq,
        present: Option<&Deployment>,
        release: ReleaseInfo,
        probation: &Probation,
        force: bool,
    ) -> Result<Outcome> {
        let kind = self.entry.kind;
        // A rollback lives on what the upgrade before it kept.
        if kind != OperationKind::Rollback
            && let Err(e) = reserve::keep(&self.engine.roots, self.lock)
        {
            return self.failed(e);
        }
        if let Err(e) = self.ask_before(to, present, force).await {
            self.engine.undrain(self.reporter).await;
            return self.failed(e);
        }
        let movement = Move {
            kind,
            from: present.map(|p| p.seq),
            to,
            tries_left: probation.tries,
        };
        let (state, effects) = advance(State::Staged { kind, to }, &Event::Agreed(movement.clone()))?;
        if force {
            rejected::forget(&self.engine.roots, &release.digest)?;
        }
        let boot_id = self.engine.ports.host.boot_id()?;
        let journal = Transaction {
            format: FORMAT,
            id: self.entry.id.clone(),
            phase: state.phase(),
            movement,
            setback: None,
            release,
            claim: Claim {
                boot_id,
                by: Claimant::Engine,
            },
            window_sec: probation.window_sec,
            hold_sec: probation.hold_sec,
            deadline: Some(self.engine.deadline(to, present, probation)?),
            force,
            parameters: self.parameters.clone(),
            started: self.entry.started,
        };
        let mut run = Run::new(self.engine, self.lock, self.reporter, journal);
        let end = run.drive(state, effects).await?;
        self.engine.undrain(self.reporter).await;
        let outcome = run.finish(end, self.entry.clone(), self.elapsed_ms()).await;
        self.tell_end(&outcome);
        outcome
    }

    /// The gates that can veto the move, before anything is touched.
    async fn ask_before(&self, to: Seq, present: Option<&Deployment>, force: bool) -> Result<()> {
        let target = Deployment::load(&self.engine.roots, to)?;
        let planned = self.engine.actions(Some(&target), present, force).await?;
        self.spare_guests(&planned, force)?;
        if self.drain {
            let why = format!("{} to deployment {to} ({})", self.entry.kind, self.entry.id);
            self.engine.drain(&planned, present, &why, self.reporter).await?;
        }
        let touched = planned
            .iter()
            .filter(|p| matches!(p.action, Action::Restart | Action::Retire));
        let definitions = touched.filter_map(|p| present?.release.services.get(&p.name));
        self.engine.permit_stop(definitions, force, self.reporter).await
    }

    /// A service that leaves can't be left alone: its unit goes.
    fn spare_guests(&self, planned: &[PlannedService], force: bool) -> Result<()> {
        let needed = planned.iter().find(|p| {
            let by_guests = matches!(p.disruption, Disruption::WhenDrained | Disruption::GuestAware);
            p.action == Action::Retire && by_guests
        });
        match needed {
            Some(service) => self
                .engine
                .spare_guests(&service.name, "is not in the new set", force),
            None => Ok(()),
        }
    }

    fn tell_begin(&self, message: &str) -> Result<()> {
        let record = || history::record(&self.engine.roots, &self.entry);
        if self.entry.kind == OperationKind::Rollback {
            reserve::or_spend(&self.engine.roots, self.lock, &record)?;
        } else {
            record()?;
        }
        self.reporter.tell(EventKind::Begin {
            message: message.into(),
        });
        Ok(())
    }

    fn tell_end(&self, outcome: &Result<Outcome>) {
        let (exit_code, message) = match outcome {
            Ok(o) if o.kind == OutcomeKind::RolledBack => {
                (Kind::RolledBack.exit_code() as u8, o.message.clone())
            }
            Ok(o) => (0, o.message.clone()),
            Err(e) => (e.exit_code() as u8, e.chain()),
        };
        self.reporter.enter(Phase::Idle);
        self.reporter.tell(EventKind::End { exit_code, message });
    }

    fn elapsed_ms(&self) -> u64 {
        let elapsed = self.engine.ports.clock.monotonic().saturating_sub(self.begun);
        u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
    }

    /// It failed before anything was touched.
    fn failed(mut self, error: AgentError) -> Result<Outcome> {
        self.entry.ended = Some(self.engine.ports.clock.now());
        self.entry.result = OperationResult::Failed;
        self.entry.reason = Some(error.chain());
        if let Err(e) = history::record(&self.engine.roots, &self.entry) {
            self.reporter.warn(e.chain());
        }
        let ended = Err(error);
        self.tell_end(&ended);
        ended
    }

    /// It was only to be staged.
    fn parked(mut self, to: Seq, considered: &Considered) -> Result<Outcome> {
        self.entry.ended = Some(self.engine.ports.clock.now());
        self.entry.result = OperationResult::Staged;
        history::record(&self.engine.roots, &self.entry)?;
        let release = &considered.release.info;
        let present = considered.present.as_ref().map(|p| p.seq);
        let ended = Ok(Outcome {
            kind: OutcomeKind::Staged,
            from: present,
            current: present,
            to: Some(to),
            message: format!(
                "{} {} is staged as deployment {to}; nothing was touched",
                release.name, release.version
            ),
            release: Some(release.clone()),
            services: Vec::new(),
            failure: None,
            duration_ms: self.elapsed_ms(),
        });
        self.tell_end(&ended);
        ended
    }
}

/// Unique on this node: no process begins two operations under the same number.
fn operation_id(started: jiff::Timestamp) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(1);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{}-{}-{count}", started.as_millisecond(), std::process::id())
}

fn advance(state: State, event: &Event) -> Result<(State, Vec<Effect>)> {
    next(state, event).map_err(|e| AgentError::other("the transaction lost its way").because(e))
}

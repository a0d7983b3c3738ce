//! The operations that end in another deployment: upgrade, rollback, set, unset; and plan.

use std::collections::BTreeMap;
use std::time::Duration;

use node_images::store::Locked;

use super::consider::Considered;
use super::journal::{Claim, Claimant, FORMAT, Transaction};
use super::report::{EventSink, Reporter};
use super::run::Run;
use super::Engine;
use crate::api::{
    Action, EventKind, HistoryEntry, OperationKind, OperationResult, Outcome, OutcomeKind, Plan, PlannedService,
};
use crate::config::{self, Settings};
use crate::definition::When;
use crate::deployment::{Deployment, Reason, Seq, current, list, stage};
use crate::error::{AgentError, Kind, Result};
use crate::machine::{Event, Move, State, next};
use crate::ports::TrustedRelease;
use crate::{history, rejected};

/// How far an upgrade goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UpgradeOptions {
    /// Stop once everything is staged.
    pub download_only: bool,
    /// Also take a release that failed here, or one that leaves no way back.
    pub force: bool,
}

/// An operation under way, before its transaction is armed.
struct Operation<'a> {
    engine: &'a Engine,
    lock: &'a Locked,
    reporter: &'a Reporter,
    entry: HistoryEntry,
    begun: Duration,
}

impl Engine {
    /// What an upgrade would do. Changes nothing.
    ///
    /// # Errors
    /// The release can't be fetched, does not verify, or does not fit the configuration.
    pub async fn plan(&self, reference: Option<&str>) -> Result<Plan> {
        let settings = config::load(&self.roots)?;
        let release = self.fetch_release(&settings, reference).await?;
        let considered = self.consider(release, settings)?;
        self.plan_of(&considered).await
    }

    /// Moves the node to a release.
    ///
    /// # Errors
    /// Whatever went wrong before anything was touched; afterwards the node goes back, and the
    /// outcome says so.
    pub async fn upgrade(&self, reference: Option<&str>, options: UpgradeOptions, sink: EventSink) -> Result<Outcome> {
        let lock = self.lock()?;
        self.require_closed()?;
        let reporter = Reporter::new(sink, self.ports.clock.clone());
        let settings = config::load(&self.roots)?;
        let release = self.fetch_release(&settings, reference).await?;
        if !options.force {
            self.check_rejected(&release)?;
        }
        let considered = self.consider(release, settings)?;
        let planned = self.planned(&considered).await?;
        if self.same_as_present(&considered, &planned) {
            return Ok(self.nothing_to_do(&considered, planned));
        }
        let operation = self.begin(&lock, &reporter, OperationKind::Upgrade, considered.present.as_ref().map(|p| p.seq));
        operation.forward(considered, options).await
    }

    /// Sets (`Some`) and unsets (`None`) parameters, as a new deployment of the same release.
    ///
    /// # Errors
    /// As for [`Engine::upgrade`]; the parameters are then as before.
    pub async fn set(&self, values: &BTreeMap<String, Option<String>>, sink: EventSink) -> Result<Outcome> {
        let lock = self.lock()?;
        self.require_closed()?;
        let reporter = Reporter::new(sink, self.ports.clock.clone());
        let Some(seq) = current(&self.roots)? else {
            return Err(AgentError::new(Kind::Usage, "this node runs no release yet")
                .hint("set parameters in node.toml, then upgrade"));
        };
        let present = Deployment::load(&self.roots, seq)?;
        let saved = read_optional(&self.roots.operator_parameters())?;
        for (name, text) in values {
            let value = match (text, present.release.parameters.get(name)) {
                (None, _) => None,
                (Some(text), Some(spec)) => Some(
                    spec.kind.parse(name, text).map_err(|e| AgentError::config("the value does not fit").because(e))?,
                ),
                (Some(_), None) => {
                    return Err(AgentError::config(format!("parameter {name} is not known to the release")));
                }
            };
            config::write_parameter(&self.roots, name, value.as_ref())?;
        }
        let ended = self.set_written(&lock, &reporter, &present).await;
        let went_back = !matches!(&ended, Ok(outcome) if outcome.kind != OutcomeKind::RolledBack);
        if went_back {
            restore_optional(&self.roots.operator_parameters(), saved)?;
        }
        ended
    }

    async fn set_written(&self, lock: &Locked, reporter: &Reporter, present: &Deployment) -> Result<Outcome> {
        let settings = config::load(&self.roots)?;
        let considered = self.consider(trusted_before(present)?, settings)?;
        let planned = self.planned(&considered).await?;
        if self.same_as_present(&considered, &planned) {
            return Ok(self.nothing_to_do(&considered, planned));
        }
        let operation = self.begin(lock, reporter, OperationKind::Set, Some(present.seq));
        operation.forward(considered, UpgradeOptions::default()).await
    }

    /// Goes back to an earlier deployment: the given one, or the previous one.
    ///
    /// # Errors
    /// There is none, its images are gone, or as for [`Engine::upgrade`].
    pub async fn rollback(&self, to: Option<Seq>, force: bool, sink: EventSink) -> Result<Outcome> {
        let lock = self.lock()?;
        self.require_closed()?;
        let reporter = Reporter::new(sink, self.ports.clock.clone());
        let Some(from) = current(&self.roots)? else {
            return Err(AgentError::new(Kind::Usage, "this node runs no release yet"));
        };
        let to = match to.or(self.previous()?) {
            Some(to) if to == from => {
                let considered = self.consider(trusted_before(&Deployment::load(&self.roots, to)?)?, config::load(&self.roots)?)?;
                return Ok(self.nothing_to_do(&considered, Vec::new()));
            }
            Some(to) if list(&self.roots)?.contains(&to) => to,
            Some(to) => return Err(AgentError::new(Kind::Usage, format!("there is no deployment {to} on this node"))),
            None => return Err(AgentError::new(Kind::Usage, "there is no earlier deployment on this node")),
        };
        let target = Deployment::load(&self.roots, to)?;
        let notes = self.way_back(Some(&target))?;
        if !notes.is_empty() {
            return Err(AgentError::vetoed(format!("deployment {to} can't run any more: {}", notes.join("; "))));
        }
        let operation = self.begin(&lock, &reporter, OperationKind::Rollback, Some(from));
        operation.back_to(&target, force).await
    }

    /// The deployment that a rollback returns to: the newest one that was run to its end and is not
    /// the current one.
    pub(super) fn previous(&self) -> Result<Option<Seq>> {
        let present = current(&self.roots)?;
        let there = list(&self.roots)?;
        if let Some(seq) = present
            && let Ok(deployment) = Deployment::load(&self.roots, seq)
            && let Some(previous) = deployment.document.previous
            && there.contains(&previous)
        {
            return Ok(Some(previous));
        }
        let done = history::read(&self.roots)?.into_iter().rev().filter(|e| e.result == OperationResult::Done);
        Ok(done.filter_map(|e| e.to).find(|seq| Some(*seq) != present && there.contains(seq)))
    }

    async fn fetch_release(&self, settings: &Settings, reference: Option<&str>) -> Result<TrustedRelease> {
        let Some(reference) = reference.or(settings.release.as_deref()) else {
            return Err(AgentError::new(Kind::Usage, "no release is named")
                .hint(format!("name one, or set release.reference in {}", self.roots.node_toml().display())));
        };
        self.ports.images.release(settings, reference).await
    }

    fn nothing_to_do(&self, considered: &Considered, services: Vec<PlannedService>) -> Outcome {
        let seq = considered.present.as_ref().map(|p| p.seq);
        let release = &considered.release.info;
        Outcome {
            kind: OutcomeKind::NothingToDo,
            from: seq,
            current: seq,
            to: seq,
            message: format!("already on {} {}", release.name, release.version),
            release: Some(release.clone()),
            services,
            failure: None,
            duration_ms: 0,
        }
    }

    fn begin<'a>(
        &'a self,
        lock: &'a Locked,
        reporter: &'a Reporter,
        kind: OperationKind,
        from: Option<Seq>,
    ) -> Operation<'a> {
        let started = self.ports.clock.now();
        let entry = HistoryEntry {
            id: format!("{}-{}", started.as_millisecond(), std::process::id()),
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
        Operation { engine: self, lock, reporter, entry, begun: self.ports.clock.monotonic() }
    }
}

impl Operation<'_> {
    /// Fetch, stage, switch.
    async fn forward(mut self, considered: Considered, options: UpgradeOptions) -> Result<Outcome> {
        let release = considered.release.info.clone();
        self.entry.release = Some(release.clone());
        self.tell_begin(&format!("{} to {} {}", self.entry.kind, release.name, release.version))?;
        match self.prepare(&considered, options).await {
            Err(e) => self.failed(e),
            Ok(to) if options.download_only => self.parked(to, &considered),
            Ok(to) => {
                let (window, tries) = (considered.window_sec(), considered.tries());
                self.switch(to, considered.present.as_ref(), release, (window, tries), options.force).await
            }
        }
    }

    /// Everything before the transaction is armed. Touches no service.
    async fn prepare(&mut self, considered: &Considered, options: UpgradeOptions) -> Result<Seq> {
        let engine = self.engine;
        let kind = self.entry.kind;
        let (state, _) = advance(State::Idle, Event::Begun { kind })?;
        self.reporter.enter(state.phase());
        let images = considered.images();
        let cost = engine.ports.images.cost(&considered.settings, &considered.release, &images).await?;
        for warning in engine.check_host(considered, cost.store).await? {
            self.reporter.warn(warning);
        }
        let tell = |item: &str, done: u64, total: Option<u64>| {
            self.reporter.tell(EventKind::Progress { item: item.into(), done, total });
        };
        engine.ports.images.pull(self.lock, &considered.settings, &considered.release, &images, &tell).await?;
        self.check_way_back(considered.present.as_ref(), options.force)?;
        let (state, _) = advance(state, Event::Fetched)?;
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
        let (state, _) = advance(state, Event::Staged { to })?;
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

    async fn back_to(mut self, target: &Deployment, force: bool) -> Result<Outcome> {
        let release = target.document.release.clone();
        self.entry.release = Some(release.clone());
        self.entry.to = Some(target.seq);
        self.tell_begin(&format!("rollback to deployment {}, {} {}", target.seq, release.name, release.version))?;
        let probation = &target.release.probation;
        let settings = config::load(&self.engine.roots)?;
        let window = settings.probation_window_sec.unwrap_or(probation.window_sec);
        let tries = settings.probation_tries.unwrap_or(probation.tries);
        let present = match self.entry.from {
            Some(seq) => Some(Deployment::load(&self.engine.roots, seq)?),
            None => None,
        };
        self.switch(target.seq, present.as_ref(), release, (window, tries), force).await
    }

    /// Asks the gates, arms the transaction and runs it.
    async fn switch(
        self,
        to: Seq,
        present: Option<&Deployment>,
        release: crate::api::ReleaseInfo,
        (window_sec, tries): (u32, u32),
        force: bool,
    ) -> Result<Outcome> {
        let kind = self.entry.kind;
        if let Err(e) = self.ask_before(to, present, force).await {
            return self.failed(e);
        }
        let movement = Move { kind, from: present.map(|p| p.seq), to, tries_left: tries };
        let (state, effects) = advance(State::Staged { kind, to }, Event::Agreed(movement.clone()))?;
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
            claim: Claim { boot_id, by: Claimant::Engine },
            window_sec,
            started: self.entry.started,
        };
        let mut run = Run::new(self.engine, self.lock, self.reporter, journal);
        let end = run.drive(state, effects).await?;
        let outcome = run.finish(end, self.entry.clone(), self.elapsed_ms()).await;
        self.tell_end(&outcome);
        outcome
    }

    /// The gates that can veto the move, before anything is touched.
    async fn ask_before(&self, to: Seq, present: Option<&Deployment>, force: bool) -> Result<()> {
        let target = Deployment::load(&self.engine.roots, to)?;
        let planned = self.engine.actions(Some(&target), present).await?;
        let touched = planned.iter().filter(|p| matches!(p.action, Action::Restart | Action::Retire));
        for definition in touched.filter_map(|p| present?.release.services.get(&p.name)) {
            let Some(veto) = self.engine.hold(definition, When::PreStop, self.reporter).await? else { continue };
            let text = format!("service {} must not be stopped now: {}", veto.service, veto.reason);
            if !force {
                return Err(AgentError::vetoed(text));
            }
            self.reporter.warn(text);
        }
        Ok(())
    }

    fn tell_begin(&self, message: &str) -> Result<()> {
        history::record(&self.engine.roots, &self.entry)?;
        self.reporter.tell(EventKind::Begin { message: message.into() });
        Ok(())
    }

    fn tell_end(&self, outcome: &Result<Outcome>) {
        let (exit_code, message) = match outcome {
            Ok(o) if o.kind == OutcomeKind::RolledBack => (Kind::RolledBack.exit_code() as u8, o.message.clone()),
            Ok(o) => (0, o.message.clone()),
            Err(e) => (e.exit_code() as u8, e.chain()),
        };
        self.reporter.enter(crate::api::Phase::Idle);
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
            message: format!("{} {} is staged as deployment {to}; nothing was touched", release.name, release.version),
            release: Some(release.clone()),
            services: Vec::new(),
            failure: None,
            duration_ms: self.elapsed_ms(),
        });
        self.tell_end(&ended);
        ended
    }
}

fn advance(state: State, event: Event) -> Result<(State, Vec<crate::machine::Effect>)> {
    next(state, event).map_err(|e| AgentError::other("the transaction lost its way").because(e))
}

/// The release of a deployment; it was checked when the deployment was made.
fn trusted_before(deployment: &Deployment) -> Result<TrustedRelease> {
    let path = deployment.path.join("release.json");
    let bytes = std::fs::read(&path).map_err(|e| AgentError::io("read", &path, e))?;
    Ok(TrustedRelease { info: deployment.document.release.clone(), document: deployment.release.clone(), bytes })
}

fn read_optional(path: &std::path::Path) -> Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(AgentError::io("read", path, e)),
    }
}

fn restore_optional(path: &std::path::Path, saved: Option<Vec<u8>>) -> Result<()> {
    let restored = match saved {
        Some(bytes) => node_images::durable::write_file(path, &bytes, 0o644),
        None if path.exists() => node_images::durable::remove_file(path),
        None => Ok(()),
    };
    restored.map_err(|e| AgentError::from_leaf(Kind::Other, "can't put the parameters back", e))
}

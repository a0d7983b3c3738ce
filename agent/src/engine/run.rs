//! Runs a transaction: does what the machine says, and tells the machine what came of it.

use std::time::Duration;

use node_images::durable;
use node_images::store::Locked;

use super::Engine;
use super::activate::{Switch, Switched, Way};
use super::journal::Transaction;
use super::probation::Times;
use super::report::Reporter;
use super::snapshot::Snapshots;
use crate::api::{OperationKind, Phase, PlannedService, ServiceFailure};
use crate::config;
use crate::deployment::{Deployment, Seq, current};
use crate::error::{AgentError, Kind, Result};
use crate::machine::{Effect, Event, State, next};
use crate::newest;
use crate::rejected::{self, Rejected};
use crate::reserve;

/// One transaction, from the moment it is armed or found open.
#[derive(Debug)]
pub(super) struct Run<'a> {
    pub engine: &'a Engine,
    pub lock: &'a Locked,
    pub reporter: &'a Reporter,
    pub journal: Transaction,
    /// Why it went back, when a service was the reason.
    pub failure: Option<ServiceFailure>,
    /// The first thing that went wrong.
    pub error: Option<AgentError>,
    /// What then went wrong on the way back.
    pub hindrance: Option<AgentError>,
    /// Whether the new deployment was current at any time.
    pub committed: bool,
    /// What was done to the services on the way forward.
    pub services: Vec<PlannedService>,
}

impl<'a> Run<'a> {
    pub fn new(engine: &'a Engine, lock: &'a Locked, reporter: &'a Reporter, journal: Transaction) -> Self {
        Run {
            engine,
            lock,
            reporter,
            journal,
            failure: None,
            error: None,
            hindrance: None,
            committed: false,
            services: Vec::new(),
        }
    }

    /// Goes on from a state until nothing is left to do: `Idle`, or a state that has to wait for
    /// another process.
    pub async fn drive(&mut self, mut state: State, mut effects: Vec<Effect>) -> Result<State> {
        loop {
            self.reporter.enter(state.phase());
            self.journal.follow(&state);
            let Some(event) = self.perform_all(&state, effects).await else {
                return Ok(state);
            };
            (state, effects) = next(state, &event)
                .map_err(|e| AgentError::other("the transaction lost its way").because(e))?;
        }
    }

    /// Does the effects in order; the event that came of them, if any.
    async fn perform_all(&mut self, state: &State, effects: Vec<Effect>) -> Option<Event> {
        let mut event = None;
        for effect in effects {
            let arms = matches!((state, &effect), (State::Armed(_), Effect::Journal));
            match self.perform(state, effect).await {
                Ok(come) => event = come.or(event),
                Err(e) => {
                    let failed = Event::Failed {
                        reason: e.chain(),
                        // A disk that refuses a write says nothing about the release.
                        blame: e.kind() != Kind::CannotWrite,
                    };
                    self.remember(state, e);
                    return Some(if arms && self.disarm() {
                        Event::Unarmed
                    } else {
                        failed
                    });
                }
            }
        }
        event
    }

    /// Takes away what a failed attempt to begin the journal may have left. Where that is not possible either, a
    /// transaction is open.
    fn disarm(&self) -> bool {
        Transaction::remove(&self.engine.roots, self.lock).is_ok()
    }

    fn remember(&mut self, state: &State, e: AgentError) {
        let back = matches!(state, State::Reverting(..));
        if back && self.error.is_some() {
            self.hindrance.get_or_insert(e);
        } else {
            self.error.get_or_insert(e);
        }
    }

    async fn perform(&mut self, state: &State, effect: Effect) -> Result<Option<Event>> {
        let back = matches!(state, State::Reverting(..));
        match effect {
            // Fetching and staging come before a transaction is armed.
            Effect::Fetch | Effect::Stage => Ok(None),
            Effect::Journal if back => {
                // A full disk must not stop the way back. The older journal leads back as well.
                if let Err(e) = self.save() {
                    self.reporter.warn(e.chain());
                }
                Ok(None)
            }
            Effect::Journal => self.save().map(|()| None),
            Effect::Flip(to) => {
                self.committed |= back && current(&self.engine.roots)? == Some(self.journal.movement.to);
                self.with_reserve(&|| self.engine.flip(to))?;
                self.committed |= !back;
                Ok((!back).then_some(Event::Committed))
            }
            Effect::Activate(to) => {
                self.committed = true;
                self.activate(to).await
            }
            Effect::Watch => self.watch().await,
            Effect::WalkBack(to) => self.walk_back(to).await.map(|()| None),
            Effect::Reject => self.with_reserve(&|| self.reject(state)).map(|()| None),
            Effect::Close => {
                if !back {
                    config::write_parameters(&self.engine.roots, &self.journal.parameters)?;
                    self.record_newest();
                }
                Transaction::remove(&self.engine.roots, self.lock)?;
                if let Err(e) = self.snapshots().discard() {
                    self.reporter.warn(e.chain());
                }
                // Without one the next move does not begin, and that is early enough to say so.
                if let Err(e) = reserve::keep(&self.engine.roots, self.lock) {
                    self.reporter.warn(e.chain());
                }
                Ok(Some(if back { Event::Reverted } else { Event::Closed }))
            }
        }
    }

    fn save(&self) -> Result<()> {
        self.with_reserve(&|| self.journal.save(&self.engine.roots, self.lock))
    }

    /// On a way back, in a rollback, and once a move holds, a full disk costs the reserve and nothing else.
    fn with_reserve(&self, write: &dyn Fn() -> Result<()>) -> Result<()> {
        let back = self.journal.setback.is_some() || self.journal.movement.kind == OperationKind::Rollback;
        if back || self.journal.phase == Phase::Blessed {
            reserve::or_spend(&self.engine.roots, self.lock, write)
        } else {
            write()
        }
    }

    /// Rollbacks and settings are of releases that were weighed when they came.
    fn record_newest(&self) {
        if self.journal.movement.kind != OperationKind::Upgrade {
            return;
        }
        // The release holds; until the record does, what runs counts as the newest.
        if let Err(e) = newest::record(&self.engine.roots, &self.journal.release) {
            self.reporter.warn(e.chain());
        }
    }

    async fn activate(&mut self, to: Seq) -> Result<Option<Event>> {
        let target = Deployment::load(&self.engine.roots, to)?;
        let leaving = self.other(self.journal.movement.from);
        match self.switch(Some(&target), leaving.as_ref(), Way::Forward).await? {
            Ok(planned) => {
                self.services = planned;
                Ok(Some(Event::Activated))
            }
            Err(broken) => Err(self.broke(broken.0)),
        }
    }

    async fn watch(&mut self) -> Result<Option<Event>> {
        let target = Deployment::load(&self.engine.roots, self.journal.movement.to)?;
        let times = Times {
            window: Duration::from_secs(self.journal.window_sec.into()),
            hold: Duration::from_secs(self.journal.hold_sec.into()),
        };
        match self.engine.watch(&target, times, self.reporter).await? {
            None => Ok(Some(Event::Held)),
            Some(failure) => Err(self.broke(failure)),
        }
    }

    async fn walk_back(&mut self, to: Option<Seq>) -> Result<()> {
        let target = match to {
            Some(seq) => Some(Deployment::load(&self.engine.roots, seq)?),
            None => None,
        };
        let leaving = self.other(Some(self.journal.movement.to));
        match self.switch(target.as_ref(), leaving.as_ref(), Way::Back).await? {
            Ok(_) => Ok(()),
            Err(broken) => {
                let ServiceFailure {
                    service,
                    reason,
                    journal,
                } = broken.0;
                Err(
                    AgentError::other(format!("going back failed: service {service}: {reason}"))
                        .details(journal),
                )
            }
        }
    }

    async fn switch(&self, target: Option<&Deployment>, leaving: Option<&Deployment>, way: Way) -> Switched {
        let snapshots = self.snapshots();
        let (engine, reporter) = (self.engine, self.reporter);
        Switch {
            engine,
            reporter,
            target,
            leaving,
            snapshots: &snapshots,
            way,
            force: self.journal.force,
        }
        .run()
        .await
    }

    /// The deployment that is left; one that can't be read has no services to stop.
    fn other(&self, seq: Option<Seq>) -> Option<Deployment> {
        match seq.map(|seq| Deployment::load(&self.engine.roots, seq)) {
            None => None,
            Some(Ok(deployment)) => Some(deployment),
            Some(Err(e)) => {
                self.reporter.warn(e.chain());
                None
            }
        }
    }

    fn snapshots(&self) -> Snapshots {
        Snapshots::of(&self.engine.roots, &self.journal.id)
    }

    fn broke(&mut self, failure: ServiceFailure) -> AgentError {
        let error = AgentError::new(
            Kind::RolledBack,
            format!("service {}: {}", failure.service, failure.reason),
        );
        self.failure = Some(failure);
        error
    }

    fn reject(&self, state: &State) -> Result<()> {
        let State::Reverting(_, setback) = state else {
            return Ok(());
        };
        rejected::add(
            &self.engine.roots,
            &Rejected {
                release: self.journal.release.clone(),
                reason: setback.reason.clone(),
                time: self.engine.ports.clock.now(),
            },
        )
    }
}

impl Engine {
    /// Makes `current` name this deployment, or nothing, durably. May be repeated.
    pub(super) fn flip(&self, to: Option<Seq>) -> Result<()> {
        let link = self.roots.current();
        let failed = |e| AgentError::from_leaf(Kind::Other, "can't switch the current deployment", e);
        match to {
            Some(seq) => durable::flip_symlink(&link, &self.roots.current_target(seq)).map_err(failed),
            None if current(&self.roots)?.is_some() => durable::remove_file(&link).map_err(failed),
            None => durable::sync_dir(&self.roots.state).map_err(failed),
        }
    }
}

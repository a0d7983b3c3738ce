//! Making the running services those of a deployment, forwards and backwards.

use std::collections::BTreeMap;
use std::time::Duration;

use node_images::durable;

use super::observe::names;
use super::report::Reporter;
use super::snapshot::Snapshots;
use super::{Engine, unit_of};
use crate::api::{Action, Disruption, PlannedService, ServiceFailure};
use crate::definition::{Definition, When};
use crate::deployment::Deployment;
use crate::error::{AgentError, Kind, Result};
use crate::plan::{self, Wanted, start_order};

/// Lines of a failed unit's journal that go into reports.
const JOURNAL_LINES: u32 = 15;

/// Time that systemd gets beyond a unit's own timeouts before the job counts as lost.
pub(super) const GRACE: Duration = Duration::from_secs(60);

/// Which way the node goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// To a new deployment: the first failure ends it.
    Forward,
    /// Back: every service is tried, and its gates do not count.
    Back,
}

/// How a service comes up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    /// It is down.
    Plain,
    /// It runs, and its process hands over to the next one: one job, which systemd finishes without us.
    HandedOver,
}

/// A service that did not come up or go down.
#[derive(Debug)]
pub(super) struct Broken(pub ServiceFailure);

/// One move of the services.
#[derive(Debug)]
pub(super) struct Switch<'a> {
    pub engine: &'a Engine,
    pub reporter: &'a Reporter,
    pub target: Option<&'a Deployment>,
    pub leaving: Option<&'a Deployment>,
    pub snapshots: &'a Snapshots,
    pub way: Way,
    /// Whether what guests need may change all the same.
    pub force: bool,
}

/// How a switch ended.
pub(super) type Switched = Result<std::result::Result<Vec<PlannedService>, Broken>>;

impl Switch<'_> {
    /// Makes the running services those of the target. May be repeated: what is right is left alone.
    pub async fn run(&self) -> Switched {
        let planned = self.engine.actions(self.target, self.leaving, self.force).await?;
        for service in with(&planned, &[Action::Pending]) {
            self.reporter.service(&service.name, "pending");
        }
        self.retire(&planned)?;
        self.engine.ports.units.daemon_reload().await?;
        let mut broken = self.stop_all(&planned).await?;
        self.keep_state(&planned)?;
        if broken.is_none() || self.way == Way::Back {
            broken = broken.or(self.start_all(&planned).await?);
        }
        if broken.is_none() {
            self.forget_retired(&planned).await?;
        }
        Ok(match broken {
            None => Ok(planned),
            Some(failure) => Err(Broken(failure)),
        })
    }

    /// Keeps the units of services that leave until they are stopped: a running service whose unit
    /// vanishes loses its KillMode=, and a later stop would kill what it was meant to spare.
    fn retire(&self, planned: &[PlannedService]) -> Result<()> {
        let Some(leaving) = self.leaving else {
            return Ok(());
        };
        let directory = self.engine.roots.retired();
        for service in with(planned, &[Action::Retire]) {
            if let Some(text) = leaving.units.get(&service.name) {
                durable::create_directories(&directory)
                    .map_err(|e| AgentError::io("create", &directory, e))?;
                durable::write_file(&directory.join(unit_of(&service.name)), text.as_bytes(), 0o644)
                    .map_err(|e| {
                        AgentError::from_leaf(Kind::Other, "can't keep a unit until it is stopped", e)
                    })?;
            }
        }
        Ok(())
    }

    async fn forget_retired(&self, planned: &[PlannedService]) -> Result<()> {
        let mut removed = false;
        for service in with(planned, &[Action::Retire]) {
            let unit = unit_of(&service.name);
            // systemd keeps a unit that failed while it was stopped, even one that is nowhere any more.
            self.engine.ports.units.reset_failed(&unit).await?;
            let path = self.engine.roots.retired().join(&unit);
            match std::fs::remove_file(&path) {
                Ok(()) => removed = true,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(AgentError::io("remove", &path, e)),
            }
        }
        if removed {
            self.engine.ports.units.daemon_reload().await
        } else {
            Ok(())
        }
    }

    async fn stop_all(&self, planned: &[PlannedService]) -> Result<Option<ServiceFailure>> {
        let mut first = None;
        let leaving = self.leaving.map(shown_order).unwrap_or_default();
        for name in plan::to_stop(planned, &leaving) {
            if self.hands_over(planned, &name) {
                continue;
            }
            self.reporter.service(&name, "stopping");
            let timeout = self
                .definition(&name)
                .map_or(Duration::ZERO, |d| d.unit.timeout_stop_sec.duration());
            let stopped = self
                .engine
                .ports
                .units
                .stop(&unit_of(&name), timeout + GRACE)
                .await?;
            if let Err(result) = stopped {
                let reason = format!("stopping it ended with {result}");
                first.get_or_insert(self.engine.failure(&name, reason).await);
                if self.way == Way::Forward {
                    break;
                }
                continue;
            }
            self.reporter.service(&name, "stopped");
        }
        Ok(first)
    }

    /// Between stop and start nobody writes the state: forwards it is saved, backwards restored.
    fn keep_state(&self, planned: &[PlannedService]) -> Result<()> {
        for service in with(planned, &[Action::Restart, Action::Start, Action::Retire]) {
            match self.way {
                Way::Forward => {
                    if let Some(definition) = self.definition(&service.name) {
                        self.snapshots.save(&service.name, &definition.state)?;
                    }
                }
                Way::Back => {
                    if self.snapshots.restore(&service.name)? {
                        self.reporter.service(&service.name, "restored");
                    }
                }
            }
        }
        Ok(())
    }

    async fn start_all(&self, planned: &[PlannedService]) -> Result<Option<ServiceFailure>> {
        let mut first = None;
        for service in with(planned, &[Action::Start, Action::Restart]) {
            let Some(definition) = self.target.and_then(|t| t.release.services.get(&service.name)) else {
                continue;
            };
            let how = if self.hands_over(planned, &service.name) {
                Start::HandedOver
            } else {
                Start::Plain
            };
            if let Some(failure) = self.start(definition, how).await? {
                self.reporter.service(&service.name, "failed");
                first.get_or_insert(failure);
                if self.way == Way::Forward {
                    break;
                }
            }
        }
        Ok(first)
    }

    async fn start(&self, definition: &Definition, how: Start) -> Result<Option<ServiceFailure>> {
        let name = &definition.name;
        let unit = unit_of(name);
        let forward = self.way == Way::Forward;
        if forward
            && let Some(failure) = self
                .engine
                .hold(definition, When::PreStart, self.reporter)
                .await?
        {
            return Ok(Some(failure));
        }
        let units = &self.engine.ports.units;
        units.reset_failed(&unit).await?;
        let timeout = definition.unit.timeout_start_sec.duration() + GRACE;
        let started = match how {
            Start::Plain => {
                self.reporter.service(name, "starting");
                units.start(&unit, timeout).await?
            }
            Start::HandedOver => {
                self.reporter.service(name, "handing over");
                let stop = definition.unit.timeout_stop_sec.duration();
                units.restart(&unit, stop + timeout).await?
            }
        };
        if let Err(result) = started {
            let reason = format!("starting it ended with {result}");
            return Ok(Some(self.engine.failure(name, reason).await));
        }
        self.reporter.service(name, "started");
        if forward {
            self.engine.hold(definition, When::PostStart, self.reporter).await
        } else {
            Ok(None)
        }
    }

    /// Whether a service is restarted in one step at its place among those that start.
    fn hands_over(&self, planned: &[PlannedService], name: &str) -> bool {
        let target = self.target.and_then(|t| t.release.services.get(name));
        target.is_some_and(|d| d.handover.is_some())
            && with(planned, &[Action::Restart]).any(|service| service.name == name)
    }

    fn definition(&self, name: &str) -> Option<&Definition> {
        let of = |d: Option<&'_ Deployment>| d.is_some_and(|d| d.release.services.contains_key(name));
        let deployment = if of(self.target) {
            self.target
        } else {
            self.leaving
        };
        deployment.and_then(|d| d.release.services.get(name))
    }
}

fn with<'a>(
    planned: &'a [PlannedService],
    actions: &'a [Action],
) -> impl Iterator<Item = &'a PlannedService> {
    planned.iter().filter(move |p| actions.contains(&p.action))
}

impl Engine {
    /// What has to be done to get from what runs to the target.
    pub(super) async fn actions(
        &self,
        target: Option<&Deployment>,
        leaving: Option<&Deployment>,
        force: bool,
    ) -> Result<Vec<PlannedService>> {
        let seen = self.look(&names(target.into_iter().chain(leaving))).await?;
        let observed = seen
            .iter()
            .map(|(name, s)| (name.clone(), s.observed()))
            .collect();
        let (mut order, mut wanted) = (Vec::new(), BTreeMap::new());
        if let Some(target) = target {
            order = deployed_order(target)?;
            for (name, service) in &target.document.services {
                let disruption = target
                    .release
                    .services
                    .get(name)
                    .map(|d| d.disruption)
                    .unwrap_or_default();
                let reason = difference(name, target, leaving);
                wanted.insert(
                    name.clone(),
                    Wanted {
                        digest: service.digest.clone(),
                        reason,
                        disruption,
                    },
                );
            }
        }
        let leaving = leaving.map(disruptions).unwrap_or_default();
        let guests = self.guests(force)?;
        Ok(plan::actions(&order, &wanted, &leaving, &observed, &guests))
    }

    /// Guests that an operation has to spare.
    pub(super) fn guests(&self, force: bool) -> Result<Vec<String>> {
        if force {
            Ok(Vec::new())
        } else {
            self.ports.host.guests()
        }
    }

    /// A failure with the last lines of the unit's journal.
    pub(super) async fn failure(&self, service: &str, reason: String) -> ServiceFailure {
        let journal = self.ports.units.journal(&unit_of(service), JOURNAL_LINES).await;
        ServiceFailure {
            service: service.into(),
            reason,
            journal,
        }
    }
}

/// Names of a deployment's services in start order.
pub(super) fn deployed_order(deployment: &Deployment) -> Result<Vec<String>> {
    let chosen = deployment
        .release
        .services
        .iter()
        .filter(|(name, _)| deployment.document.services.contains_key(*name))
        .map(|(name, d)| (name.clone(), d.clone()))
        .collect();
    start_order(&chosen).map_err(|e| AgentError::config("the services can't be put in order").because(e))
}

/// Services of a deployment in start order; by name where the order can't be found.
pub(super) fn shown_order(deployment: &Deployment) -> Vec<String> {
    deployed_order(deployment).unwrap_or_else(|_| deployment.document.services.keys().cloned().collect())
}

/// How far stopping each service of a deployment reaches, in start order.
pub(super) fn disruptions(deployment: &Deployment) -> Vec<(String, Disruption)> {
    let of = |name: &String| deployment.release.services.get(name).map(|d| d.disruption);
    shown_order(deployment)
        .into_iter()
        .map(|name| {
            let disruption = of(&name).unwrap_or_default();
            (name, disruption)
        })
        .collect()
}

fn difference(name: &str, target: &Deployment, leaving: Option<&Deployment>) -> String {
    let side = |d: &'_ Deployment| {
        let definition = d.release.services.get(name)?.clone();
        Some((definition, d.document.services.get(name)?.manifest.to_string()))
    };
    let Some((new, new_image)) = side(target) else {
        return "changed".into();
    };
    let old = leaving.and_then(side);
    let files = if leaving.is_some_and(|l| l.document.parameters != target.document.parameters) {
        vec!["files/".to_owned()]
    } else {
        Vec::new()
    };
    plan::reason(
        old.as_ref().map(|(d, i)| (d, i.as_str())),
        (&new, &new_image),
        &files,
    )
}

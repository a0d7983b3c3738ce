//! The operations that end in another deployment: upgrade, rollback, set, unset; and plan.

use std::collections::BTreeMap;

use super::Engine;
use super::consider::Considered;
use super::report::{EventSink, Reporter};
use crate::api::{OperationKind, OperationResult, Outcome, OutcomeKind, Plan, PlannedService};
use crate::config::{self, Changes, Settings};
use crate::deployment::{Deployment, Seq, current, list};
use crate::error::{AgentError, Kind, Result};
use crate::history;
use crate::ports::TrustedRelease;

/// How far an upgrade goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UpgradeOptions {
    /// Stop once everything is staged.
    pub download_only: bool,
    /// Also take a release that failed here or that leaves no way back, and restart what guests need.
    pub force: bool,
    /// Also take a release that is older than one this node has run.
    pub allow_downgrade: bool,
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
    pub async fn upgrade(
        &self,
        reference: Option<&str>,
        options: UpgradeOptions,
        sink: EventSink,
    ) -> Result<Outcome> {
        let lock = self.lock()?;
        self.require_closed()?;
        let reporter = Reporter::new(sink, self.ports.clock.clone());
        let settings = config::load(&self.roots)?;
        let release = self.fetch_release(&settings, reference).await?;
        if !options.force {
            self.check_rejected(&release)?;
        }
        let considered = self.consider(release, settings)?;
        let planned = self.planned(&considered, options.force).await?;
        if self.same_as_present(&considered, &planned) {
            return Ok(self.nothing_to_do(&considered, planned));
        }
        if let Err(e) = self.check_age(&considered) {
            if !options.allow_downgrade {
                return Err(e);
            }
            reporter.warn(e.chain());
        }
        let operation = self.begin(
            &lock,
            &reporter,
            OperationKind::Upgrade,
            considered.present.as_ref().map(|p| p.seq),
        );
        operation.forward(considered, options).await
    }

    /// Sets (`Some`) and unsets (`None`) parameters, as a new deployment of the same release. The operator's file
    /// takes them when the deployment is blessed, not before.
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
        let changes = changes_of(&present, values)?;
        let settings = config::load_with(&self.roots, &changes)?;
        let considered = self.consider(trusted_before(&present)?, settings)?;
        let planned = self.planned(&considered, false).await?;
        if self.same_as_present(&considered, &planned) {
            config::write_parameters(&self.roots, &changes)?;
            return Ok(self.nothing_to_do(&considered, planned));
        }
        let mut operation = self.begin(&lock, &reporter, OperationKind::Set, Some(present.seq));
        operation.parameters = changes;
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
                let considered = self.consider(
                    trusted_before(&Deployment::load(&self.roots, to)?)?,
                    config::load(&self.roots)?,
                )?;
                return Ok(self.nothing_to_do(&considered, Vec::new()));
            }
            Some(to) if list(&self.roots)?.contains(&to) => to,
            Some(to) => {
                return Err(AgentError::new(
                    Kind::Usage,
                    format!("there is no deployment {to} on this node"),
                ));
            }
            None => {
                return Err(AgentError::new(
                    Kind::Usage,
                    "there is no earlier deployment on this node",
                ));
            }
        };
        let target = Deployment::load(&self.roots, to)?;
        let notes = self.way_back(Some(&target))?;
        if !notes.is_empty() {
            return Err(AgentError::vetoed(format!(
                "deployment {to} can't run any more: {}",
                notes.join("; ")
            )));
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
        let done = history::read(&self.roots)?
            .into_iter()
            .rev()
            .filter(|e| e.result == OperationResult::Done);
        Ok(done
            .filter_map(|e| e.to)
            .find(|seq| Some(*seq) != present && there.contains(seq)))
    }

    async fn fetch_release(&self, settings: &Settings, reference: Option<&str>) -> Result<TrustedRelease> {
        let Some(reference) = reference.or(settings.release.as_deref()) else {
            return Err(AgentError::new(Kind::Usage, "no release is named").hint(format!(
                "name one, or set release.reference in {}",
                self.roots.node_toml().display()
            )));
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
}

/// The release of a deployment; it was checked when the deployment was made.
fn trusted_before(deployment: &Deployment) -> Result<TrustedRelease> {
    let path = deployment.path.join("release.json");
    let bytes = std::fs::read(&path).map_err(|e| AgentError::io("read", &path, e))?;
    Ok(TrustedRelease {
        info: deployment.document.release.clone(),
        document: deployment.release.clone(),
        bytes,
    })
}

/// The values as the release understands them.
fn changes_of(present: &Deployment, values: &BTreeMap<String, Option<String>>) -> Result<Changes> {
    let mut changes = Changes::new();
    for (name, text) in values {
        let value = match (text, present.release.parameters.get(name)) {
            (None, _) => None,
            (Some(text), Some(spec)) => Some(
                spec.kind
                    .parse(name, text)
                    .map_err(|e| AgentError::config("the value does not fit").because(e))?,
            ),
            (Some(_), None) => {
                return Err(AgentError::config(format!(
                    "parameter {name} is not known to the release"
                )));
            }
        };
        changes.insert(name.clone(), value);
    }
    Ok(changes)
}

//! What the node runs, without the lock.

use std::collections::BTreeSet;

use node_images::digest::Digest;

use super::Engine;
use super::activate::shown_order;
use super::consider::images_of;
use super::journal::Transaction;
use super::observe::{Seen, names};
use crate::api::{
    CheckStatus, DeploymentEntry, Disruption, HistoryEntry, ImageInUse, Sealing, ServiceState, ServiceStatus,
    Status, TransactionStatus,
};
use crate::checked;
use crate::config;
use crate::deployment::{Deployment, current, list};
use crate::error::{AgentError, Result};
use crate::ports::{Changing, UnitState};
use crate::{history, pins, rejected};

impl Engine {
    /// What the node runs. May be asked at any time, also while an operation runs.
    ///
    /// # Errors
    /// The node's state can't be read.
    pub async fn status(&self) -> Result<Status> {
        let present = match current(&self.roots)? {
            Some(seq) => Some(Deployment::load(&self.roots, seq)?),
            None => None,
        };
        let services = match &present {
            Some(deployment) => self.services_of(deployment).await?,
            None => Vec::new(),
        };
        let transaction = Transaction::load(&self.roots)?.map(|t| TransactionStatus {
            id: t.id,
            kind: t.movement.kind,
            phase: t.phase,
            from: t.movement.from,
            to: t.movement.to,
            tries_left: t.movement.tries_left,
            started: t.started,
        });
        let adrift = if present.is_none() { self.adrift()? } else { None };
        let check = checked::load(&self.roots);
        let whole = check
            .as_ref()
            .is_none_or(|checked| checked.result.findings.is_empty());
        let healthy = transaction.is_none()
            && services
                .iter()
                .all(|s| (s.up_to_date || s.pending) && s.state == ServiceState::Running);
        Ok(Status {
            deployment: present.as_ref().map(|d| d.seq),
            release: present.as_ref().map(|d| d.document.release.clone()),
            services,
            transaction,
            previous: self.previous()?,
            deployments: self.deployments()?,
            pinned: pins::all(&self.roots)?,
            rejected: rejected::all(&self.roots)?,
            in_use_trees: self.in_use(&images_of(present.as_slice()))?,
            trust: self.ports.images.trust(),
            sealing: sealing(self.ports.images.seals()?, check.as_ref().map(|checked| &checked.result)),
            check: check.map(|checked| checked.result),
            healthy: healthy && adrift.is_none() && whole,
            warnings: self
                .configuration_trouble()
                .into_iter()
                .chain(adrift.map(|seq| {
                    format!("nothing is current, though deployment {seq} ran last: `nodectl recover` goes back to it")
                }))
                .collect(),
        })
    }

    /// Images that living processes have mounted; `needed` are those that there is another reason to keep.
    pub(super) fn in_use(&self, needed: &BTreeSet<Digest>) -> Result<Vec<ImageInUse>> {
        let in_use = self.ports.images.in_use()?;
        let one = |(image, processes): (&Digest, &BTreeSet<u32>)| ImageInUse {
            image: image.to_string(),
            current: needed.contains(image),
            by: self.ports.host.processes(processes),
        };
        Ok(in_use.iter().map(one).collect())
    }

    /// A configuration that can't be read keeps nobody from seeing what runs.
    fn configuration_trouble(&self) -> Vec<String> {
        config::load(&self.roots)
            .err()
            .iter()
            .map(AgentError::chain)
            .collect()
    }

    async fn services_of(&self, deployment: &Deployment) -> Result<Vec<ServiceStatus>> {
        let seen = self.look(&names([deployment])).await?;
        let guests = self.guests(false)?;
        let status = |name: String| {
            let wanted = deployment.document.services.get(&name)?;
            let seen = seen.get(&name).cloned().unwrap_or_default();
            let definition = deployment.release.services.get(&name);
            let waits = definition.is_some_and(|d| d.disruption == Disruption::WhenDrained);
            let mut status = service_status(name, wanted.digest.clone(), wanted.manifest.to_string(), seen);
            status.pending = waits && !status.up_to_date && status.state == ServiceState::Running;
            if status.pending {
                status.waits_for.clone_from(&guests);
            }
            Some(status)
        };
        Ok(shown_order(deployment).into_iter().filter_map(status).collect())
    }

    /// All deployments on this node, oldest first. A damaged one is left out; `fsck` names it.
    fn deployments(&self) -> Result<Vec<DeploymentEntry>> {
        let present = current(&self.roots)?;
        let pinned = pins::all(&self.roots)?;
        let entries = list(&self.roots)?
            .into_iter()
            .filter_map(|seq| Deployment::load(&self.roots, seq).ok());
        Ok(entries
            .map(|d| DeploymentEntry {
                seq: d.seq,
                release: d.document.release,
                created: d.document.created,
                current: Some(d.seq) == present,
                pinned: pinned.contains_key(&d.seq),
            })
            .collect())
    }

    /// All operations, oldest first; the last `limit` of them, all for 0.
    ///
    /// # Errors
    /// The history can't be read.
    pub fn history(&self, limit: usize) -> Result<Vec<HistoryEntry>> {
        let mut entries = history::read(&self.roots)?;
        if limit > 0 && entries.len() > limit {
            entries.drain(..entries.len() - limit);
        }
        Ok(entries)
    }
}

/// Pulls seal what they write; what was there before, only a check has counted.
fn sealing(seals: Option<bool>, check: Option<&CheckStatus>) -> Option<Sealing> {
    let rest = |check: &CheckStatus| check.sealed.is_none_or(|sealed| sealed < check.objects);
    Some(match seals? {
        false => Sealing::Unsealed,
        true if check.is_some_and(rest) => Sealing::Partly,
        true => Sealing::Sealed,
    })
}

fn service_status(name: String, digest_wanted: String, image: String, seen: Seen) -> ServiceStatus {
    let state = service_state(&seen.unit);
    let since = seen
        .unit
        .active_since_usec
        .and_then(|usec| jiff::Timestamp::from_microsecond(i64::try_from(usec).ok()?).ok())
        .map(|t| t.to_string());
    ServiceStatus {
        name,
        state,
        pid: seen.unit.main_pid,
        up_to_date: seen.digest.as_deref() == Some(digest_wanted.as_str()),
        pending: false,
        waits_for: Vec::new(),
        digest_running: seen.digest,
        digest_wanted,
        since,
        restarts: seen.unit.restarts,
        image,
    }
}

fn service_state(unit: &UnitState) -> ServiceState {
    match (unit.active, unit.changing, unit.failed, unit.loaded) {
        (true, ..) => ServiceState::Running,
        (false, Changing::Up, ..) => ServiceState::Starting,
        (false, Changing::Down, ..) => ServiceState::Stopping,
        (false, Changing::No, true, _) => ServiceState::Failed,
        (false, Changing::No, false, true) => ServiceState::Stopped,
        (false, Changing::No, false, false) => ServiceState::Missing,
    }
}

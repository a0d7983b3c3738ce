//! What the services of one or two deployments are doing.

use std::collections::{BTreeMap, BTreeSet};

use super::{Engine, unit_of};
use crate::deployment::Deployment;
use crate::error::Result;
use crate::plan::Observed;
use crate::ports::{Changing, UnitState};

/// A service as systemd and the launcher's records show it.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    pub unit: UnitState,
    pub digest: Option<String>,
}

impl Seen {
    pub fn observed(&self) -> Observed {
        Observed {
            up: self.unit.active || self.unit.changing != Changing::No,
            ready: self.unit.active,
            digest: self.digest.clone(),
        }
    }
}

impl Engine {
    /// Looks at all these services.
    pub(super) async fn look(&self, names: &BTreeSet<String>) -> Result<BTreeMap<String, Seen>> {
        let running = self.ports.host.running()?;
        let mut seen = BTreeMap::new();
        for name in names {
            let unit = self.ports.units.state(&unit_of(name)).await?;
            // A record counts only for the process it was written for.
            let digest = running
                .iter()
                .find(|r| &r.service == name && u32::try_from(r.pid).ok() == unit.main_pid)
                .map(|r| r.digest.clone());
            seen.insert(name.clone(), Seen { unit, digest });
        }
        Ok(seen)
    }
}

/// Names of the services of these deployments.
pub(super) fn names<'a>(deployments: impl IntoIterator<Item = &'a Deployment>) -> BTreeSet<String> {
    deployments
        .into_iter()
        .flat_map(|d| d.document.services.keys().cloned())
        .collect()
}

//! What a move would do, found out without changing anything.

use std::collections::BTreeMap;

use super::Engine;
use super::activate::disruptions;
use super::consider::Considered;
use super::judged::Prospect;
use super::observe::names;
use crate::api::{Action, Plan, PlannedGate, PlannedGuest, PlannedService, WayBack};
use crate::definition::When;
use crate::deployment::next_seq;
use crate::error::Result;
use crate::history;
use crate::plan::{self, Wanted};
use crate::wayback::Guest;

impl Engine {
    /// What the move would do. Exact for every service whose image is in the store; the others
    /// change at any rate, because their image does.
    pub(super) async fn planned(&self, considered: &Considered, force: bool) -> Result<Vec<PlannedService>> {
        let present = considered.present.as_ref();
        let mut wanted = BTreeMap::new();
        for name in &considered.services {
            if let Some(one) = self.wanted(considered, name)? {
                wanted.insert(name.clone(), one);
            }
        }
        let leaving = present.map(disruptions).unwrap_or_default();
        let all = names(present)
            .into_iter()
            .chain(considered.services.iter().cloned())
            .collect();
        let observed = self
            .look(&all)
            .await?
            .iter()
            .map(|(name, s)| (name.clone(), s.observed()))
            .collect();
        let guests = self.guests(force)?;
        Ok(plan::actions(
            &considered.services,
            &wanted,
            &leaving,
            &observed,
            &guests,
        ))
    }

    /// What a service would be, and how that differs from what it is.
    fn wanted(&self, considered: &Considered, name: &str) -> Result<Option<Wanted>> {
        let document = &considered.release.document;
        let present = considered.present.as_ref();
        let Some(definition) = document.services.get(name) else {
            return Ok(None);
        };
        let digest = match self.image_of(considered, name)? {
            Some(image) => self.render_one(considered, name, &image)?.deployed.digest,
            None => String::new(),
        };
        let binding = document.images.get(&definition.image);
        let manifest = binding.map(|b| b.digest.to_string()).unwrap_or_default();
        let old = present.and_then(|p| {
            let deployed = p.document.services.get(name)?;
            Some((p.release.services.get(name)?, deployed.manifest.to_string()))
        });
        let configured = present.is_some_and(|p| p.document.parameters != considered.parameters);
        let files = if configured {
            vec!["files/".to_owned()]
        } else {
            Vec::new()
        };
        let reason = plan::reason(
            old.as_ref().map(|(d, i)| (*d, i.as_str())),
            (definition, &manifest),
            &files,
        );
        Ok(Some(Wanted {
            digest,
            reason,
            disruption: definition.disruption,
        }))
    }

    /// Whether the node already is where the move leads.
    pub(super) fn same_as_present(&self, considered: &Considered, planned: &[PlannedService]) -> bool {
        let keeps = planned
            .iter()
            .all(|p| matches!(p.action, Action::Keep | Action::Pending));
        considered.present.as_ref().is_some_and(|present| {
            keeps
                && present.document.release.digest == considered.release.info.digest
                && present.document.parameters == considered.parameters
                && present.document.services.len() == considered.services.len()
        })
    }

    /// The plan as the operator sees it.
    pub(super) async fn plan_of(&self, considered: &Considered) -> Result<Plan> {
        let services = self.planned(considered, false).await?;
        let cost = self
            .ports
            .images
            .cost(&considered.settings, &considered.release, &considered.images())
            .await?;
        let mut warnings = Vec::new();
        match self.check_host(considered, cost.store).await {
            Ok(optional) => warnings.extend(optional),
            Err(e) => warnings.push(e.chain()),
        }
        if let Err(e) = self.check_rejected(&considered.release) {
            warnings.push(e.to_string());
        }
        if let Err(e) = self.check_age(considered) {
            warnings.push(e.chain());
        }
        let damage = self.way_back(considered.present.as_ref())?;
        let Prospect { there, back, guests } = self.prospect(considered).await?;
        warnings.extend(there.notes);
        let used = history::read(&self.roots)?.into_iter().filter_map(|e| e.to);
        Ok(Plan {
            release: considered.release.info.clone(),
            from: considered.present.as_ref().map(|p| p.seq),
            to: next_seq(&self.roots, used)?,
            nothing_to_do: self.same_as_present(considered, &services),
            bytes_to_fetch: cost.fetch,
            bytes_to_store: cost.store,
            gates: planned_gates(considered, &services),
            services,
            probation_sec: considered.probation().window_sec,
            guests: guests.into_iter().map(planned_guest).collect(),
            refused: there.closed,
            way_back: WayBack {
                open: damage.is_empty() && back.is_open() && considered.present.is_some(),
                notes: damage.into_iter().chain(back.closed).chain(back.notes).collect(),
            },
            warnings,
        })
    }
}

fn planned_guest(guest: Guest) -> PlannedGuest {
    PlannedGuest {
        name: guest.name,
        machine: guest.machine,
        qemu: guest.qemu,
    }
}

fn planned_gates(considered: &Considered, services: &[PlannedService]) -> Vec<PlannedGate> {
    let mut gates = Vec::new();
    for service in services {
        let Some(definition) = considered.release.document.services.get(&service.name) else {
            continue;
        };
        let changes = !matches!(service.action, Action::Keep | Action::Pending);
        for gate in &definition.gates {
            if changes || gate.when.contains(&When::Probation) {
                gates.push(PlannedGate {
                    service: service.name.clone(),
                    gate: gate.name.clone(),
                    when: gate.when.iter().map(ToString::to_string).collect(),
                });
            }
        }
    }
    gates
}

//! A plan: what will be fetched, what will be restarted and why, and whether the way back stays open.

use std::collections::BTreeMap;

use super::Human;
use super::figures::{bytes, release};
use crate::api::{Action, Disruption, Plan, PlannedGuest, PlannedService, WayBack};
use crate::output::{Page, Terminal};

impl Human for Plan {
    fn human(&self, page: &mut Page) {
        page.field("Release", release(&self.release));
        page.field("Deployment", step(self));
        if self.nothing_to_do {
            page.gap();
            page.line("Nothing to do: the node runs this release as configured.");
        } else {
            page.field(
                "To fetch",
                format!(
                    "{}, {} on disk at most",
                    bytes(self.bytes_to_fetch),
                    bytes(self.bytes_to_store)
                ),
            );
            page.field("Probation", format!("{} s", self.probation_sec));
            page.gap();
            services(page, &self.services);
            gates(page, self);
            guests(page, &self.guests);
            refused(page, &self.refused);
            way_back(page, &self.way_back);
        }
        for warning in &self.warnings {
            page.item(page.terminal().yellow(warning));
        }
    }
}

fn step(plan: &Plan) -> String {
    match plan.from {
        Some(from) => format!("{from} → {}", plan.to),
        None => format!("{} (the first on this node)", plan.to),
    }
}

/// The services and what happens to them; also part of an outcome.
pub(super) fn services(page: &mut Page, services: &[PlannedService]) {
    if services.is_empty() {
        return;
    }
    let terminal = page.terminal();
    let rows = services.iter().map(|service| {
        let reach = match service.action {
            Action::Keep => String::new(),
            Action::Start | Action::Restart | Action::Pending | Action::Retire => {
                reach(service.disruption, terminal)
            }
        };
        vec![
            service.name.clone(),
            action(service.action, terminal),
            reach,
            service.reason.clone(),
        ]
    });
    page.table(&["service", "action", "disruption", "why"], rows);
}

fn action(action: Action, terminal: Terminal) -> String {
    match action {
        Action::Keep => action.to_string(),
        Action::Start => terminal.green(action),
        Action::Restart | Action::Pending | Action::Retire => terminal.yellow(action),
    }
}

fn reach(disruption: Disruption, terminal: Terminal) -> String {
    match disruption {
        Disruption::None | Disruption::Restart | Disruption::WhenDrained => disruption.to_string(),
        Disruption::GuestAware | Disruption::DataplaneAware => terminal.yellow(disruption),
    }
}

fn gates(page: &mut Page, plan: &Plan) {
    if plan.gates.is_empty() {
        return;
    }
    page.gap();
    let rows = plan
        .gates
        .iter()
        .map(|gate| vec![gate.service.clone(), gate.gate.clone(), gate.when.join(", ")]);
    page.table(&["service", "gate", "when"], rows);
}

/// One line for all that are alike: a node may have hundreds.
fn guests(page: &mut Page, guests: &[PlannedGuest]) {
    if guests.is_empty() {
        return;
    }
    page.gap();
    let said = |fact: &Option<String>| fact.clone().unwrap_or_else(|| "not known".to_owned());
    let mut alike: BTreeMap<(String, String), Vec<&str>> = BTreeMap::new();
    for guest in guests {
        let facts = (said(&guest.qemu), said(&guest.machine));
        alike.entry(facts).or_default().push(&guest.name);
    }
    let rows = alike
        .into_iter()
        .map(|((qemu, machine), names)| vec![names.join(", "), machine, qemu]);
    page.table(&["guests", "machine type", "qemu"], rows);
}

fn refused(page: &mut Page, reasons: &[String]) {
    if reasons.is_empty() {
        return;
    }
    page.gap();
    page.field("Upgrade", page.terminal().red("would be refused without --force"));
    for reason in reasons {
        page.item(reason);
    }
}

fn way_back(page: &mut Page, way_back: &WayBack) {
    page.gap();
    let verdict = if way_back.open {
        page.terminal().green("stays open")
    } else {
        page.terminal().red("closes")
    };
    page.field("Way back", verdict);
    for note in &way_back.notes {
        page.item(note);
    }
}

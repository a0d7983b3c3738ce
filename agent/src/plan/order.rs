//! In which order services start: what their units say about each other.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::{Action, PlannedService};
use crate::definition::Definition;

/// Services that wait for each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("services wait for each other: {}", .0.join(", "))]
pub struct Cycle(pub Vec<String>);

/// Names in start order; services that do not depend on each other are in the order of their names.
///
/// # Errors
/// Some services wait for each other.
pub fn start_order(services: &BTreeMap<String, Definition>) -> Result<Vec<String>, Cycle> {
    let mut waits = before_each(services);
    let mut order = Vec::new();
    while !waits.is_empty() {
        let ready: Vec<String> = waits
            .iter()
            .filter(|(_, on)| on.is_empty())
            .map(|(name, _)| name.clone())
            .collect();
        let Some(next) = ready.into_iter().next() else {
            return Err(Cycle(waits.into_keys().collect()));
        };
        waits.remove(&next);
        for on in waits.values_mut() {
            on.remove(&next);
        }
        order.push(next);
    }
    Ok(order)
}

/// Names of the services that have to stop, in the order in which they do: those that are started last go first.
/// What runs now was started in the order of the deployment that is left, so `leaving` decides; services that it
/// does not know go before all others, in reverse order of the plan.
pub fn to_stop(planned: &[PlannedService], leaving: &[String]) -> Vec<String> {
    let rank = |name: &String| leaving.iter().position(|n| n == name).unwrap_or(leaving.len());
    let mut names: Vec<String> = planned
        .iter()
        .filter(|p| matches!(p.action, Action::Restart | Action::Retire))
        .map(|p| p.name.clone())
        .collect();
    names.sort_by_key(rank);
    names.reverse();
    names
}

/// Service → services of the set that have to be started before it.
fn before_each(services: &BTreeMap<String, Definition>) -> BTreeMap<String, BTreeSet<String>> {
    let unit_of: BTreeMap<String, &String> = services
        .keys()
        .map(|name| (format!("{name}.service"), name))
        .collect();
    let mut waits: BTreeMap<String, BTreeSet<String>> = services
        .keys()
        .map(|name| (name.clone(), BTreeSet::new()))
        .collect();
    for (name, definition) in services {
        let unit = &definition.unit;
        for other in unit.after.iter().filter_map(|u| unit_of.get(&u.to_string())) {
            if *other != name {
                waits.entry(name.clone()).or_default().insert((*other).clone());
            }
        }
        for other in unit.before.iter().filter_map(|u| unit_of.get(&u.to_string())) {
            if *other != name {
                waits.entry((*other).clone()).or_default().insert(name.clone());
            }
        }
    }
    waits
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn service(name: &str, unit: &str) -> (String, Definition) {
        let text = format!("format = 1\nname = {name:?}\ndescription = \"\"\nimage = \"i\"\n[unit]\n{unit}");
        (
            name.to_owned(),
            Definition::parse(&text, Path::new("s.toml")).unwrap(),
        )
    }

    #[test]
    fn after_and_before_among_the_set_decide() {
        let services = [
            service("a", "after = [\"c.service\", \"network.target\"]"),
            service("b", ""),
            service("c", "after = [\"d.service\"]"),
            service("d", "before = [\"b.service\"]"),
        ]
        .into();
        assert_eq!(start_order(&services).unwrap(), ["d", "b", "c", "a"]);
    }

    #[test]
    fn services_stop_in_reverse_order_of_the_deployment_that_is_left() {
        let planned = |name: &str, action| PlannedService {
            name: name.into(),
            action,
            reason: String::new(),
            disruption: crate::api::Disruption::None,
        };
        let leaving: Vec<String> = ["store", "log", "daemon", "user"].map(str::to_owned).into();
        let plan = [
            planned("stray", Action::Restart),
            planned("daemon", Action::Restart),
            planned("store", Action::Keep),
            planned("fresh", Action::Start),
            planned("log", Action::Retire),
            planned("user", Action::Retire),
        ];
        assert_eq!(to_stop(&plan, &leaving), ["stray", "user", "daemon", "log"]);
    }

    #[test]
    fn a_cycle_is_named() {
        let services = [
            service("a", "after = [\"b.service\"]"),
            service("b", "after = [\"a.service\"]"),
            service("c", ""),
        ]
        .into();
        assert_eq!(
            start_order(&services).unwrap_err().to_string(),
            "services wait for each other: a, b"
        );
    }
}

//! What has to be done to get from what runs to what should run. Pure.

mod order;

use std::collections::{BTreeMap, BTreeSet};

pub use order::{Cycle, start_order, to_stop};

use crate::api::{Action, Disruption, PlannedService};
use crate::definition::Definition;

/// What a service is doing now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// Whether its unit is up, or on its way.
    pub up: bool,
    /// Whether it is up and ready.
    pub ready: bool,
    /// Digest of the bundle that the running process was started from.
    pub digest: Option<String>,
}

/// What a service should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Digest of its bundle.
    pub digest: String,
    /// Why that differs from the present deployment, for people.
    pub reason: String,
    /// How far a restart reaches.
    pub disruption: Disruption,
}

/// What happens to each service: those of `wanted` in the order given, then those that are only in
/// `leaving`, which is in start order too, and still up. While there are `guests`, what may change only when no guest
/// needs it is left alone.
pub fn actions(
    order: &[String],
    wanted: &BTreeMap<String, Wanted>,
    leaving: &[(String, Disruption)],
    observed: &BTreeMap<String, Observed>,
    guests: &[String],
) -> Vec<PlannedService> {
    let idle = Observed::default();
    let state = |name: &str| observed.get(name).unwrap_or(&idle);
    let mut planned: Vec<PlannedService> = order
        .iter()
        .filter_map(|name| wanted.get(name).map(|w| (name, w)))
        .map(|(name, wanted)| {
            let (action, reason) = action(wanted, state(name), guests);
            PlannedService {
                name: name.clone(),
                action,
                reason,
                disruption: wanted.disruption,
            }
        })
        .collect();
    for (name, disruption) in leaving {
        if !wanted.contains_key(name) && state(name).up {
            planned.push(PlannedService {
                name: name.clone(),
                action: Action::Retire,
                reason: "not in the new set".into(),
                disruption: *disruption,
            });
        }
    }
    planned
}

fn action(wanted: &Wanted, observed: &Observed, guests: &[String]) -> (Action, String) {
    let same = observed.digest.as_deref() == Some(wanted.digest.as_str());
    match (observed.up, observed.ready, same) {
        (false, _, _) => (Action::Start, "not running".into()),
        (true, true, true) => (Action::Keep, "unchanged".into()),
        (true, false, true) => (Action::Restart, "not ready".into()),
        (true, true, false) if wanted.disruption == Disruption::WhenDrained && !guests.is_empty() => (
            Action::Pending,
            format!("{}; needed by {}", wanted.reason, some_of(guests)),
        ),
        (true, _, false) => (Action::Restart, wanted.reason.clone()),
    }
}

/// The first few, and how many more.
pub fn some_of(names: &[String]) -> String {
    const TOLD: usize = 3;
    let told = names[..names.len().min(TOLD)].join(", ");
    match names.len().saturating_sub(TOLD) {
        0 => told,
        more => format!("{told} and {more} more"),
    }
}

/// Why a service of the new set differs from that of the old one, for people.
pub fn reason(
    old: Option<(&Definition, &str)>,
    new: (&Definition, &str),
    changed_files: &[String],
) -> String {
    let Some((old_definition, old_manifest)) = old else {
        return "new service".into();
    };
    let (definition, manifest) = new;
    let mut reasons = BTreeSet::new();
    if old_manifest != manifest {
        reasons.insert("image");
    }
    if old_definition.container != definition.container {
        reasons.insert("container");
    }
    if old_definition.unit != definition.unit {
        reasons.insert("unit");
    }
    if changed_files.iter().any(|f| f.starts_with("files/")) {
        reasons.insert("configuration");
    }
    if old_definition.secret_files != definition.secret_files {
        reasons.insert("secrets");
    }
    if reasons.is_empty() {
        return "changed".into();
    }
    reasons.into_iter().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guests(count: u32) -> Vec<String> {
        (1..=count).map(|n| format!("guest {n}")).collect()
    }

    fn observed(up: bool, ready: bool, digest: Option<&str>) -> Observed {
        Observed {
            up,
            ready,
            digest: digest.map(str::to_owned),
        }
    }

    #[test]
    fn every_combination_of_running_and_wanted() {
        let wanted = Wanted {
            digest: "d".into(),
            reason: "image".into(),
            disruption: Disruption::Restart,
        };
        let table = [
            (observed(false, false, None), Action::Start),
            (observed(false, false, Some("d")), Action::Start),
            (observed(true, true, Some("d")), Action::Keep),
            (observed(true, false, Some("d")), Action::Restart),
            (observed(true, true, Some("e")), Action::Restart),
            (observed(true, false, Some("e")), Action::Restart),
            (observed(true, true, None), Action::Restart),
        ];
        for (state, expected) in table {
            assert_eq!(action(&wanted, &state, &guests(3)).0, expected, "{state:?}");
        }
    }

    #[test]
    fn what_guests_need_changes_only_without_guests_unless_it_is_down_anyway() {
        let wanted = Wanted {
            digest: "d".into(),
            reason: "image".into(),
            disruption: Disruption::WhenDrained,
        };
        let table = [
            (observed(true, true, Some("e")), 2, Action::Pending),
            (observed(true, true, None), 2, Action::Pending),
            (observed(true, true, Some("e")), 0, Action::Restart),
            (observed(true, true, Some("d")), 2, Action::Keep),
            (observed(true, false, Some("e")), 2, Action::Restart),
            (observed(false, false, None), 2, Action::Start),
        ];
        for (state, count, expected) in table {
            let (done, reason) = action(&wanted, &state, &guests(count));
            assert_eq!(done, expected, "{state:?}, {count} guests");
            let says = reason.contains("image; needed by guest 1, guest 2");
            assert_eq!(says, expected == Action::Pending, "{reason}");
        }
    }

    #[test]
    fn a_hundred_guests_do_not_fill_the_screen() {
        assert_eq!(some_of(&guests(3)), "guest 1, guest 2, guest 3");
        assert_eq!(some_of(&guests(100)), "guest 1, guest 2, guest 3 and 97 more");
    }

    #[test]
    fn what_leaves_is_retired_only_while_it_runs() {
        let leaving = [
            ("a".to_owned(), Disruption::None),
            ("b".to_owned(), Disruption::None),
        ];
        let states = [("a".to_owned(), observed(true, true, None))].into();
        let planned = actions(&[], &BTreeMap::new(), &leaving, &states, &[]);
        assert_eq!(planned.len(), 1);
        assert_eq!(
            (planned[0].name.as_str(), planned[0].action),
            ("a", Action::Retire)
        );
    }
}

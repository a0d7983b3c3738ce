//! The judgement: what stands against a move, and what is good to know about it.

use std::collections::BTreeMap;

use super::cell::CellView;
use super::guest::Guest;
use super::offer::Offer;

/// A move from one set of services to another.
#[derive(Debug, Clone, Copy)]
pub struct Move<'a> {
    /// What runs now offers this.
    pub from: &'a Offer,
    /// What would run offers this.
    pub to: &'a Offer,
}

/// What is to be said about a move, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Judgement {
    /// Why it must not be made; empty if it may.
    pub closed: Vec<String>,
    /// What to know about it.
    pub notes: Vec<String>,
}

impl Judgement {
    /// Whether nothing stands against it.
    pub fn is_open(&self) -> bool {
        self.closed.is_empty()
    }
}

/// What stands against making this move now.
pub fn judge(moving: Move<'_>, guests: &[Guest], cell: &CellView) -> Judgement {
    let mut judgement = Judgement::default();
    machines(moving, guests, &mut judgement);
    nova(moving, cell, &mut judgement);
    schema(moving, &mut judgement);
    judgement.notes.extend(
        moving
            .to
            .silent
            .iter()
            .map(|silence| format!("{silence}: it can't be judged")),
    );
    judgement
}

/// What stands against going back after this move: the same guests, and a cell in which this node's record has the
/// version of what it moved to.
pub fn afterwards(moving: Move<'_>, guests: &[Guest], cell: &CellView) -> Judgement {
    let back = Move {
        from: moving.to,
        to: moving.from,
    };
    let later = match (cell, moving.to.nova) {
        (CellView::Seen(cell), Some(version)) => CellView::Seen(cell.with_own(version)),
        (CellView::Seen(_) | CellView::NotAsked | CellView::Unknown(_), _) => cell.clone(),
    };
    let mut judgement = judge(back, guests, &later);
    if let (Some(old), Some(new)) = (&moving.from.machines, &moving.to.machines) {
        let only_new: Vec<&str> = new.difference(old).map(String::as_str).collect();
        if !only_new.is_empty() {
            judgement.notes.push(format!(
                "it closes with the first guest that is started with a machine type that only the new QEMU has: {}",
                only_new.join(", ")
            ));
        }
    }
    judgement
}

/// A guest keeps the QEMU that it runs in, whatever libvirt does; but it can be started anew only by a QEMU that
/// offers its machine type.
fn machines(moving: Move<'_>, guests: &[Guest], judgement: &mut Judgement) {
    let Some(offered) = &moving.to.machines else {
        return;
    };
    let mut lost: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for guest in guests {
        match &guest.machine {
            Some(machine) if offered.contains(machine) => {}
            Some(machine) => lost.entry(machine).or_default().push(&guest.name),
            None => judgement
                .notes
                .push(format!("the machine type of guest {} is not known", guest.name)),
        }
    }
    for (machine, names) in lost {
        let text = format!(
            "QEMU there does not offer machine type {machine}: these guests would run on, but could not be started \
             again once they are stopped or the host reboots: {}",
            names.join(", ")
        );
        let worse = moving.from.machines.as_ref().is_none_or(|m| m.contains(machine));
        if worse {
            judgement.closed.push(text);
        } else {
            judgement.notes.push(format!("as it is now, {text}"));
        }
    }
}

/// nova's two rules: a service does not write its record with a version below the cell's minimum (`ServiceTooOld`,
/// nova/objects/service.py), and none starts beside computes that are older than it supports
/// (`TooOldComputeService`, nova/utils.py). The node's own record counts in both.
fn nova(moving: Move<'_>, cell: &CellView, judgement: &mut Judgement) {
    let Some(version) = moving.to.nova else {
        return;
    };
    let cell = match cell {
        CellView::NotAsked => return,
        CellView::Unknown(why) => {
            judgement.notes.push(format!(
                "whether nova accepts service version {version} is not known: {why}"
            ));
            return;
        }
        CellView::Seen(cell) => cell,
    };
    let Some(minimum) = cell.minimum() else {
        return;
    };
    if version < minimum {
        judgement.closed.push(format!(
            "nova would refuse it (ServiceTooOld): nova-compute there has service version {version}, and no \
             nova-compute of the cell, this node's record included, is below {minimum} any more"
        ));
    }
    if let Some(oldest) = moving.to.nova_oldest.filter(|oldest| minimum < *oldest) {
        judgement.closed.push(format!(
            "nova-compute there would not start (TooOldComputeService): it supports none older than service version \
             {oldest}, and the cell has {minimum}"
        ));
    }
}

/// ovsdb-tool(1) converts a database to any schema, and drops what the other one does not know.
fn schema(moving: Move<'_>, judgement: &mut Judgement) {
    if let (Some(from), Some(to)) = (moving.from.schema, moving.to.schema)
        && to < from
    {
        judgement.closed.push(format!(
            "Open vSwitch there has database schema {to}, and conf.db has {from}: what the older schema does not know \
             would be dropped from it"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::super::cell::Cell;
    use super::*;

    fn offer(machines: &[&str], nova: u32, schema: Option<&str>) -> Offer {
        Offer {
            machines: Some(machines.iter().map(|m| (*m).to_owned()).collect()),
            qemu: None,
            nova: Some(nova),
            nova_oldest: Some(nova.saturating_sub(3)),
            schema: schema.and_then(|s| s.parse().ok()),
            silent: Vec::new(),
        }
    }

    fn guest(name: &str, machine: Option<&str>) -> Guest {
        Guest {
            name: name.into(),
            machine: machine.map(str::to_owned),
            ..Guest::default()
        }
    }

    fn cell(own: u32, others: Option<u32>) -> CellView {
        CellView::Seen(Cell {
            own: Some(own),
            others,
        })
    }

    #[test]
    fn machine_types_of_guests_against_what_is_offered() {
        let both = offer(&["pc-7", "pc-8"], 64, None);
        let old = offer(&["pc-7"], 64, None);
        let mute = Offer::default();
        // from, to, machine of the guest, closed, notes
        let table = [
            (&both, &old, Some("pc-7"), 0, 0),
            (&both, &old, Some("pc-8"), 1, 0),
            (&both, &old, None, 0, 1),
            (&old, &both, Some("pc-7"), 0, 0),
            // It can't be started by what runs now either.
            (&old, &old, Some("pc-6"), 0, 1),
            (&mute, &old, Some("pc-8"), 1, 0),
            (&old, &mute, Some("pc-8"), 0, 0),
        ];
        for (from, to, machine, closed, notes) in table {
            let judged = judge(Move { from, to }, &[guest("a", machine)], &CellView::NotAsked);
            assert_eq!(
                (judged.closed.len(), judged.notes.len()),
                (closed, notes),
                "{machine:?}: {judged:?}"
            );
        }
    }

    #[test]
    fn guests_that_would_be_lost_are_named() {
        let (both, old) = (offer(&["pc-7", "pc-8"], 64, None), offer(&["pc-7"], 64, None));
        let guests = ["a", "b"].map(|n| guest(n, Some("pc-8")));
        let judged = judge(
            Move {
                from: &both,
                to: &old,
            },
            &guests,
            &CellView::NotAsked,
        );
        assert_eq!(judged.closed.len(), 1);
        assert!(
            judged.closed[0].contains("pc-8") && judged.closed[0].ends_with("a, b"),
            "{judged:?}"
        );
    }

    #[test]
    fn nova_takes_no_version_below_the_minimum_and_stands_no_older_compute() {
        let at = |version| offer(&[], version, None);
        // to, own record, lowest of the others, what closes it
        let table = [
            (64, 64, Some(64), ""),
            (64, 66, Some(64), ""),
            (64, 66, Some(66), "ServiceTooOld"),
            (64, 66, None, "ServiceTooOld"),
            (63, 66, Some(64), "ServiceTooOld"),
            (66, 64, Some(64), ""),
            (66, 66, Some(62), "TooOldComputeService"),
            // Its own record counts: two steps at once are one too many.
            (66, 62, Some(66), "TooOldComputeService"),
        ];
        for (to, own, others, closed) in table {
            let judged = judge(
                Move {
                    from: &at(own),
                    to: &at(to),
                },
                &[],
                &cell(own, others),
            );
            assert_eq!(
                judged.closed.len(),
                usize::from(!closed.is_empty()),
                "{to} {own} {others:?}: {judged:?}"
            );
            assert!(
                judged.closed.join("").contains(closed),
                "{to} {own} {others:?}: {judged:?}"
            );
        }
    }

    #[test]
    fn what_is_not_known_is_said_and_closes_nothing() {
        let (from, to) = (offer(&[], 66, None), offer(&[], 64, None));
        let unknown = CellView::Unknown("no conductor answers".into());
        let judged = judge(Move { from: &from, to: &to }, &[], &unknown);
        assert!(
            judged.is_open() && judged.notes[0].contains("no conductor answers"),
            "{judged:?}"
        );
        let mute = Offer {
            silent: vec!["image x has no label y".into()],
            ..Offer::default()
        };
        let judged = judge(
            Move {
                from: &from,
                to: &mute,
            },
            &[],
            &unknown,
        );
        assert!(judged.is_open() && judged.notes == ["image x has no label y: it can't be judged"]);
    }

    #[test]
    fn a_database_is_not_taken_back_to_an_older_schema() {
        let table = [
            ("8.4.0", "8.3.1", true),
            ("8.3.1", "8.3.1", false),
            ("8.3.1", "8.4.0", false),
        ];
        for (from, to, closed) in table {
            let (from, to) = (offer(&[], 64, Some(from)), offer(&[], 64, Some(to)));
            let judged = judge(Move { from: &from, to: &to }, &[], &CellView::NotAsked);
            assert_eq!(!judged.is_open(), closed, "{judged:?}");
        }
    }

    #[test]
    fn the_last_compute_of_a_cell_closes_the_way_back_behind_it() {
        let (old, new) = (offer(&["pc-7"], 64, None), offer(&["pc-7", "pc-8"], 66, None));
        let moving = Move { from: &old, to: &new };
        for (others, open) in [(Some(64), true), (Some(66), false), (None, false)] {
            let judged = afterwards(moving, &[], &cell(64, others));
            assert_eq!(judged.is_open(), open, "{others:?}: {judged:?}");
            assert!(judged.notes.iter().any(|n| n.contains("pc-8")), "{judged:?}");
        }
    }
}

//! The machine as a graph, from the machine itself.

use std::collections::BTreeSet;

use super::{Event, Move, Setback, State, next};
use crate::api::OperationKind;
use crate::deployment::Seq;

/// One state of each kind, for enumeration.
pub fn states() -> Vec<State> {
    let kind = OperationKind::Upgrade;
    let m = Move {
        kind,
        from: Some(Seq(1)),
        to: Seq(2),
        tries_left: 1,
    };
    vec![
        State::Idle,
        State::Fetching { kind },
        State::Verified { kind },
        State::Staged { kind, to: m.to },
        State::Armed(m.clone()),
        State::Activating(m.clone()),
        State::Probation(m.clone()),
        State::Blessed(m.clone()),
        State::Reverting(
            m,
            Setback {
                reason: "why".into(),
                blame: true,
            },
        ),
    ]
}

/// One event of each kind, fitting [`states`]; `Resumed` in all that make a difference.
pub fn events() -> Vec<Event> {
    let m = Move {
        kind: OperationKind::Upgrade,
        from: Some(Seq(1)),
        to: Seq(2),
        tries_left: 3,
    };
    vec![
        Event::Begun { kind: m.kind },
        Event::Fetched,
        Event::Staged { to: m.to },
        Event::Parked,
        Event::Agreed(m.clone()),
        Event::Unarmed,
        Event::Committed,
        Event::Activated,
        Event::Held,
        Event::Closed,
        Event::Failed {
            reason: "why".into(),
            blame: true,
        },
        Event::Reverted,
        Event::Resumed {
            current: Some(m.to),
            attempt: true,
            expired: false,
        },
        Event::Resumed {
            current: Some(m.to),
            attempt: false,
            expired: false,
        },
        Event::Resumed {
            current: Some(m.to),
            attempt: true,
            expired: true,
        },
        Event::Resumed {
            current: m.from,
            attempt: true,
            expired: false,
        },
    ]
}

/// Every edge in the dot language of Graphviz.
pub fn dot() -> String {
    let mut edges = BTreeSet::new();
    for (rank, state) in states().into_iter().enumerate() {
        for event in events() {
            if let Ok((to, _)) = next(state.clone(), &event) {
                edges.insert((rank, state.phase(), to.phase(), event.name()));
            }
        }
    }
    let mut text = String::from("digraph transaction {\n  rankdir=LR;\n  node [shape=box];\n");
    for (_, from, to, event) in edges {
        text.push_str(&format!("  {from} -> {to} [label=\"{event}\"];\n"));
    }
    text.push_str("}\n");
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_published_diagram_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/state-machine.dot");
        let published = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(
            published,
            super::dot(),
            "docs/state-machine.dot has to be:\n{}",
            super::dot()
        );
    }
}

//! The whole (state × event) table, and walks over any order of events.

use proptest::prelude::*;

use super::diagram::{events, states};
use super::*;
use crate::api::{OperationKind, Phase};
use crate::deployment::Seq;

/// Where each event leads from each state: the phase's first two letters, `--` where it is illegal.
/// Columns as in `events()`.
const TABLE: [(&str, &str); 9] = [
    ("idle", "fe -- -- -- -- -- -- -- -- -- -- -- id id id id"),
    ("fetching", "-- ve -- -- -- -- -- -- -- -- id -- id id id id"),
    ("verified", "-- -- st -- -- -- -- -- -- -- id -- id id id id"),
    ("staged", "-- -- -- id ar -- -- -- -- -- id -- id id id id"),
    ("armed", "-- -- -- -- -- id ac -- -- -- re -- ac ac re re"),
    ("activating", "-- -- -- -- -- -- -- pr -- -- re -- ac ac re re"),
    ("probation", "-- -- -- -- -- -- -- -- bl -- re -- ac ac re re"),
    ("blessed", "-- -- -- -- -- -- -- -- -- id bl -- bl bl bl bl"),
    ("reverting", "-- -- -- -- -- -- -- -- -- -- re id re re re re"),
];

#[test]
fn every_event_in_every_state() {
    for (state, (name, row)) in states().into_iter().zip(TABLE) {
        assert_eq!(state.phase().to_string(), name);
        let got: Vec<String> = events()
            .into_iter()
            .map(|event| match next(state.clone(), &event) {
                Ok((to, _)) => to.phase().to_string()[..2].to_owned(),
                Err(illegal) => {
                    assert_eq!(illegal.phase, state.phase());
                    "--".to_owned()
                }
            })
            .collect();
        assert_eq!(got.join(" "), row, "{name}");
    }
}

fn m(kind: OperationKind, from: Option<Seq>, tries_left: u32) -> Move {
    Move {
        kind,
        from,
        to: Seq(2),
        tries_left,
    }
}

#[test]
fn a_try_is_journalled_before_the_attempt() {
    let (state, effects) = next(
        State::Armed(m(OperationKind::Upgrade, None, 3)),
        &Event::Committed,
    )
    .unwrap();
    assert_eq!(state, State::Activating(m(OperationKind::Upgrade, None, 2)));
    assert_eq!(effects, [Effect::Journal, Effect::Activate(Seq(2))]);
}

#[test]
fn the_last_try_used_up_leads_back() {
    for state in [State::Activating, State::Probation] {
        let event = Event::Resumed {
            current: Some(Seq(2)),
            attempt: true,
            expired: false,
        };
        let (state, effects) = next(state(m(OperationKind::Upgrade, Some(Seq(1)), 0)), &event).unwrap();
        assert_eq!(state.phase(), Phase::Reverting);
        let back = Some(Seq(1));
        let expected = [
            Effect::Journal,
            Effect::Flip(back),
            Effect::WalkBack(back),
            Effect::Reject,
            Effect::Close,
        ];
        assert_eq!(effects, expected);
    }
}

#[test]
fn only_an_upgrade_that_is_to_blame_is_rejected() {
    let failed = || Event::Failed {
        reason: "why".into(),
        blame: true,
    };
    let rejects = |state, event: Event| next(state, &event).unwrap().1.contains(&Effect::Reject);
    assert!(rejects(
        State::Activating(m(OperationKind::Upgrade, None, 1)),
        failed()
    ));
    assert!(!rejects(
        State::Activating(m(OperationKind::Set, None, 1)),
        failed()
    ));
    assert!(!rejects(
        State::Activating(m(OperationKind::Rollback, None, 1)),
        failed()
    ));
    assert!(!rejects(
        State::Armed(m(OperationKind::Upgrade, None, 1)),
        failed()
    ));
}

#[test]
fn a_move_that_was_not_staged_is_refused() {
    let staged = State::Staged {
        kind: OperationKind::Upgrade,
        to: Seq(2),
    };
    let agreed = |m| next(staged.clone(), &Event::Agreed(m));
    assert!(agreed(m(OperationKind::Upgrade, Some(Seq(1)), 3)).is_ok());
    assert!(agreed(m(OperationKind::Upgrade, Some(Seq(2)), 3)).is_err());
    assert!(agreed(m(OperationKind::Set, Some(Seq(1)), 3)).is_err());
    assert!(
        agreed(Move {
            to: Seq(3),
            ..m(OperationKind::Upgrade, Some(Seq(1)), 3)
        })
        .is_err()
    );
}

/// What the world would look like if the effects were done.
#[derive(Debug, Default, Clone)]
struct World {
    current: Option<Seq>,
    journalled: Option<u32>,
}

impl World {
    fn apply(&mut self, state: &State, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Journal => self.journalled = state.movement().map(|m| m.tries_left),
                Effect::Flip(to) => {
                    assert!(self.journalled.is_some(), "flip before the journal");
                    self.current = *to;
                }
                Effect::Activate(to) => {
                    assert_eq!(self.current, Some(*to), "activation of what is not current");
                    let left = state.movement().map(|m| m.tries_left);
                    assert_eq!(self.journalled, left, "attempt before it was journalled");
                }
                Effect::WalkBack(to) => assert_eq!(self.current, *to, "way back to what is not current"),
                Effect::Close => self.journalled = None,
                Effect::Fetch | Effect::Stage | Effect::Watch | Effect::Reject => {}
            }
        }
    }
}

fn any_event() -> impl Strategy<Value = usize> {
    0..16_usize
}

/// The event by number, with what is real filled in.
fn concrete(index: usize, world: &World, from: Option<Seq>) -> Event {
    match events().swap_remove(index) {
        Event::Agreed(m) => Event::Agreed(Move { from, ..m }),
        Event::Resumed { attempt, expired, .. } => Event::Resumed {
            current: world.current,
            attempt,
            expired,
        },
        other => other,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_order_of_events_keeps_the_promises(order in prop::collection::vec(any_event(), 0..60), first in any::<bool>()) {
        let from = if first { None } else { Some(Seq(1)) };
        let mut world = World { current: from, journalled: None };
        let mut state = State::Idle;
        let mut attempts = 0;
        for index in order {
            let event = concrete(index, &world, from);
            let counts = !matches!(event, Event::Resumed { attempt: false, .. });
            let before = state.clone();
            match next(state.clone(), &event) {
                Ok((to, effects)) => {
                    world.apply(&to, &effects);
                    if counts && effects.iter().any(|e| matches!(e, Effect::Activate(_))) {
                        attempts += 1;
                    }
                    if to == State::Idle {
                        attempts = 0;
                        if before.phase() != Phase::Idle {
                            world.journalled = None;
                        }
                        // Idle is either wholly the old or wholly the new deployment.
                        prop_assert!(world.current == from || world.current == Some(Seq(2)));
                    }
                    prop_assert!(attempts <= 3, "more attempts than tries");
                    state = to;
                }
                Err(illegal) => prop_assert_eq!(illegal.phase, before.phase()),
            }
            if world.current == Some(Seq(2)) && state == State::Idle {
                break;
            }
        }
    }

    /// However it was interrupted, resuming again and again ends without anybody's help.
    #[test]
    fn every_open_transaction_ends(index in 4..9_usize, committed in any::<bool>(), tries in 0..4_u32) {
        let mut state = states().swap_remove(index);
        if let State::Armed(m) | State::Activating(m) | State::Probation(m) | State::Blessed(m) | State::Reverting(m, _) = &mut state {
            m.tries_left = tries;
        }
        let mut world = World { current: Some(Seq(if committed { 2 } else { 1 })), journalled: Some(tries) };
        for _ in 0..=tries + 1 {
            let resumed = Event::Resumed { current: world.current, attempt: true, expired: false };
            let (to, effects) = next(state.clone(), &resumed).unwrap();
            world.apply(&to, &effects);
            state = to;
            if matches!(state, State::Reverting(..) | State::Blessed(_)) {
                return Ok(());
            }
        }
        prop_assert!(false, "still open: {state:?}");
    }
}

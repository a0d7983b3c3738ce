//! The one function that decides how a transaction goes on.

use super::effect::Effect;
use super::event::Event;
use super::state::{Move, Setback, State};
use crate::api::{OperationKind, Phase};
use crate::deployment::Seq;

/// An event that has no meaning in a state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("event {event} has no meaning while {phase}")]
pub struct Illegal {
    /// The state's phase.
    pub phase: Phase,
    /// The event's name.
    pub event: &'static str,
}

type Step = (State, Vec<Effect>);

/// The next state and what has to be done in it.
///
/// # Errors
/// The event has no meaning in this state; the transaction stays where it was.
pub fn next(state: State, event: &Event) -> Result<Step, Illegal> {
    let illegal = Illegal {
        phase: state.phase(),
        event: event.name(),
    };
    match state {
        State::Idle => from_idle(event).ok_or(illegal),
        State::Fetching { kind } => from_fetching(kind, event).ok_or(illegal),
        State::Verified { kind } => from_verified(kind, event).ok_or(illegal),
        State::Staged { kind, to } => from_staged(kind, to, event).ok_or(illegal),
        State::Armed(m) => from_armed(m, event).ok_or(illegal),
        State::Activating(m) => from_activating(m, event).ok_or(illegal),
        State::Probation(m) => from_probation(m, event).ok_or(illegal),
        State::Blessed(m) => from_blessed(m, event).ok_or(illegal),
        State::Reverting(m, setback) => from_reverting(m, setback, event).ok_or(illegal),
    }
}

fn from_idle(event: &Event) -> Option<Step> {
    match event {
        Event::Begun { kind } => Some((State::Fetching { kind: *kind }, vec![Effect::Fetch])),
        Event::Resumed { .. } => Some((State::Idle, vec![])),
        Event::Fetched
        | Event::Staged { .. }
        | Event::Parked
        | Event::Agreed(_)
        | Event::Unarmed
        | Event::Committed
        | Event::Activated
        | Event::Held
        | Event::Closed
        | Event::Failed { .. }
        | Event::Reverted => None,
    }
}

fn from_fetching(kind: OperationKind, event: &Event) -> Option<Step> {
    match event {
        Event::Fetched => Some((State::Verified { kind }, vec![Effect::Stage])),
        Event::Failed { .. } | Event::Resumed { .. } => Some((State::Idle, vec![])),
        Event::Begun { .. }
        | Event::Staged { .. }
        | Event::Parked
        | Event::Agreed(_)
        | Event::Unarmed
        | Event::Committed
        | Event::Activated
        | Event::Held
        | Event::Closed
        | Event::Reverted => None,
    }
}

fn from_verified(kind: OperationKind, event: &Event) -> Option<Step> {
    match event {
        Event::Staged { to } => Some((State::Staged { kind, to: *to }, vec![])),
        Event::Failed { .. } | Event::Resumed { .. } => Some((State::Idle, vec![])),
        Event::Begun { .. }
        | Event::Fetched
        | Event::Parked
        | Event::Agreed(_)
        | Event::Unarmed
        | Event::Committed
        | Event::Activated
        | Event::Held
        | Event::Closed
        | Event::Reverted => None,
    }
}

fn from_staged(kind: OperationKind, to: Seq, event: &Event) -> Option<Step> {
    match event {
        Event::Agreed(m) if m.to == to && m.kind == kind && m.from != Some(to) => Some((
            State::Armed(m.clone()),
            vec![Effect::Journal, Effect::Flip(Some(to))],
        )),
        Event::Parked | Event::Failed { .. } | Event::Resumed { .. } => Some((State::Idle, vec![])),
        Event::Agreed(_)
        | Event::Begun { .. }
        | Event::Fetched
        | Event::Staged { .. }
        | Event::Unarmed
        | Event::Committed
        | Event::Activated
        | Event::Held
        | Event::Closed
        | Event::Reverted => None,
    }
}

fn from_armed(m: Move, event: &Event) -> Option<Step> {
    match event {
        Event::Unarmed => Some((State::Idle, vec![])),
        Event::Committed => Some(attempt(m)),
        // The flip may or may not have reached the disk, so the way back makes sure.
        Event::Failed { reason, .. } => Some(revert(m, reason.clone(), false)),
        Event::Resumed {
            current,
            attempt,
            expired,
        } => Some(resume(m, *current, *attempt, *expired)),
        Event::Begun { .. }
        | Event::Fetched
        | Event::Staged { .. }
        | Event::Parked
        | Event::Agreed(_)
        | Event::Activated
        | Event::Held
        | Event::Closed
        | Event::Reverted => None,
    }
}

fn from_activating(m: Move, event: &Event) -> Option<Step> {
    match event {
        Event::Activated => Some((State::Probation(m), vec![Effect::Journal, Effect::Watch])),
        Event::Failed { reason, blame } => Some(revert(m, reason.clone(), *blame)),
        Event::Resumed {
            current,
            attempt,
            expired,
        } => Some(resume(m, *current, *attempt, *expired)),
        Event::Begun { .. }
        | Event::Fetched
        | Event::Staged { .. }
        | Event::Parked
        | Event::Agreed(_)
        | Event::Unarmed
        | Event::Committed
        | Event::Held
        | Event::Closed
        | Event::Reverted => None,
    }
}

fn from_probation(m: Move, event: &Event) -> Option<Step> {
    match event {
        Event::Held => Some((State::Blessed(m), vec![Effect::Journal, Effect::Close])),
        Event::Failed { reason, blame } => Some(revert(m, reason.clone(), *blame)),
        Event::Resumed {
            current,
            attempt,
            expired,
        } => Some(resume(m, *current, *attempt, *expired)),
        Event::Begun { .. }
        | Event::Fetched
        | Event::Staged { .. }
        | Event::Parked
        | Event::Agreed(_)
        | Event::Unarmed
        | Event::Committed
        | Event::Activated
        | Event::Closed
        | Event::Reverted => None,
    }
}

fn from_blessed(m: Move, event: &Event) -> Option<Step> {
    match event {
        Event::Closed => Some((State::Idle, vec![])),
        // The node runs what it should; only the journal has to go, now or by the next process.
        Event::Failed { .. } => Some((State::Blessed(m), vec![])),
        Event::Resumed { .. } => Some((State::Blessed(m), vec![Effect::Close])),
        Event::Begun { .. }
        | Event::Fetched
        | Event::Staged { .. }
        | Event::Parked
        | Event::Agreed(_)
        | Event::Unarmed
        | Event::Committed
        | Event::Activated
        | Event::Held
        | Event::Reverted => None,
    }
}

fn from_reverting(m: Move, setback: Setback, event: &Event) -> Option<Step> {
    match event {
        Event::Reverted => Some((State::Idle, vec![])),
        // The way back stays open: the next process walks it again.
        Event::Failed { .. } => Some((State::Reverting(m, setback), vec![])),
        Event::Resumed { .. } => Some(revert(m, setback.reason, setback.blame)),
        Event::Begun { .. }
        | Event::Fetched
        | Event::Staged { .. }
        | Event::Parked
        | Event::Agreed(_)
        | Event::Unarmed
        | Event::Committed
        | Event::Activated
        | Event::Held
        | Event::Closed => None,
    }
}

/// One attempt: it is taken off durably before anything is started.
fn attempt(mut m: Move) -> Step {
    match m.tries_left.checked_sub(1) {
        Some(left) => {
            m.tries_left = left;
            go_on(m)
        }
        None => revert(m, "it has used up its tries".into(), true),
    }
}

fn go_on(m: Move) -> Step {
    let to = m.to;
    (State::Activating(m), vec![Effect::Journal, Effect::Activate(to)])
}

fn revert(m: Move, reason: String, blame: bool) -> Step {
    let mut effects = vec![Effect::Journal, Effect::Flip(m.from), Effect::WalkBack(m.from)];
    if blame && m.kind == OperationKind::Upgrade {
        effects.push(Effect::Reject);
    }
    effects.push(Effect::Close);
    (State::Reverting(m, Setback { reason, blame }), effects)
}

/// Goes on from what is real: `current` decides, the journal says what was meant.
fn resume(m: Move, current: Option<Seq>, counts: bool, expired: bool) -> Step {
    if current != Some(m.to) {
        // Not committed, or already flipped back: make sure that the old services are up.
        revert(m, "it was interrupted before it was committed".into(), false)
    } else if expired {
        // Nobody knows what held it up; that is not enough to blame the release.
        revert(m, "it was still open when its deadline had passed".into(), false)
    } else if counts {
        attempt(m)
    } else {
        go_on(m)
    }
}

//! What can happen to a transaction.

use super::state::Move;
use crate::api::OperationKind;
use crate::deployment::Seq;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Somebody asked for a move.
    Begun {
        /// What for.
        kind: OperationKind,
    },
    /// Release and images are in the store, verified, and fit the host.
    Fetched,
    /// The deployment directory is complete and durable.
    Staged {
        /// Its number.
        to: Seq,
    },
    /// Only the staging was asked for.
    Parked,
    /// The gates before the switch have agreed.
    Agreed(Move),
    /// The first entry of the journal could not be written: nothing is open, and nothing was touched.
    Unarmed,
    /// `current` names the new deployment, durably.
    Committed,
    /// All services of the new deployment are up, and their gates hold.
    Activated,
    /// The probation is over.
    Held,
    /// The journal is gone.
    Closed,
    /// The step that was under way failed.
    Failed {
        /// For people.
        reason: String,
        /// Whether that says something about the release.
        blame: bool,
    },
    /// The old deployment is current and its services are up.
    Reverted,
    /// A new process or a new boot found the transaction open.
    Resumed {
        /// What `current` names now.
        current: Option<Seq>,
        /// Whether this counts as an attempt.
        attempt: bool,
        /// Whether its deadline has passed.
        expired: bool,
    },
}

impl Event {
    /// Name of the kind of event.
    pub fn name(&self) -> &'static str {
        match self {
            Event::Begun { .. } => "begun",
            Event::Fetched => "fetched",
            Event::Staged { .. } => "staged",
            Event::Parked => "parked",
            Event::Agreed(_) => "agreed",
            Event::Unarmed => "unarmed",
            Event::Committed => "committed",
            Event::Activated => "activated",
            Event::Held => "held",
            Event::Closed => "closed",
            Event::Failed { .. } => "failed",
            Event::Reverted => "reverted",
            Event::Resumed { .. } => "resumed",
        }
    }
}

//! Where a transaction can be.

use serde::{Deserialize, Serialize};

use crate::api::{OperationKind, Phase};
use crate::deployment::Seq;

/// A move of the node from one deployment to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Move {
    /// What it is for.
    pub kind: OperationKind,
    /// Where the way back leads; `None` on a first installation.
    pub from: Option<Seq>,
    /// Where it goes.
    pub to: Seq,
    /// Attempts that are left after the present one.
    pub tries_left: u32,
}

/// Why a transaction goes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setback {
    /// For people.
    pub reason: String,
    /// Whether the new deployment is to blame, so that its release is put on record.
    pub blame: bool,
}

/// Where a transaction is, with what is known there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// No transaction.
    Idle,
    /// Release and images are on their way.
    Fetching {
        /// What it is for.
        kind: OperationKind,
    },
    /// Everything is here, verified, and fits the host.
    Verified {
        /// What it is for.
        kind: OperationKind,
    },
    /// The new deployment is complete and durable.
    Staged {
        /// What it is for.
        kind: OperationKind,
        /// The new deployment.
        to: Seq,
    },
    /// The journal is durable; `current` is being flipped.
    Armed(Move),
    /// `current` names the new deployment.
    Activating(Move),
    /// All its services are up and being watched.
    Probation(Move),
    /// It held; the journal is being closed.
    Blessed(Move),
    /// The way back is being walked.
    Reverting(Move, Setback),
}

impl State {
    /// The phase as it is shown and journalled.
    pub fn phase(&self) -> Phase {
        match self {
            State::Idle => Phase::Idle,
            State::Fetching { .. } => Phase::Fetching,
            State::Verified { .. } => Phase::Verified,
            State::Staged { .. } => Phase::Staged,
            State::Armed(_) => Phase::Armed,
            State::Activating(_) => Phase::Activating,
            State::Probation(_) => Phase::Probation,
            State::Blessed(_) => Phase::Blessed,
            State::Reverting(..) => Phase::Reverting,
        }
    }

    /// The move, in the states that are journalled.
    pub fn movement(&self) -> Option<&Move> {
        match self {
            State::Idle | State::Fetching { .. } | State::Verified { .. } | State::Staged { .. } => None,
            State::Armed(m) | State::Activating(m) | State::Probation(m) | State::Blessed(m) => Some(m),
            State::Reverting(m, _) => Some(m),
        }
    }
}

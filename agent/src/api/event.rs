//! Progress of a running operation.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The phase of a transaction, as in the state machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// No transaction.
    Idle,
    /// The release and its images are being fetched and verified as they arrive.
    Fetching,
    /// Everything is here and verified; the host can run it.
    Verified,
    /// The deployment directory is complete and durable.
    Staged,
    /// The journal says where the node is going; nothing has been touched.
    Armed,
    /// `current` names the new deployment; its services are being brought up.
    Activating,
    /// All services are up and being watched.
    Probation,
    /// The new deployment held; the journal is being closed.
    Blessed,
    /// The old deployment is being restored.
    Reverting,
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Phase::Idle => "idle",
            Phase::Fetching => "fetching",
            Phase::Verified => "verified",
            Phase::Staged => "staged",
            Phase::Armed => "armed",
            Phase::Activating => "activating",
            Phase::Probation => "probation",
            Phase::Blessed => "blessed",
            Phase::Reverting => "reverting",
        })
    }
}

/// One step of an operation, numbered in order of occurrence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Number of this event within its stream, from 1 on, without gaps.
    pub seq: u64,
    /// When it happened.
    #[schemars(with = "String")]
    pub time: jiff::Timestamp,
    /// Phase of the transaction when it happened.
    pub phase: Phase,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What can happen during an operation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum EventKind {
    /// An operation began.
    Begin {
        /// Upgrade, rollback and so on, with its goal, for people.
        message: String,
    },
    /// The transaction entered the phase of this event.
    Entered,
    /// Bytes have arrived.
    Progress {
        /// What is being transferred or written, for people.
        item: String,
        /// Bytes so far.
        done: u64,
        /// Bytes in all; absent when not known yet.
        total: Option<u64>,
    },
    /// A service is about to be started, stopped or checked.
    Service {
        /// Name of the service.
        service: String,
        /// `stopping`, `stopped`, `starting`, `started`, `restored` or `failed`.
        step: String,
    },
    /// A gate gave its verdict.
    Gate {
        /// Name of the service.
        service: String,
        /// Name of the gate.
        gate: String,
        /// Whether it held.
        passed: bool,
        /// What it found, for people.
        message: String,
    },
    /// Something the operator should know that stops nothing.
    Warning {
        /// For people.
        message: String,
    },
    /// Anything else worth a line.
    Note {
        /// For people.
        message: String,
    },
    /// The operation ended.
    End {
        /// Exit code of the command that asked for it.
        exit_code: u8,
        /// How it ended, for people.
        message: String,
    },
}

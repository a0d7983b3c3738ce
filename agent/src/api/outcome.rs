//! How an operation ended.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{PlannedService, ReleaseInfo};
use crate::deployment::Seq;

/// How an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OutcomeKind {
    /// The node runs what was asked for.
    Done,
    /// It did already.
    NothingToDo,
    /// Everything is on disk (`--download-only`); nothing was touched.
    Staged,
    /// The node went back to what it ran before.
    RolledBack,
}

/// The service that made an operation go back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceFailure {
    /// Name of the service.
    pub service: String,
    /// What went wrong, for people.
    pub reason: String,
    /// Last lines of its journal.
    pub journal: Vec<String>,
}

/// The result of upgrade, rollback, set, unset and recover.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Outcome {
    /// How it ended.
    pub kind: OutcomeKind,
    /// Deployment before; absent on an empty node.
    pub from: Option<Seq>,
    /// Deployment the node runs now; absent on an empty node.
    pub current: Option<Seq>,
    /// The deployment it tried or went to.
    pub to: Option<Seq>,
    /// The release of that deployment.
    pub release: Option<ReleaseInfo>,
    /// What was done to each service.
    pub services: Vec<PlannedService>,
    /// Why it went back.
    pub failure: Option<ServiceFailure>,
    /// One sentence for people.
    pub message: String,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
}

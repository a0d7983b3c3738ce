//! What happened on this node.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ReleaseInfo;
use crate::deployment::Seq;

/// What an operation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OperationKind {
    /// To another release.
    Upgrade,
    /// To an earlier deployment.
    Rollback,
    /// To other parameters of the same release.
    Set,
}

impl std::fmt::Display for OperationKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            OperationKind::Upgrade => "upgrade",
            OperationKind::Rollback => "rollback",
            OperationKind::Set => "set",
        })
    }
}

/// How an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OperationResult {
    /// The node runs what was asked for.
    Done,
    /// The new deployment is complete on disk and not active.
    Staged,
    /// It failed before anything was touched.
    Failed,
    /// It failed afterwards, and the node went back.
    RolledBack,
    /// It failed, and going back failed too: the transaction is still open.
    Stuck,
    /// No end was recorded yet.
    Open,
}

impl std::fmt::Display for OperationResult {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            OperationResult::Done => "done",
            OperationResult::Staged => "staged",
            OperationResult::Failed => "failed",
            OperationResult::RolledBack => "rolled back",
            OperationResult::Stuck => "stuck",
            OperationResult::Open => "open",
        })
    }
}

/// One operation, from its beginning to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HistoryEntry {
    /// Identity of the operation.
    pub id: String,
    /// What it was for.
    pub kind: OperationKind,
    /// Deployment before; absent on a first installation.
    pub from: Option<Seq>,
    /// Deployment it went to; absent when it failed before one was made.
    pub to: Option<Seq>,
    /// The release it went to; absent when it failed before it was known.
    pub release: Option<ReleaseInfo>,
    /// When it began.
    #[schemars(with = "String")]
    pub started: jiff::Timestamp,
    /// When it ended; absent while it is open.
    #[schemars(with = "Option<String>")]
    pub ended: Option<jiff::Timestamp>,
    /// How it ended.
    pub result: OperationResult,
    /// Why it failed, or what is worth knowing.
    pub reason: Option<String>,
    /// Last journal lines of the unit that failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub journal: Vec<String>,
}

//! The documents that requests and queries end in.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api;
use crate::error::ExitCode;

/// All that was done on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct History {
    /// Operations, oldest first.
    pub entries: Vec<api::HistoryEntry>,
}

/// A request that has no result beyond having been carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Acknowledgement {
    /// What was done, for people.
    pub message: String,
}

/// The result of a request or a query.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", content = "document", rename_all = "kebab-case")]
pub enum Report {
    /// What an upgrade would do.
    Plan(api::Plan),
    /// How an upgrade, rollback, change of parameters or recovery ended.
    Outcome(api::Outcome),
    /// What the node runs.
    Status(api::Status),
    /// What was done on this node.
    History(History),
    /// What garbage collection did.
    Gc(api::GcReport),
    /// What verification found.
    Fsck(api::FsckReport),
    /// Whether the host can run its release.
    Doctor(api::DoctorReport),
    /// Done, nothing to tell.
    Acknowledgement(Acknowledgement),
}

impl Report {
    /// A request that has no result beyond having been carried out.
    pub fn acknowledge(message: impl Into<String>) -> Self {
        Self::Acknowledgement(Acknowledgement {
            message: message.into(),
        })
    }

    /// The exit code of the command that asked for this.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Outcome(outcome) => of_outcome(outcome.kind),
            Self::Plan(plan) if plan.nothing_to_do => ExitCode::NothingToDo,
            Self::Fsck(report) if report.findings.iter().any(|finding| !finding.repaired) => {
                ExitCode::Verification
            }
            Self::Doctor(report) if !report.healthy() => ExitCode::Other,
            Self::Plan(_)
            | Self::Status(_)
            | Self::History(_)
            | Self::Gc(_)
            | Self::Fsck(_)
            | Self::Doctor(_)
            | Self::Acknowledgement(_) => ExitCode::Done,
        }
    }
}

fn of_outcome(kind: api::OutcomeKind) -> ExitCode {
    match kind {
        api::OutcomeKind::Done | api::OutcomeKind::Staged => ExitCode::Done,
        api::OutcomeKind::NothingToDo => ExitCode::NothingToDo,
        api::OutcomeKind::RolledBack => ExitCode::RolledBack,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_follows_from_the_report() {
        let mut fsck = api::FsckReport::default();
        assert_eq!(Report::Fsck(fsck.clone()).exit_code(), ExitCode::Done);
        fsck.findings.push(api::FsckFinding {
            subject: "store/objects/ab/cd".into(),
            problem: "digest differs".into(),
            images: vec![],
            services: vec![],
            repaired: false,
        });
        assert_eq!(Report::Fsck(fsck.clone()).exit_code(), ExitCode::Verification);
        fsck.findings[0].repaired = true;
        assert_eq!(Report::Fsck(fsck).exit_code(), ExitCode::Done);
        assert_eq!(of_outcome(api::OutcomeKind::NothingToDo), ExitCode::NothingToDo);
        assert_eq!(of_outcome(api::OutcomeKind::RolledBack), ExitCode::RolledBack);
        assert_eq!(of_outcome(api::OutcomeKind::Staged), ExitCode::Done);
    }
}

//! What nodectl answers: the documents that `--json` prints and that noded sends over D-Bus.
//!
//! Plain data only. Every type has a published JSON schema; fields are added, never renamed.

mod event;
mod history;
mod maintenance;
mod outcome;
mod plan;
mod status;

pub use event::{Event, EventKind, Phase};
pub use history::{HistoryEntry, OperationKind, OperationResult};
pub use maintenance::{
    CheckResult, DeploymentEntry, DoctorCheck, DoctorReport, FsckFinding, FsckReport, GcReport,
};
pub use outcome::{Outcome, OutcomeKind, ServiceFailure};
pub use plan::{
    Action, Disruption, Plan, PlannedGate, PlannedGuest, PlannedService, ReleaseInfo, SignedBy, WayBack,
};
pub use status::{
    CheckStatus, ImageInUse, Sealing, ServiceState, ServiceStatus, Status, TransactionStatus, TrustStatus,
};

//! What the node runs now.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::history::OperationKind;
use super::{DeploymentEntry, Phase, ReleaseInfo};
use crate::deployment::Seq;

/// State of a service's unit, as systemd has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceState {
    /// Up and ready.
    Running,
    /// On its way up.
    Starting,
    /// On its way down.
    Stopping,
    /// Down on purpose.
    Stopped,
    /// Down after an error.
    Failed,
    /// systemd does not know the unit.
    Missing,
}

impl std::fmt::Display for ServiceState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ServiceState::Running => "running",
            ServiceState::Starting => "starting",
            ServiceState::Stopping => "stopping",
            ServiceState::Stopped => "stopped",
            ServiceState::Failed => "failed",
            ServiceState::Missing => "missing",
        })
    }
}

/// One service of the current deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceStatus {
    /// Name of the service.
    pub name: String,
    /// State of its unit.
    pub state: ServiceState,
    /// Main process in the host's pid namespace; absent when it does not run.
    pub pid: Option<u32>,
    /// Digest of what the running process was started from (hex); absent when not recorded.
    pub digest_running: Option<String>,
    /// Digest that the current deployment wants (hex).
    pub digest_wanted: String,
    /// Whether it runs exactly what the current deployment says.
    pub up_to_date: bool,
    /// Whether its update waits until no guest needs it.
    pub pending: bool,
    /// The guests that it waits for, for people.
    pub waits_for: Vec<String>,
    /// Since when it is in this state, RFC 3339; absent when systemd does not say.
    pub since: Option<String>,
    /// How often systemd restarted it by itself.
    pub restarts: u32,
    /// Digest of its image, `sha256:…`.
    pub image: String,
}

/// A transaction that is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TransactionStatus {
    /// Identity of the transaction.
    pub id: String,
    /// What it does.
    pub kind: OperationKind,
    /// How far it is.
    pub phase: Phase,
    /// Where it comes from; absent on a first installation.
    pub from: Option<Seq>,
    /// Where it goes.
    pub to: Seq,
    /// Attempts left before it goes back.
    pub tries_left: u32,
    /// When it began.
    #[schemars(with = "String")]
    pub started: jiff::Timestamp,
}

/// How strictly this node checks what it is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TrustStatus {
    /// Whether every release has to be signed.
    pub signatures_required: bool,
    /// Names of the keys that may sign.
    pub keys: Vec<String>,
    /// Everything about the configuration that weakens the checks, for people.
    pub warnings: Vec<String>,
}

/// An image that living processes have mounted; garbage collection leaves it alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ImageInUse {
    /// The image, `sha256:…`.
    pub image: String,
    /// Whether the current deployment uses it as well.
    pub current: bool,
    /// These processes, for people: guests by their names.
    pub by: Vec<String>,
}

/// The last check of everything that is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CheckStatus {
    /// When it was made.
    #[schemars(with = "String")]
    pub time: jiff::Timestamp,
    /// Whether only a part of the content was read.
    pub light: bool,
    /// Objects looked at.
    pub objects: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Objects that are sealed with fs-verity; absent where the file system has none.
    #[serde(default)]
    pub sealed: Option<u64>,
    /// What was wrong and was not put right, for people.
    pub findings: Vec<String>,
}

/// Whether the kernel guards what is stored: refuses to change it, and to read what was changed on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Sealing {
    /// It does, with fs-verity.
    Sealed,
    /// Not all that was there before; a repair seals the rest.
    Partly,
    /// The file system has no fs-verity.
    Unsealed,
}

/// What the node runs now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// The current deployment; absent on an empty node.
    pub deployment: Option<Seq>,
    /// Its release.
    pub release: Option<ReleaseInfo>,
    /// Its services, in start order.
    pub services: Vec<ServiceStatus>,
    /// The open transaction, if there is one.
    pub transaction: Option<TransactionStatus>,
    /// The deployment that `rollback` would return to.
    pub previous: Option<Seq>,
    /// All deployments on this node, oldest first.
    pub deployments: Vec<DeploymentEntry>,
    /// Deployments kept from garbage collection, with the operator's reason.
    pub pinned: BTreeMap<Seq, String>,
    /// Releases that failed here, by digest, with the reason.
    pub rejected: BTreeMap<String, String>,
    /// Images that living processes still have mounted.
    pub in_use_trees: Vec<ImageInUse>,
    /// How strictly this node checks what it is given.
    pub trust: TrustStatus,
    /// The last check of everything that is stored; absent before the first one.
    pub check: Option<CheckStatus>,
    /// Whether the kernel guards what is stored; absent as long as nothing is.
    pub sealing: Option<Sealing>,
    /// What stands in the way of the next operation, for people: a configuration that can't be read.
    pub warnings: Vec<String>,
    /// Whether everything is as it should be.
    pub healthy: bool,
}

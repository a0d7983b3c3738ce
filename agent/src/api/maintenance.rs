//! Reports of gc, fsck and doctor, and the list of deployments.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ImageInUse, ReleaseInfo};
use crate::deployment::Seq;

/// One deployment on this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeploymentEntry {
    /// Its number.
    pub seq: Seq,
    /// Its release.
    pub release: ReleaseInfo,
    /// When it was made.
    #[schemars(with = "String")]
    pub created: jiff::Timestamp,
    /// Whether the node runs it.
    pub current: bool,
    /// Whether it is kept from garbage collection.
    pub pinned: bool,
}

/// What a garbage collection removed, or would remove.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GcReport {
    /// Whether nothing was removed because only the question was asked.
    pub dry_run: bool,
    /// Deployments removed.
    pub deployments: Vec<Seq>,
    /// Images removed, `sha256:…`.
    pub images: Vec<String>,
    /// Images that only living processes keep.
    pub kept_in_use: Vec<ImageInUse>,
    /// Objects removed.
    pub objects: u64,
    /// Bytes given back.
    pub bytes: u64,
}

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FsckFinding {
    /// The file, object, image or deployment.
    pub subject: String,
    /// What is wrong with it.
    pub problem: String,
    /// Images that use it, `sha256:…`.
    pub images: Vec<String>,
    /// Services that use it, in any deployment.
    pub services: Vec<String>,
    /// Whether it has been put right.
    pub repaired: bool,
}

/// What a check of everything on disk found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FsckReport {
    /// Objects looked at.
    pub objects: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Objects that are sealed with fs-verity; absent where the file system has none.
    pub sealed: Option<u64>,
    /// What is wrong; empty when all is well.
    pub findings: Vec<FsckFinding>,
}

/// Verdict of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CheckResult {
    /// As it should be.
    Ok,
    /// Works, but look at it.
    Warning,
    /// Has to be put right.
    Failed,
}

/// One check of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DoctorCheck {
    /// What was looked at.
    pub name: String,
    /// Verdict.
    pub result: CheckResult,
    /// What was found.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// What `doctor` found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DoctorReport {
    /// All checks, in the order they were made.
    pub checks: Vec<DoctorCheck>,
}

impl DoctorReport {
    /// Whether nothing has to be put right.
    pub fn healthy(&self) -> bool {
        self.checks.iter().all(|c| c.result != CheckResult::Failed)
    }
}

//! The closed set of things that can be asked of a node.

use std::collections::BTreeMap;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::deployment::Seq;

/// How far an upgrade goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum UpgradeMode {
    /// Fetch, verify, stage, switch, and watch over the probation.
    #[default]
    Full,
    /// Only say whether there is something to do.
    Check,
    /// Stop after the new deployment is staged; it survives reboots.
    DownloadOnly,
}

/// An operation: at most one runs on a node at any time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "operation", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Move the node to a release.
    Upgrade {
        /// Release reference; without one, the reference that the node configuration names.
        reference: Option<String>,
        /// How far to go.
        mode: UpgradeMode,
        /// Also take a release that is on record as rejected, or give up the way back.
        force: bool,
        /// Also take a release that is older than one this node has run.
        #[serde(default)]
        allow_downgrade: bool,
    },
    /// Say what an upgrade would do.
    Plan {
        /// Release reference; without one, the reference that the node configuration names.
        reference: Option<String>,
    },
    /// Go back to a deployment that this node has already run.
    Rollback {
        /// Deployment number; without one, the previous deployment.
        deployment: Option<Seq>,
        /// Go back even where that loses something.
        force: bool,
    },
    /// Set parameters, as a new deployment of the same release.
    Set {
        /// Parameter name to value as typed by the operator.
        values: BTreeMap<String, String>,
    },
    /// Return parameters to the defaults of the release, as a new deployment.
    Unset {
        /// Parameter names.
        names: Vec<String>,
    },
    /// Start services of the current deployment.
    Start {
        /// Service names without `.service`.
        services: Vec<String>,
    },
    /// Stop services of the current deployment.
    Stop {
        /// Service names without `.service`.
        services: Vec<String>,
        /// Also where a gate objects, or a guest needs it.
        #[serde(default)]
        force: bool,
    },
    /// Restart services of the current deployment.
    Restart {
        /// Service names without `.service`.
        services: Vec<String>,
        /// Also where a gate objects, or a guest needs it.
        #[serde(default)]
        force: bool,
    },
    /// Keep a deployment from garbage collection.
    Pin {
        /// Deployment number; without one, the current deployment.
        deployment: Option<Seq>,
        /// Why, for whoever wonders later.
        reason: String,
    },
    /// Let garbage collection have a deployment again.
    Unpin {
        /// Deployment number; without one, the current deployment.
        deployment: Option<Seq>,
    },
    /// Delete what nothing refers to.
    Gc {
        /// Only say what would go.
        dry_run: bool,
    },
    /// Verify everything that is stored.
    Fsck {
        /// Fetch back what is broken.
        repair: bool,
        /// Read only the objects whose turn it is.
        #[serde(default)]
        light: bool,
    },
    /// Check whether this host can run its release.
    Doctor,
    /// Finish or revert an interrupted transaction.
    Recover {
        /// Called at boot, before the services start: takes one try off.
        boot: bool,
    },
}

impl Request {
    /// The verb, as typed on the command line.
    #[must_use]
    pub fn verb(&self) -> &'static str {
        match self {
            Self::Upgrade { .. } => "upgrade",
            Self::Plan { .. } => "plan",
            Self::Rollback { .. } => "rollback",
            Self::Set { .. } => "set",
            Self::Unset { .. } => "unset",
            Self::Start { .. } => "start",
            Self::Stop { .. } => "stop",
            Self::Restart { .. } => "restart",
            Self::Pin { .. } => "pin",
            Self::Unpin { .. } => "unpin",
            Self::Gc { .. } => "gc",
            Self::Fsck { .. } => "fsck",
            Self::Doctor => "doctor",
            Self::Recover { .. } => "recover",
        }
    }
}

impl FromStr for Request {
    type Err = serde_json::Error;

    /// Reads what a caller sent: an object of the schema `request`. serde by itself would also take a list that begins
    /// with the operation's name, which the schema does not describe.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if !text.trim_start().starts_with('{') {
            return Err(serde::de::Error::custom("a request is a JSON object"));
        }
        serde_json::from_str(text)
    }
}

/// A question that changes nothing, answered at any time, also while an operation runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    /// What the node runs and in which state.
    Status,
    /// What was done on this node, newest last.
    History {
        /// At most this many entries; 0 for all.
        limit: u32,
        /// Whether to give the journal lines of units that failed, which not everybody may read.
        with_journal: bool,
    },
}

//! Every path that nodectl uses on a node, from three roots.
//!
//! Nothing else in the crate joins a path under these roots by hand.

use std::path::{Path, PathBuf};

use crate::deployment::Seq;

/// The three directories everything lives under. Tests and `--*-root` options move them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roots {
    /// Persistent state, `/var/lib/nodectl`.
    pub state: PathBuf,
    /// The operator's configuration, `/etc/nodectl`.
    pub config: PathBuf,
    /// What is gone after a reboot, `/run/nodectl`.
    pub run: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Roots {
            state: "/var/lib/nodectl".into(),
            config: "/etc/nodectl".into(),
            run: "/run/nodectl".into(),
        }
    }
}

impl Roots {
    /// All three roots below one directory, for tests and offline work.
    pub fn under(base: &Path) -> Self {
        Roots {
            state: base.join("var/lib/nodectl"),
            config: base.join("etc/nodectl"),
            run: base.join("run/nodectl"),
        }
    }

    /// The image store.
    pub fn store(&self) -> PathBuf {
        self.state.join("store")
    }

    /// Directory of all deployments.
    pub fn deployments(&self) -> PathBuf {
        self.state.join("deployments")
    }

    /// One deployment.
    pub fn deployment(&self, seq: Seq) -> PathBuf {
        self.deployments().join(seq.to_string())
    }

    /// The symlink that says which deployment this node runs.
    pub fn current(&self) -> PathBuf {
        self.state.join("current")
    }

    /// What `current` has to contain to name a deployment: relative, so that the state root can be
    /// looked at from outside the node.
    pub fn current_target(&self, seq: Seq) -> PathBuf {
        Path::new("deployments").join(seq.to_string())
    }

    /// The journal of the open transaction.
    pub fn transaction(&self) -> PathBuf {
        self.state.join("transaction.json")
    }

    /// A journal that could not be read, set aside.
    pub fn damaged_transaction(&self) -> PathBuf {
        self.state.join("transaction.damaged")
    }

    /// What is disabled in nova while this node moves; absent if nothing is.
    pub fn drained(&self) -> PathBuf {
        self.state.join("drained.json")
    }

    /// The log of all operations.
    pub fn history(&self) -> PathBuf {
        self.state.join("history.jsonl")
    }

    /// Directory of pinned deployments.
    pub fn pins(&self) -> PathBuf {
        self.state.join("pins")
    }

    /// Directory of releases that failed here.
    pub fn rejected(&self) -> PathBuf {
        self.state.join("rejected")
    }

    /// The newest release of each repository that this node has run.
    pub fn newest(&self) -> PathBuf {
        self.state.join("newest.json")
    }

    /// The result of the last check.
    pub fn checked(&self) -> PathBuf {
        self.state.join("check.json")
    }

    /// Space that is given up for the way back.
    pub fn reserve(&self) -> PathBuf {
        self.state.join("reserve")
    }

    /// Snapshots of service state taken for the way back, one directory a transaction.
    pub fn snapshots(&self) -> PathBuf {
        self.state.join("state")
    }

    /// What the operator set with `nodectl set`.
    pub fn operator_parameters(&self) -> PathBuf {
        self.config.join("node.toml.d").join("90-nodectl-set.toml")
    }

    /// The operator's main configuration file.
    pub fn node_toml(&self) -> PathBuf {
        self.config.join("node.toml")
    }

    /// Directory of the operator's further configuration files.
    pub fn node_toml_d(&self) -> PathBuf {
        self.config.join("node.toml.d")
    }

    /// Public keys and the policy that says which key may sign what.
    pub fn trust(&self) -> PathBuf {
        self.config.join("trust")
    }

    /// Directory of secrets, one file each.
    pub fn secrets(&self) -> PathBuf {
        self.config.join("secrets")
    }

    /// The node lock.
    pub fn lock(&self) -> PathBuf {
        self.run.join("lock")
    }

    /// Records of what the running services were started from.
    pub fn running(&self) -> PathBuf {
        self.run.join("running")
    }

    /// What processes of services leave to their successors, one file a service.
    pub fn handover(&self) -> PathBuf {
        self.run.join("handover")
    }

    /// Units of services that the new set no longer has, kept until they are stopped.
    pub fn retired(&self) -> PathBuf {
        self.run.join("retired")
    }
}

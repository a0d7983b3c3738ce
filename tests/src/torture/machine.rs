//! The node under test: its directories on the disk, and the engine over them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use node_agent::engine::Engine;
use node_agent::root::Roots;

use super::played::{self, Played};
use crate::{registry, tiny};

/// The node: `disk/` is where its disk is mounted, `run/` is its tmpfs.
#[derive(Debug, Clone)]
pub struct Machine {
    base: PathBuf,
}

impl Machine {
    /// The node in this directory, which holds the mount point.
    pub fn new(base: &Path) -> Self {
        Self {
            base: base.to_owned(),
        }
    }

    /// Where its disk is mounted.
    pub fn disk(&self) -> PathBuf {
        self.base.join("disk")
    }

    /// Where everything of nodectl is.
    pub fn roots(&self) -> Roots {
        Roots {
            state: self.disk().join("state"),
            config: self.disk().join("etc"),
            run: self.base.join("run"),
        }
    }

    /// Writes the operator's configuration: a registry, a key, and no old deployments kept.
    ///
    /// # Errors
    /// The disk refuses it.
    pub fn configure(&self, key: &str) -> Result<()> {
        let roots = self.roots();
        for directory in [&roots.state, &roots.trust()] {
            fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
        }
        let configuration = format!(
            "[registries]\ninsecure_http = [\"{}\"]\n\n[retention]\nkeep = 0\n\n[probation]\nwindow_sec = 2\n",
            registry::from_nodes()
        );
        let policy = format!(
            "[[repository]]\nname = \"{}/{}\"\nkeys = [\"key.pub\"]\n",
            registry::from_nodes(),
            tiny::REPOSITORY
        );
        fs::write(roots.node_toml(), configuration)?;
        fs::write(roots.trust().join("policy.toml"), policy)?;
        fs::write(roots.trust().join("key.pub"), key)?;
        Ok(())
    }

    /// A boot begins: every process is gone, and with them what was only in memory.
    ///
    /// # Errors
    /// The run directory cannot be made anew.
    pub fn boot(&self, identity: &str) -> Result<()> {
        let run = self.roots().run;
        crate::cache::remove(&run)?;
        fs::create_dir_all(&run).with_context(|| format!("create {}", run.display()))?;
        fs::write(run.join("boot-id"), identity).context("write the identity of the boot")
    }

    /// From now on until it boots the node takes its disk for empty: what would be refused beforehand begins.
    ///
    /// # Errors
    /// The run directory refuses it.
    pub fn believe_in_room(&self) -> Result<()> {
        fs::write(self.roots().run.join(played::ROOM), "").context("make the node believe in room")
    }

    /// The engine and what is played to it, as a new process has them.
    ///
    /// # Errors
    /// What runs cannot be read.
    pub fn engine(&self) -> Result<(Engine, Arc<Played>)> {
        let roots = self.roots();
        let (ports, played) = played::ports(&roots)?;
        Ok((Engine::new(roots, ports), played))
    }
}

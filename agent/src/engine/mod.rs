//! The engine: moves a node from one deployment to another, and answers what it runs.
//!
//! Decisions are in [`crate::plan`] and [`crate::machine`]; here they meet the world, through
//! [`crate::ports`]. Every operation that changes something holds the node lock for as long as it
//! runs; noded and `nodectl --direct` use the same engine under the same lock.

mod activate;
mod check;
mod consider;
mod deadline;
mod drain;
mod journal;
mod judged;
mod lost;
mod maintenance;
mod observe;
mod operation;
mod outcome;
mod planned;
mod prestop;
mod probation;
mod recover;
mod report;
mod run;
mod services;
mod snapshot;
mod status;
mod verbs;

use node_images::store::Locked;

pub use check::Depth;
pub use journal::{Claim, Claimant, Transaction};
pub use report::{EventSink, Reporter, silent};
pub use verbs::UpgradeOptions;

use crate::error::{AgentError, Kind, Result};
use crate::ports::{Ports, real};
use crate::root::Roots;

/// The engine of one node.
#[derive(Debug, Clone)]
pub struct Engine {
    roots: Roots,
    ports: Ports,
}

impl Engine {
    /// For the node with these roots. Nothing is opened before the first call.
    pub fn new(roots: Roots, ports: Ports) -> Self {
        Engine { roots, ports }
    }

    /// For this host, with the real ports. Nothing is opened before the first call.
    pub fn of_this_host(roots: Roots) -> Self {
        let ports = real::ports(&roots, real::Stage::Up);
        Engine::new(roots, ports)
    }

    /// For this host before a bus runs: for [`Engine::recover`] at boot.
    pub fn of_this_host_at_boot(roots: Roots) -> Self {
        let ports = real::ports(&roots, real::Stage::Boot);
        Engine::new(roots, ports)
    }

    /// Where everything is.
    pub fn roots(&self) -> &Roots {
        &self.roots
    }

    /// Takes the node lock.
    fn lock(&self) -> Result<Locked> {
        for directory in [&self.roots.run, &self.roots.state] {
            node_images::durable::create_directories(directory)
                .map_err(|e| AgentError::io("create", directory, e))?;
        }
        Locked::acquire(&self.roots.lock()).map_err(|e| match &e {
            node_images::error::LockError::Busy { .. } => {
                AgentError::new(Kind::Locked, "another operation is running on this node")
                    .because(e)
                    .hint("wait for it, or watch it with `nodectl events`")
            }
            node_images::error::LockError::Io { .. } => {
                AgentError::from_leaf(Kind::Other, "can't take the node lock", e)
            }
        })
    }

    /// Refuses to begin anything while a transaction is open.
    fn require_closed(&self) -> Result<()> {
        match Transaction::load(&self.roots)? {
            None => Ok(()),
            Some(t) => Err(AgentError::vetoed(format!(
                "the {} to deployment {} is still open ({})",
                t.movement.kind, t.movement.to, t.phase
            ))
            .hint("`nodectl recover` finishes it or goes back")),
        }
    }
}

/// Name of a service's unit.
fn unit_of(service: &str) -> String {
    format!("{service}.service")
}

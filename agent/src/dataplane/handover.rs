//! The parts of a handover.

use std::path::{Path, PathBuf};

use nix::time::{ClockId, clock_gettime};
use node_images::durable;

use super::database;
use super::inside::Service;
use super::saved::{Saved, Task, task};
use super::script;
use crate::error::{AgentError, Kind, Result};

/// How a new ovs-vswitchd came to handle packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finished {
    /// Nothing was left to it: a first start, or a predecessor that crashed.
    Begun,
    /// It took over.
    TookOver {
        /// What.
        saved: Saved,
        /// Time in which nobody handled packets of new flows, in milliseconds.
        window_ms: u64,
    },
    /// It could not take over, nor could those before it.
    GaveUp,
}

/// Before the stop: saves what is in memory only and makes the next process wait for it.
///
/// # Errors
/// ovs-vswitchd or the database does not answer. Then the next process begins with empty tables.
pub fn save(service: &Service) -> Result<Saved> {
    forget(service)?;
    let bridges = service.bridges()?;
    service.run(script::HOLD)?;
    let saved = Saved {
        bridges,
        at_ms: monotonic_ms(),
        attempts: 0,
    };
    store(service, &saved)?;
    Ok(saved)
}

/// Before the start: whether something was left to the next process, which is made to wait for it. It was told so
/// before; but where conf.db was put back to what it was before an upgrade, nobody has.
///
/// # Errors
/// The database does not answer. Then the next process begins with empty tables, until [`finish`].
pub fn hold(service: &Service) -> Result<bool> {
    match task(load(service)?) {
        Task::Begin | Task::GiveUp => Ok(false),
        Task::TakeOver(_) => database::hold().map(|()| true),
    }
}

/// After the start: gives the new process, `main`, what was left to it and lets it handle packets.
///
/// # Errors
/// Not all of it could be put back, or a port is not where it was. What was saved and `flow-restore-wait` stay for the
/// next attempt, which is to be another process: the kernel's datapath forwards what it knows until then.
pub fn finish(service: &Service, main: u32) -> Result<Finished> {
    match task(load(service)?) {
        Task::Begin => {
            service.run(script::BEGIN)?;
            Ok(Finished::Begun)
        }
        Task::GiveUp => {
            service.run(script::BEGIN)?;
            forget(service)?;
            Ok(Finished::GaveUp)
        }
        Task::TakeOver(saved) => {
            store(service, &saved)?;
            service.run(&script::take_over(&saved, main))?;
            let window_ms = monotonic_ms().saturating_sub(saved.at_ms);
            forget(service)?;
            Ok(Finished::TookOver { saved, window_ms })
        }
    }
}

/// What was left; a document that can't be read is as good as none.
fn load(service: &Service) -> Result<Option<Saved>> {
    let path = path(service);
    match std::fs::read(&path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes)
            .inspect_err(|e| tracing::warn!("{} is damaged: {e}", path.display()))
            .ok()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(AgentError::io("read", &path, e)),
    }
}

fn store(service: &Service, saved: &Saved) -> Result<()> {
    let path = path(service);
    let directory = path.parent().unwrap_or(Path::new("/"));
    durable::create_directories(directory).map_err(|e| AgentError::io("create", directory, e))?;
    let failed = |e| AgentError::from_leaf(Kind::Other, "can't keep what is handed over", e);
    let bytes = serde_json::to_vec(saved)
        .map_err(|e| AgentError::other("can't keep what is handed over").because(e))?;
    durable::write_file(&path, &bytes, 0o600).map_err(failed)
}

fn forget(service: &Service) -> Result<()> {
    let path = path(service);
    match std::fs::remove_file(&path) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(AgentError::io("remove", &path, e)),
    }
}

fn path(service: &Service) -> PathBuf {
    service.roots.handover().join(format!("{}.json", service.name))
}

fn monotonic_ms() -> u64 {
    // The kernel always has this clock.
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(std::time::Duration::from);
    now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}

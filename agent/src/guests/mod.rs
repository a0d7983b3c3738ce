//! Guests of libvirt on this host: what is known about them, and what that allows. Pure; the facts come from
//! `ports/real/guests`.
//!
//! Everything is read without asking libvirt's daemon, which may be down or stuck when it matters: processes from
//! proc_pid(5), and libvirt's own status files, from which a daemon that starts finds its guests again.

mod judge;
mod process;
mod record;

use std::path::PathBuf;

pub use judge::{agree, may_stop};
pub use process::{CommandLine, Place, Process, place, read_command_line};
pub use record::{Record, RecordError};

/// Whether systemd-machined answers for a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Registration {
    /// It is a machine.
    Known,
    /// machined says that it is none.
    Unknown,
    /// machined did not answer; why.
    NoAnswer(String),
}

/// A guest that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guest {
    /// Its QEMU.
    pub process: Process,
    /// What machined says about it.
    pub registration: Registration,
    /// What libvirt has on record about it; `None` if nothing.
    pub record: Option<Record>,
    /// Files without which libvirt can't take it over again, and that are not there.
    pub missing: Vec<PathBuf>,
}

/// The unit of libvirt's daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonUnit {
    /// Name of the unit.
    pub name: String,
    /// Its `KillMode=`, with drop-ins (systemd.kill(5)).
    pub kill_mode: String,
}

/// What is known before libvirt's daemon is stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The daemon's unit.
    pub unit: DaemonUnit,
    /// Whether the kernel offers any cgroup controller. Without one libvirt leaves cgroups alone and registers
    /// no machines: guests stay in the daemon's own cgroup.
    pub controllers: bool,
    /// Guests that run.
    pub guests: Vec<Guest>,
    /// Status files that can't be read or understood, with the reason.
    pub unreadable: Vec<String>,
}

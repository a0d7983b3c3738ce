//! The handover between two processes of ovs-vswitchd: what one keeps in memory alone, its successor gets back before it
//! handles packets.
//!
//! The kernel's datapath goes on forwarding what it has flows for while no ovs-vswitchd runs. What it does not know is
//! dropped then, and a new ovs-vswitchd begins by flushing it: with empty OpenFlow tables on a bridge whose flows nobody
//! programs anew, that is the end of all traffic. So
//!
//! ```text
//! ExecStop       save     tables, groups, meters and tunnel fields of all bridges, and the numbers of their ports
//!                         flow-restore-wait=true: the next process neither flushes nor handles packets
//!                stop                                                  ─┐
//! ExecStartPre   hold     flow-restore-wait=true once more: conf.db may │
//!                         be another one by now                         │
//!                start                                                  │ window: packets of new flows are dropped
//! ExecStartPost  finish   put back all of it                            │
//!                         ports have the numbers that they had, no      │
//!                         flow is missing                               │
//!                         flow-restore-wait removed: flushes, handles  ─┘
//! ```
//!
//! All are commands of the unit. So it holds for every restart, also by hand, by systemd, backwards, and when noded is
//! killed in the middle: systemd finishes the job, and no ovs-vswitchd stays up with flow-restore-wait set.
//!
//! [`text`] reads what the tools of Open vSwitch print, [`script`] writes what they are to do; both are pure.
//! [`inside`] runs it in the service's container, with the tools of the version that runs there; [`database`] asks
//! ovsdb-server itself, since before a start there is no container.

mod database;
mod handover;
mod inside;
mod saved;
pub mod script;
pub mod text;

pub use handover::{Finished, finish, hold, save};
pub use inside::Service;
pub use saved::{Bridge, Saved};

//! What `nodectl` asks and `noded` answers: the same documents whether they cross D-Bus or stay in one process.
//!
//! A [`Request`] changes something or works for long and runs as the single operation of the node; a [`Query`] only
//! reads. Both end in a [`Report`] or a [`Failure`]. An [`Agent`] is whoever can carry them out.

mod agent;
mod failure;
mod report;
mod request;

pub use agent::{Agent, EventSender};
pub use failure::{Failed, Failure};
pub use report::{Acknowledgement, History, Report};
pub use request::{Query, Request, UpgradeMode};

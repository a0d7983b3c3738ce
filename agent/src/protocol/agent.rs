//! Whoever carries out requests: the engine of this node, or a script in a test.

use std::sync::Arc;

use super::{Failure, Query, Report, Request};
use crate::api::Event;

/// Where the events of an operation go, in order. Called from the operation's thread; must not block for long.
pub type EventSender = Arc<dyn Fn(Event) + Send + Sync>;

/// Carries out requests and answers queries.
///
/// Both calls block until they are done and are made on threads of their own, never on one that serves D-Bus.
pub trait Agent: Send + Sync {
    /// Carries out one operation.
    ///
    /// # Errors
    ///
    /// When the request was not carried out; the failure has the exit code.
    fn run(&self, request: &Request, events: EventSender) -> Result<Report, Failure>;

    /// Answers a question, also while an operation runs.
    ///
    /// # Errors
    ///
    /// When the node's state can't be read.
    fn query(&self, query: &Query) -> Result<Report, Failure>;

    /// Whether a transaction was left open by an earlier run, so that it has to be resumed.
    ///
    /// # Errors
    ///
    /// When the node's state can't be read.
    fn interrupted(&self) -> Result<bool, Failure>;
}

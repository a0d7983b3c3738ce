//! The engine of this host, behind the same interface as noded.

use crate::error::ExitCode;
use crate::protocol::{Agent, EventSender, Failure, Query, Report, Request};
use crate::root::Roots;

/// Carries out requests in this process, under the node lock.
#[derive(Debug, Clone)]
pub struct LocalAgent {
    roots: Roots,
}

impl LocalAgent {
    /// For the node with these roots. Nothing is opened before the first call.
    pub fn new(roots: Roots) -> Self {
        Self { roots }
    }
}

impl Agent for LocalAgent {
    fn run(&self, request: &Request, _events: EventSender) -> Result<Report, Failure> {
        Err(Failure::new(
            ExitCode::Other,
            format!("{} {}", request.verb(), self.roots.state.display()),
        ))
    }

    fn query(&self, _query: &Query) -> Result<Report, Failure> {
        Err(Failure::new(ExitCode::Other, "query"))
    }

    fn interrupted(&self) -> Result<bool, Failure> {
        Ok(false)
    }
}

//! The one operation that may run, on its own thread, and how it ended.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::EventLog;
use crate::error::ExitCode;
use crate::protocol::{Agent, Failure, Report, Request};

/// How a request or a query ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// It was carried out.
    Report(Box<Report>),
    /// It was not.
    Failure(Failure),
}

impl From<Result<Report, Failure>> for Answer {
    fn from(result: Result<Report, Failure>) -> Self {
        match result {
            Ok(report) => Self::Report(Box::new(report)),
            Err(failure) => Self::Failure(failure),
        }
    }
}

impl From<Answer> for Result<Report, Failure> {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Report(report) => Ok(*report),
            Answer::Failure(failure) => Err(failure),
        }
    }
}

/// Another operation is running.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("another operation is running: {verb} (number {id})")]
pub struct Busy {
    /// Its verb.
    pub verb: &'static str,
    /// Its number since the daemon started.
    pub id: u64,
}

/// The operation that runs, or the last one that ran.
#[derive(Debug, Clone)]
struct Operation {
    id: u64,
    verb: &'static str,
    answer: watch::Receiver<Option<Answer>>,
}

/// Runs operations, one at a time. They belong to the daemon, not to whoever asked: a caller may go away.
pub struct Operations {
    agent: Arc<dyn Agent>,
    events: Arc<EventLog>,
    newest: Mutex<Option<Operation>>,
}

impl Operations {
    /// Nothing runs yet.
    pub fn new(agent: Arc<dyn Agent>) -> Self {
        Self {
            agent,
            events: Arc::default(),
            newest: Mutex::new(None),
        }
    }

    /// Who carries out the operations.
    pub fn agent(&self) -> &Arc<dyn Agent> {
        &self.agent
    }

    /// What they report.
    pub fn events(&self) -> &Arc<EventLog> {
        &self.events
    }

    /// Starts an operation and gives its number, without waiting for it.
    ///
    /// # Errors
    ///
    /// When another one is running.
    pub fn start(&self, request: Request) -> Result<u64, Busy> {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let id = match newest.as_ref() {
            Some(Operation { id, verb, answer }) if answer.borrow().is_none() => {
                return Err(Busy { verb, id: *id });
            }
            Some(ended) => ended.id + 1,
            None => 1,
        };
        let (sender, answer) = watch::channel(None);
        *newest = Some(Operation {
            id,
            verb: request.verb(),
            answer,
        });
        let agent = Arc::clone(&self.agent);
        let events = Arc::clone(&self.events);
        thread::spawn(move || {
            let result = carry_out(agent.as_ref(), &request, &events);
            sender.send_replace(Some(result.into()));
        });
        Ok(id)
    }

    /// Waits for an operation to end and says how; number 0 is the newest one. `None` when there is no such operation
    /// any more, for example because the daemon was restarted.
    pub async fn wait(&self, id: u64) -> Option<Answer> {
        let mut answer = {
            let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
            let operation = newest
                .as_ref()
                .filter(|operation| id == 0 || operation.id == id)?;
            operation.answer.clone()
        };
        let ended = answer.wait_for(Option::is_some).await.ok()?;
        ended.clone()
    }
}

impl std::fmt::Debug for Operations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Operations")
            .field("newest", &self.newest)
            .finish_non_exhaustive()
    }
}

/// A panic in the engine ends the operation, not the daemon: what it left open is resumed like after a crash.
fn carry_out(agent: &dyn Agent, request: &Request, events: &Arc<EventLog>) -> Result<Report, Failure> {
    let log = Arc::clone(events);
    let sender = Arc::new(move |event| log.push(event));
    catch_unwind(AssertUnwindSafe(|| agent.run(request, sender))).unwrap_or_else(|_| {
        let message = format!(
            "{} ended with an internal error; noded's journal has it",
            request.verb()
        );
        Err(Failure::new(ExitCode::Other, message)
            .with_hint("nodectl recover finishes or reverts what was interrupted"))
    })
}

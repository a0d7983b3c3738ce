//! noded: the engine behind `org.nodectl.Agent1` on the system bus.
//!
//! It holds nothing that a restart would lose: the journal of a transaction is on disk, and what was interrupted is
//! resumed at start. Between requests it sleeps. Operations run on threads of their own, so that status, history and
//! progress are answered at any time.

mod client;
mod client_error;
mod event_log;
mod interface;
mod operations;
mod proxy;
mod seen;

use std::process::ExitCode as ProcessExit;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use zbus::Connection;
use zbus::connection::Builder;

use crate::local::LocalAgent;
use crate::protocol::{Agent, Request};
use crate::root::Roots;

pub use client::{Client, ClientError};
pub use event_log::EventLog;
pub use interface::Interface;
pub use operations::{Busy, Operations};
pub use proxy::Agent1Proxy;

/// Name on the bus.
pub const BUS_NAME: &str = "org.nodectl.Agent1";
/// Path of the one object.
pub const OBJECT_PATH: &str = "/org/nodectl/Agent1";

/// The program: logging, the engine of this host, the system bus.
#[must_use]
pub fn main() -> ProcessExit {
    crate::log::for_daemon();
    let agent = Arc::new(LocalAgent::new(Roots::default()));
    let result = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("can't start the runtime")
        .and_then(|runtime| runtime.block_on(run(agent)));
    match result {
        Ok(()) => ProcessExit::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ProcessExit::FAILURE
        }
    }
}

async fn run(agent: Arc<dyn Agent>) -> anyhow::Result<()> {
    // Before anybody is told that the daemon is ready: from then on it may be asked to end.
    let mut terminate = signal(SignalKind::terminate()).context("can't listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("can't listen for SIGINT")?;
    let operations = Arc::new(Operations::new(agent));
    resume(&operations);
    let connection = serve(Builder::system().name(BUS_NAME), &operations).await?;
    notify_ready();
    // A running operation is left to the next start, which resumes it.
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        () = connection.closed() => Err(anyhow::anyhow!("the bus closed the connection")),
    }
}

/// Continues what an earlier run left open. A failure is not the end: the operator has to be able to ask.
fn resume(operations: &Arc<Operations>) {
    match operations.agent().interrupted() {
        Ok(false) => {}
        Ok(true) => {
            tracing::warn!("a transaction was interrupted: resuming");
            if let Err(busy) = operations.start(Request::Recover { boot: false }) {
                tracing::error!("can't resume: {busy}");
            }
        }
        Err(failure) => tracing::error!("can't tell whether a transaction was interrupted: {failure}"),
    }
}

/// Puts the object on a connection and forwards events as signals until the connection ends.
///
/// # Errors
///
/// When the bus refuses the connection or the name.
pub async fn serve(builder: Builder<'_>, operations: &Arc<Operations>) -> anyhow::Result<Connection> {
    let connection = builder
        .serve_at(OBJECT_PATH, Interface::new(Arc::clone(operations)))
        .build()
        .await
        .context("can't serve org.nodectl.Agent1")?;
    interface::forward_events(&connection, operations);
    Ok(connection)
}

fn notify_ready() {
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        tracing::warn!("can't tell systemd that the daemon is ready: {error}");
    }
}

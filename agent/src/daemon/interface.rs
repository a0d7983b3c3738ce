//! The D-Bus interface, thin over [`Operations`].
//!
//! Documents cross the bus as JSON, the same as `--json` prints. The bus policy lets everybody read and only root
//! start operations; the daemon checks the caller's uid again, so that a policy that was edited can't open it.

use std::sync::Arc;

use tokio::task::spawn_blocking;
use zbus::fdo::DBusProxy;
use zbus::message::Header;
use zbus::names::BusName;
use zbus::object_server::SignalEmitter;
use zbus::{Connection, DBusError, interface};

use super::operations::Answer;
use super::{OBJECT_PATH, Operations};
use crate::protocol::{Query, Request};

/// Why a call was refused.
#[derive(Debug, DBusError)]
#[zbus(prefix = "org.nodectl.Agent1.Error")]
pub enum CallError {
    /// The bus or the connection.
    #[zbus(error)]
    ZBus(zbus::Error),
    /// The caller may not do that.
    AccessDenied(String),
    /// The request is not one that this version knows.
    InvalidRequest(String),
    /// Another operation is running.
    Busy(String),
    /// There is no such operation.
    UnknownOperation(String),
    /// A fault in the daemon.
    Internal(String),
}

/// `org.nodectl.Agent1`.
#[derive(Debug)]
pub struct Interface {
    operations: Arc<Operations>,
}

impl Interface {
    /// Over these operations.
    pub fn new(operations: Arc<Operations>) -> Self {
        Self { operations }
    }

    async fn answer(&self, query: Query) -> Result<String, CallError> {
        let agent = Arc::clone(self.operations.agent());
        let result = spawn_blocking(move || agent.query(&query))
            .await
            .map_err(|error| CallError::Internal(error.to_string()))?;
        encode(&Answer::from(result))
    }
}

#[interface(name = "org.nodectl.Agent1")]
impl Interface {
    /// Starts an operation (JSON, schema `request`). Returns its number and the number of the last event before it.
    /// Root only.
    #[zbus(out_args("operation", "last_event"))]
    async fn start(
        &self,
        request: &str,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(u64, u64), CallError> {
        require_owner(&header, connection).await?;
        let request: Request = request
            .parse()
            .map_err(|error: serde_json::Error| CallError::InvalidRequest(error.to_string()))?;
        tracing::info!(verb = request.verb(), "operation requested");
        let last_event = self.operations.events().last();
        let operation = self
            .operations
            .start(request)
            .map_err(|busy| CallError::Busy(busy.to_string()))?;
        Ok((operation, last_event))
    }

    /// Waits for an operation to end (0: the newest) and returns how (JSON, `report` or `failure`).
    #[zbus(out_args("answer"))]
    async fn wait(&self, operation: u64) -> Result<String, CallError> {
        let unknown = || CallError::UnknownOperation(format!("there is no operation {operation}"));
        let answer = self.operations.wait(operation).await.ok_or_else(unknown)?;
        encode(&answer)
    }

    /// What the node runs (JSON).
    #[zbus(out_args("answer"))]
    async fn status(&self) -> Result<String, CallError> {
        self.answer(Query::Status).await
    }

    /// What was done on this node (JSON): at most `limit` entries, 0 for all. Only root gets to see what the
    /// journal said.
    #[zbus(out_args("answer"))]
    async fn history(
        &self,
        limit: u32,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, CallError> {
        let with_journal = is_owner(caller(&header, connection).await?);
        self.answer(Query::History { limit, with_journal }).await
    }

    /// Events after number `seq` (JSON, schema `event`), oldest first, as far as the daemon remembers.
    #[zbus(out_args("events"))]
    async fn events_since(&self, seq: u64) -> Result<Vec<String>, CallError> {
        self.operations.events().since(seq).iter().map(encode).collect()
    }

    /// Something happened (JSON, schema `event`).
    #[zbus(signal)]
    async fn event(emitter: &SignalEmitter<'_>, seq: u64, event: &str) -> zbus::Result<()>;
}

fn encode<T: serde::Serialize>(document: &T) -> Result<String, CallError> {
    serde_json::to_string(document).map_err(|error| CallError::Internal(error.to_string()))
}

/// Lets root pass, and whoever the daemon itself runs as.
async fn require_owner(header: &Header<'_>, connection: &Connection) -> Result<(), CallError> {
    let uid = caller(header, connection).await?;
    if is_owner(uid) {
        Ok(())
    } else {
        Err(CallError::AccessDenied(format!(
            "only root may do that, and the caller has uid {uid}"
        )))
    }
}

fn is_owner(uid: u32) -> bool {
    uid == 0 || uid == nix::unistd::geteuid().as_raw()
}

/// The caller's uid, as the bus says, or the socket on a connection without a bus.
async fn caller(header: &Header<'_>, connection: &Connection) -> Result<u32, CallError> {
    let Some(sender) = header.sender() else {
        return peer_uid(connection).await;
    };
    let bus = DBusProxy::new(connection).await?;
    bus.get_connection_unix_user(BusName::from(sender.clone()))
        .await
        .map_err(|error| CallError::AccessDenied(format!("can't tell who is calling: {error}")))
}

async fn peer_uid(connection: &Connection) -> Result<u32, CallError> {
    let unknown = |reason: String| CallError::AccessDenied(format!("can't tell who is calling: {reason}"));
    let credentials = connection
        .peer_creds()
        .await
        .map_err(|error| unknown(error.to_string()))?;
    credentials
        .unix_user_id()
        .ok_or_else(|| unknown("no credentials".to_owned()))
}

/// Sends every event as a signal until the connection ends.
pub(super) fn forward_events(connection: &Connection, operations: &Arc<Operations>) {
    let events = Arc::clone(operations.events());
    let connection = connection.clone();
    tokio::spawn(async move {
        let mut newest = events.subscribe();
        let mut sent = 0;
        loop {
            for event in events.since(sent) {
                sent = event.seq;
                if let Err(error) = send(&connection, &event).await {
                    tracing::warn!("can't send event {sent}: {error}");
                }
            }
            tokio::select! {
                changed = newest.changed() => if changed.is_err() { return },
                () = connection.closed() => return,
            }
        }
    });
}

async fn send(connection: &Connection, event: &crate::api::Event) -> anyhow::Result<()> {
    let emitter = SignalEmitter::new(connection, OBJECT_PATH)?;
    Interface::event(&emitter, event.seq, &serde_json::to_string(event)?).await?;
    Ok(())
}

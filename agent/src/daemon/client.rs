//! The client of noded: asks, follows, and survives a restart of the daemon in between.
//!
//! The calls block; each client has a small runtime of its own.

use futures_util::StreamExt as _;
use tokio::runtime::{Builder as RuntimeBuilder, Runtime};
use zbus::fdo::DBusProxy;
use zbus::names::WellKnownName;
use zbus::{Connection, connection};

use super::client_error::{failure_of, is_lost, is_unknown_operation};
use super::operations::Answer;
use super::seen::Seen;
use super::{Agent1Proxy, BUS_NAME};
use crate::api::Event;
use crate::error::ExitCode;
use crate::protocol::{Failure, Query, Report, Request};

pub use super::client_error::ClientError;

/// A connection to noded.
#[derive(Debug)]
pub struct Client {
    runtime: Runtime,
    connection: Connection,
}

/// What became of an operation that was waited for.
enum Attended {
    Ended(Answer),
    /// noded ended or was killed; systemd starts it again.
    Lost,
    /// The person at the terminal has seen enough.
    Detached,
}

impl Client {
    /// Connects to the system bus and has noded started if it is not running.
    ///
    /// # Errors
    ///
    /// When there is no bus, no noded on it, or noded does not come up.
    pub fn connect() -> Result<Self, ClientError> {
        let client = Self::over(connection::Builder::system())?;
        client.runtime.block_on(activate(&client.connection))?;
        Ok(client)
    }

    /// Connects as the builder says, to a noded that is there.
    ///
    /// # Errors
    ///
    /// When the connection can't be made.
    pub fn over(builder: connection::Builder<'_>) -> Result<Self, ClientError> {
        let runtime = RuntimeBuilder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| ClientError::NoBus(zbus::Error::from(error)))?;
        let connection = runtime.block_on(builder.build()).map_err(ClientError::NoBus)?;
        Ok(Self { runtime, connection })
    }

    /// Asks a question.
    ///
    /// # Errors
    ///
    /// What noded answers, or that it can't be reached.
    pub fn query(&self, query: &Query) -> Result<Report, Failure> {
        self.runtime.block_on(async {
            let proxy = self.proxy().await?;
            let answer = match query {
                Query::Status => proxy.status().await,
                Query::History { limit, .. } => proxy.history(*limit).await,
            };
            decode::<Answer>(&answer.map_err(|error| failure_of(&error))?)?.into()
        })
    }

    /// Has an operation carried out: every event goes to `on_event`, what the person at the terminal should know about
    /// the connection goes to `remark`. The operation goes on when this process ends.
    ///
    /// # Errors
    ///
    /// What noded answers, or that it can't be reached.
    pub fn run(
        &self,
        request: &Request,
        on_event: &dyn Fn(Event),
        remark: &dyn Fn(&str),
    ) -> Result<Report, Failure> {
        let text = serde_json::to_string(request)
            .map_err(|error| Failure::new(ExitCode::Other, format!("can't encode the request: {error}")))?;
        self.runtime.block_on(async {
            let proxy = self.proxy().await?;
            let mut signals = proxy.receive_event().await.map_err(|error| failure_of(&error))?;
            let (operation, last_event) = proxy.start(&text).await.map_err(|error| failure_of(&error))?;
            let mut attended = attend(&proxy, &mut signals, operation, last_event, on_event, remark).await?;
            if matches!(attended, Attended::Lost) {
                remark("noded went away in between; waiting for it to come back");
                attended = attend(&proxy, &mut signals, 0, 0, on_event, remark).await?;
            }
            match attended {
                Attended::Ended(answer) => answer.into(),
                Attended::Lost => Err(lost()),
                Attended::Detached => Err(detached(request)),
            }
        })
    }

    /// Gives every event to `on_event` until that says stop: first those after number `since` that noded remembers,
    /// then, with `wait`, those to come. Without `since` nothing is replayed if it waits, everything if it does not.
    ///
    /// # Errors
    ///
    /// When noded can't be reached or goes away for good.
    pub fn follow(
        &self,
        since: Option<u64>,
        wait: bool,
        on_event: &mut dyn FnMut(&Event) -> bool,
    ) -> Result<(), Failure> {
        self.runtime.block_on(async {
            let proxy = self.proxy().await?;
            let mut signals = proxy.receive_event().await.map_err(|error| failure_of(&error))?;
            let mut last = 0;
            if let Some(from) = since.or((!wait).then_some(0)) {
                for event in events_since(&proxy, from).await? {
                    last = event.seq;
                    if !on_event(&event) {
                        return Ok(());
                    }
                }
            }
            if wait {
                stream(&mut signals, Seen::up_to(last), on_event).await
            } else {
                Ok(())
            }
        })
    }

    async fn proxy(&self) -> Result<Agent1Proxy<'_>, Failure> {
        Agent1Proxy::new(&self.connection)
            .await
            .map_err(|error| failure_of(&error))
    }
}

/// Has the bus start noded, so that "not installed" and "does not start" can be told apart.
async fn activate(connection: &Connection) -> Result<(), ClientError> {
    let bus = DBusProxy::new(connection).await.map_err(ClientError::NoBus)?;
    let name = WellKnownName::from_static_str_unchecked(BUS_NAME);
    // A bus knows who can be started, and a noded that was started by hand is not among them.
    if bus
        .name_has_owner(name.clone().into())
        .await
        .map_err(ClientError::NotStarting)?
    {
        return Ok(());
    }
    match bus.start_service_by_name(name, 0).await {
        Ok(_) => Ok(()),
        Err(zbus::fdo::Error::ServiceUnknown(_)) => Err(ClientError::NotInstalled),
        Err(error) => Err(ClientError::NotStarting(error)),
    }
}

/// Passes events on until the operation has ended.
async fn attend(
    proxy: &Agent1Proxy<'_>,
    signals: &mut super::proxy::EventStream,
    operation: u64,
    last: u64,
    on_event: &dyn Fn(Event),
    remark: &dyn Fn(&str),
) -> Result<Attended, Failure> {
    let mut seen = Seen::up_to(last);
    let ended = proxy.wait(operation);
    tokio::pin!(ended);
    let mut interrupted = false;
    let answer = loop {
        tokio::select! {
            answer = &mut ended => break answer,
            Some(signal) = signals.next() => {
                let event = event_of(&signal)?;
                if seen.is_new(sender_of(&signal), event.seq) {
                    on_event(event);
                }
            }
            Ok(()) = tokio::signal::ctrl_c() => {
                if interrupted {
                    return Ok(Attended::Detached);
                }
                interrupted = true;
                remark("the operation goes on in noded; Ctrl-C again leaves it running in the background");
            }
        }
    };
    match answer {
        Ok(text) => {
            for event in events_since(proxy, seen.last()).await? {
                on_event(event);
            }
            Ok(Attended::Ended(decode(&text)?))
        }
        Err(error) if is_lost(&error) => Ok(Attended::Lost),
        Err(error) if operation == 0 && is_unknown_operation(&error) => Err(lost()),
        Err(error) => Err(failure_of(&error)),
    }
}

/// Gives the events to come to `on_event`, except those that it has seen.
async fn stream(
    signals: &mut super::proxy::EventStream,
    mut seen: Seen,
    on_event: &mut dyn FnMut(&Event) -> bool,
) -> Result<(), Failure> {
    while let Some(signal) = signals.next().await {
        let event = event_of(&signal)?;
        if seen.is_new(sender_of(&signal), event.seq) && !on_event(&event) {
            return Ok(());
        }
    }
    Err(lost())
}

fn sender_of(signal: &super::proxy::Event) -> Option<String> {
    signal.message().header().sender().map(ToString::to_string)
}

async fn events_since(proxy: &Agent1Proxy<'_>, seq: u64) -> Result<Vec<Event>, Failure> {
    let events = proxy
        .events_since(seq)
        .await
        .map_err(|error| failure_of(&error))?;
    events.iter().map(|text| decode(text)).collect()
}

fn event_of(signal: &super::proxy::Event) -> Result<Event, Failure> {
    let arguments = signal.args().map_err(|error| failure_of(&error))?;
    decode(arguments.event())
}

fn decode<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, Failure> {
    serde_json::from_str(text).map_err(|error| {
        Failure::new(
            ExitCode::Other,
            format!("noded answers what this nodectl does not understand: {error}"),
        )
        .with_hint("systemctl restart noded, if it is older than nodectl")
    })
}

fn lost() -> Failure {
    Failure::new(
        ExitCode::Unavailable,
        "noded went away before the operation ended",
    )
    .with_hint("nodectl status shows what the node runs, nodectl history how it came to that")
}

fn detached(request: &Request) -> Failure {
    Failure::new(ExitCode::Other, format!("{} goes on in noded", request.verb()))
        .with_hint("nodectl events --since 0 follows it")
}

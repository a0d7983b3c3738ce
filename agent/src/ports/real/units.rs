//! systemd over D-Bus.

use std::time::Duration;

use async_trait::async_trait;
use node_systemd::journal::{self, Query};
use node_systemd::state::{ActiveState, LoadState};
use node_systemd::{Error, JobResult, Systemd, UnitName, UnitStatus};
use tokio::sync::Mutex;

use super::Stage;
use crate::error::{AgentError, Kind, Result};
use crate::ports::{Changing, UnitState, Units};

/// Time for calls that start no job.
const CALL: Duration = Duration::from_secs(30);
/// Time for systemd to read all units anew; generators run meanwhile.
const RELOAD: Duration = Duration::from_secs(90);

/// systemd, connected at the first call.
#[derive(Debug)]
pub(super) struct Systemd1 {
    when: Stage,
    connection: Mutex<Option<Systemd>>,
}

impl Systemd1 {
    pub fn new(when: Stage) -> Self {
        Systemd1 {
            when,
            connection: Mutex::new(None),
        }
    }

    /// The connection; a new one if there is none or the last one broke.
    async fn systemd(&self) -> Result<Systemd> {
        let mut connection = self.connection.lock().await;
        if let Some(systemd) = connection.as_ref() {
            return Ok(systemd.clone());
        }
        let connected = match self.when {
            Stage::Up => Systemd::connect().await,
            Stage::Boot => Systemd::connect_private().await,
        };
        let systemd = connected.map_err(|e| failed("can't reach systemd", e))?;
        Ok(connection.insert(systemd).clone())
    }

    /// Asks systemd. A restart of the bus or of systemd itself ends a connection: what may be repeated is then asked
    /// once more over a new one.
    async fn ask<T, F>(&self, question: impl Fn(Systemd) -> F) -> Result<std::result::Result<T, Error>>
    where
        F: Future<Output = std::result::Result<T, Error>>,
    {
        let answer = question(self.systemd().await?).await;
        if !matches!(answer, Err(Error::Disconnected { .. })) {
            return Ok(answer);
        }
        *self.connection.lock().await = None;
        Ok(question(self.systemd().await?).await)
    }
}

impl Systemd1 {
    async fn status(&self, unit: &str) -> Result<UnitStatus> {
        let name = &name(unit)?;
        let asked = tokio::time::timeout(CALL, self.ask(async |systemd| systemd.status(name).await));
        let answer = asked.await.map_err(|_| {
            AgentError::new(
                Kind::Unavailable,
                format!("systemd did not answer about {unit} within {} s", CALL.as_secs()),
            )
        })?;
        answer?.map_err(|e| failed(format!("can't ask systemd about {unit}"), e))
    }
}

fn failed(message: impl Into<String>, e: Error) -> AgentError {
    let kind = match &e {
        Error::Unreachable { .. } | Error::Disconnected { .. } => Kind::Unavailable,
        _ => Kind::Other,
    };
    AgentError::new(kind, message).because(e)
}

fn name(unit: &str) -> Result<UnitName> {
    UnitName::parse(unit).map_err(|e| AgentError::other(format!("{unit} is no unit")).because(e))
}

/// A job that did not end well, and a unit that can't be started at all, are answers, not errors.
fn job(
    verb: &str,
    unit: &str,
    result: std::result::Result<JobResult, Error>,
) -> Result<std::result::Result<(), String>> {
    match result {
        Ok(result) if result.succeeded() => Ok(Ok(())),
        Ok(result) => Ok(Err(format!("result {}", result.as_str()))),
        Err(e @ (Error::Unreachable { .. } | Error::Disconnected { .. })) => {
            Err(failed(format!("can't {verb} {unit}"), e))
        }
        Err(e) => Ok(Err(e.to_string())),
    }
}

#[async_trait]
impl Units for Systemd1 {
    async fn daemon_reload(&self) -> Result<()> {
        let reloaded = self
            .ask(async |systemd| systemd.daemon_reload(RELOAD).await)
            .await?;
        reloaded.map_err(|e| failed("can't make systemd read its units anew", e))
    }

    async fn start(&self, unit: &str, deadline: Duration) -> Result<std::result::Result<(), String>> {
        let name = &name(unit)?;
        job(
            "start",
            unit,
            self.ask(async |systemd| systemd.start(name, deadline).await)
                .await?,
        )
    }

    async fn enqueue_start(&self, unit: &str) -> Result<()> {
        let name = &name(unit)?;
        let queued = self
            .ask(async |systemd| systemd.enqueue_start(name).await)
            .await?;
        queued.map_err(|e| failed(format!("can't queue the start of {unit}"), e))
    }

    async fn stop(&self, unit: &str, deadline: Duration) -> Result<std::result::Result<(), String>> {
        let name = &name(unit)?;
        match self
            .ask(async |systemd| systemd.stop(name, deadline).await)
            .await?
        {
            // What systemd does not know does not run.
            Err(Error::NoSuchUnit { .. }) => Ok(Ok(())),
            result => job("stop", unit, result),
        }
    }

    async fn reset_failed(&self, unit: &str) -> Result<()> {
        let name = &name(unit)?;
        match self.ask(async |systemd| systemd.reset_failed(name).await).await? {
            Ok(()) | Err(Error::NoSuchUnit { .. }) => Ok(()),
            Err(e) => Err(failed(format!("can't reset {unit}"), e)),
        }
    }

    async fn state(&self, unit: &str) -> Result<UnitState> {
        let status = self.status(unit).await?;
        let changing = match status.active {
            ActiveState::Activating => Changing::Up,
            ActiveState::Deactivating => Changing::Down,
            ActiveState::Active
            | ActiveState::Reloading
            | ActiveState::Inactive
            | ActiveState::Failed
            | ActiveState::Maintenance
            | ActiveState::Unknown(_) => Changing::No,
        };
        Ok(UnitState {
            loaded: status.load == LoadState::Loaded,
            active: matches!(status.active, ActiveState::Active | ActiveState::Reloading),
            changing,
            failed: status.active == ActiveState::Failed,
            main_pid: status.main_pid,
            restarts: status.n_restarts,
            result: status.result.as_str().to_owned(),
            active_since_usec: status.active_enter_usec,
        })
    }

    async fn journal(&self, unit: &str, lines: u32) -> Vec<String> {
        let Ok(name) = name(unit) else { return Vec::new() };
        match journal::read(&Query::last(name, lines), CALL).await {
            Ok(lines) => lines
                .into_iter()
                .map(|l| format!("{}: {}", l.identifier, l.message))
                .collect(),
            Err(e) => vec![format!("(the journal of {unit} can't be read: {e})")],
        }
    }
}

//! systemd over D-Bus.

use std::pin::Pin;
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

/// Makes a connection to systemd.
type Connect =
    dyn Fn() -> Pin<Box<dyn Future<Output = std::result::Result<Systemd, Error>> + Send>> + Send + Sync;

/// systemd, connected at the first call.
pub(super) struct Systemd1 {
    connect: Box<Connect>,
    connection: Mutex<Option<Systemd>>,
}

impl Systemd1 {
    pub fn new(stage: Stage) -> Self {
        Self::over(match stage {
            Stage::Up => Box::new(|| Box::pin(Systemd::connect())),
            Stage::Boot => Box::new(|| Box::pin(Systemd::connect_private())),
        })
    }

    fn over(connect: Box<Connect>) -> Self {
        Systemd1 {
            connect,
            connection: Mutex::new(None),
        }
    }

    /// The connection; a new one if there is none or the last one broke.
    async fn systemd(&self) -> Result<Systemd> {
        let mut connection = self.connection.lock().await;
        if let Some(systemd) = connection.as_ref() {
            return Ok(systemd.clone());
        }
        let systemd = (self.connect)()
            .await
            .map_err(|e| failed("can't reach systemd", e))?;
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

    async fn restart(&self, unit: &str, deadline: Duration) -> Result<std::result::Result<(), String>> {
        let name = &name(unit)?;
        job(
            "restart",
            unit,
            self.ask(async |systemd| systemd.restart(name, deadline).await)
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
            kill_mode: status.kill_mode,
        })
    }

    async fn journal(&self, unit: &str, lines: u32) -> Vec<String> {
        let Ok(name) = name(unit) else { return Vec::new() };
        // Only the last run: what an earlier one said would pass for the reason of this failure.
        let invocation = self.status(unit).await.map(|status| status.invocation_id);
        let query = Query {
            invocation_id: invocation.ok().filter(|id| !id.is_empty()),
            ..Query::last(name, lines)
        };
        match journal::read(&query, CALL).await {
            Ok(lines) => lines
                .into_iter()
                .map(|l| format!("{}: {}", l.identifier, l.message))
                .collect(),
            Err(e) => vec![format!("(the journal of {unit} can't be read: {e})")],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use node_systemd::fake::FakeSystemd;

    use super::*;

    #[tokio::test]
    async fn a_connection_that_broke_is_made_anew_and_the_question_asked_again() {
        let alive: Arc<Mutex<Vec<FakeSystemd>>> = Arc::default();
        let made = alive.clone();
        let systemd = Systemd1::over(Box::new(move || {
            let made = made.clone();
            Box::pin(async move {
                let (fake, systemd) = FakeSystemd::start().await?;
                fake.add(&UnitName::parse("a.service").unwrap());
                made.lock().await.push(fake);
                Ok(systemd)
            })
        }));
        let start = || systemd.start("a.service", CALL);
        assert_eq!(start().await.unwrap(), Ok(()));
        assert!(systemd.state("a.service").await.unwrap().active);
        assert_eq!(
            alive.lock().await.len(),
            1,
            "one connection serves many questions"
        );
        alive.lock().await.clear();
        assert_eq!(start().await.unwrap(), Ok(()));
        assert_eq!(alive.lock().await[0].calls(), ["start a.service"]);
    }
}

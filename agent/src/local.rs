//! The engine of this host, behind the same interface as noded.

use std::collections::BTreeMap;

use crate::engine::{Engine, UpgradeOptions};
use crate::error::{AgentError, Result as AgentResult};
use crate::protocol::{Agent, EventSender, Failure, History, Query, Report, Request, UpgradeMode};
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

    fn engine(&self) -> AgentResult<Engine> {
        Engine::of_this_host(self.roots.clone())
    }
}

/// Every call gets a runtime of its own: calls come from threads that have none.
fn block_on<T>(work: impl Future<Output = AgentResult<T>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| AgentError::other("can't start the worker threads").because(e))?;
    Ok(runtime.block_on(work)?)
}

impl Agent for LocalAgent {
    fn run(&self, request: &Request, events: EventSender) -> Result<Report, Failure> {
        let engine = self.engine()?;
        block_on(carry_out(&engine, request, events))
    }

    fn query(&self, query: &Query) -> Result<Report, Failure> {
        let engine = self.engine()?;
        match query {
            Query::Status => Ok(Report::Status(block_on(engine.status())?)),
            Query::History { limit } => Ok(Report::History(History {
                entries: engine.history(usize::try_from(*limit).unwrap_or(usize::MAX))?,
            })),
        }
    }

    fn interrupted(&self) -> Result<bool, Failure> {
        Ok(self.engine()?.interrupted()?)
    }
}

async fn carry_out(engine: &Engine, request: &Request, events: EventSender) -> AgentResult<Report> {
    Ok(match request {
        Request::Upgrade {
            reference,
            mode,
            force,
        } => upgrade(engine, reference.as_deref(), *mode, *force, events).await?,
        Request::Plan { reference } => Report::Plan(engine.plan(reference.as_deref()).await?),
        Request::Rollback { deployment, force } => {
            Report::Outcome(engine.rollback(*deployment, *force, events).await?)
        }
        Request::Set { values } => {
            let values = values.iter().map(|(name, value)| (name.clone(), Some(value.clone())));
            Report::Outcome(engine.set(&values.collect(), events).await?)
        }
        Request::Unset { names } => {
            let values: BTreeMap<_, _> = names.iter().map(|name| (name.clone(), None)).collect();
            Report::Outcome(engine.set(&values, events).await?)
        }
        Request::Start { services } => {
            engine.start(services, events).await?;
            Report::acknowledge(format!("started {}", services.join(", ")))
        }
        Request::Stop { services } => {
            engine.stop(services, events).await?;
            Report::acknowledge(format!("stopped {}", services.join(", ")))
        }
        Request::Restart { services } => {
            engine.restart(services, events).await?;
            Report::acknowledge(format!("restarted {}", services.join(", ")))
        }
        Request::Pin { deployment, reason } => {
            let seq = engine.pin(*deployment, reason)?;
            Report::acknowledge(format!("deployment {seq} is kept"))
        }
        Request::Unpin { deployment } => {
            let seq = engine.unpin(*deployment)?;
            Report::acknowledge(format!("deployment {seq} is no longer kept"))
        }
        Request::Gc { dry_run } => Report::Gc(engine.gc(*dry_run).await?),
        Request::Fsck { repair } => Report::Fsck(engine.fsck(*repair).await?),
        Request::Doctor => Report::Doctor(engine.doctor().await?),
        Request::Recover { boot } => Report::Outcome(engine.recover(*boot, events).await?),
    })
}

async fn upgrade(
    engine: &Engine,
    reference: Option<&str>,
    mode: UpgradeMode,
    force: bool,
    events: EventSender,
) -> AgentResult<Report> {
    let download_only = match mode {
        UpgradeMode::Check => return Ok(Report::Plan(engine.plan(reference).await?)),
        UpgradeMode::DownloadOnly => true,
        UpgradeMode::Full => false,
    };
    let options = UpgradeOptions { download_only, force };
    Ok(Report::Outcome(engine.upgrade(reference, options, events).await?))
}

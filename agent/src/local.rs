//! The engine of this host, behind the same interface as noded.

use std::collections::BTreeMap;

use crate::deployment::Seq;
use crate::engine::{Depth, Engine, EventSink, UpgradeOptions};
use crate::error::{AgentError, ExitCode, Result};
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

    fn engine(&self) -> Engine {
        Engine::of_this_host(self.roots.clone())
    }
}

impl Agent for LocalAgent {
    fn run(&self, request: &Request, events: EventSender) -> std::result::Result<Report, Failure> {
        let engine = match request {
            Request::Recover { boot: true } => Engine::of_this_host_at_boot(self.roots.clone()),
            _ => self.engine(),
        };
        runtime()?
            .block_on(carry_out(&engine, request, events))
            .map_err(Failure::from)
    }

    fn query(&self, query: &Query) -> std::result::Result<Report, Failure> {
        let engine = self.engine();
        runtime()?.block_on(answer(&engine, query)).map_err(Failure::from)
    }

    fn interrupted(&self) -> std::result::Result<bool, Failure> {
        Ok(self.engine().interrupted()?)
    }
}

/// Every call has a runtime of its own: the daemon's must not be held up by whatever an operation does.
fn runtime() -> std::result::Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(ExitCode::Other, format!("can't start the runtime: {error}")))
}

async fn carry_out(engine: &Engine, request: &Request, events: EventSink) -> Result<Report> {
    match request {
        Request::Upgrade {
            reference,
            mode,
            force,
            allow_downgrade,
        } => {
            let options = UpgradeOptions {
                download_only: *mode == UpgradeMode::DownloadOnly,
                force: *force,
                allow_downgrade: *allow_downgrade,
            };
            upgrade(engine, reference.as_deref(), *mode, options, events).await
        }
        Request::Plan { reference } => Ok(Report::Plan(engine.plan(reference.as_deref()).await?)),
        Request::Rollback { deployment, force } => Ok(Report::Outcome(
            engine.rollback(*deployment, *force, events).await?,
        )),
        Request::Set { values } => {
            let values = values
                .iter()
                .map(|(name, value)| (name.clone(), Some(value.clone())));
            Ok(Report::Outcome(engine.set(&values.collect(), events).await?))
        }
        Request::Unset { names } => {
            let values: BTreeMap<_, _> = names.iter().map(|name| (name.clone(), None)).collect();
            Ok(Report::Outcome(engine.set(&values, events).await?))
        }
        Request::Start { services } => done(engine.start(services, events).await, "started", services),
        Request::Stop { services, force } => {
            done(engine.stop(services, *force, events).await, "stopped", services)
        }
        Request::Restart { services, force } => done(
            engine.restart(services, *force, events).await,
            "restarted",
            services,
        ),
        Request::Pin { deployment, reason } => Ok(pinned("pinned", engine.pin(*deployment, reason)?)),
        Request::Unpin { deployment } => Ok(pinned("unpinned", engine.unpin(*deployment)?)),
        Request::Gc { dry_run } => Ok(Report::Gc(engine.gc(*dry_run).await?)),
        Request::Fsck { repair, light } => {
            let depth = match (repair, light) {
                (true, _) => Depth::Repair,
                (false, true) => Depth::Light,
                (false, false) => Depth::Full,
            };
            Ok(Report::Fsck(engine.fsck(depth).await?))
        }
        Request::Doctor => Ok(Report::Doctor(engine.doctor().await?)),
        Request::Recover { boot } => Ok(Report::Outcome(engine.recover(*boot, events).await?)),
    }
}

async fn upgrade(
    engine: &Engine,
    reference: Option<&str>,
    mode: UpgradeMode,
    options: UpgradeOptions,
    events: EventSink,
) -> Result<Report> {
    match mode {
        UpgradeMode::Check => Ok(Report::Plan(engine.plan(reference).await?)),
        UpgradeMode::DownloadOnly | UpgradeMode::Full => {
            Ok(Report::Outcome(engine.upgrade(reference, options, events).await?))
        }
    }
}

fn done(result: std::result::Result<(), AgentError>, verb: &str, services: &[String]) -> Result<Report> {
    result.map(|()| Report::acknowledge(format!("{verb} {}", services.join(", "))))
}

fn pinned(verb: &str, deployment: Seq) -> Report {
    Report::acknowledge(format!("{verb} deployment {deployment}"))
}

async fn answer(engine: &Engine, query: &Query) -> Result<Report> {
    match query {
        Query::Status => Ok(Report::Status(engine.status().await?)),
        Query::History { limit, with_journal } => {
            let mut entries = engine.history(usize::try_from(*limit).unwrap_or(usize::MAX))?;
            if !with_journal {
                entries.iter_mut().for_each(|entry| entry.journal.clear());
            }
            Ok(Report::History(History { entries }))
        }
    }
}

//! One connection to systemd and the few verbs that nodectl needs, each with a deadline.

use std::{collections::HashMap, path::Path, time::Duration};

use futures_util::StreamExt;
use tokio::time::timeout;
use zbus::{Connection, OwnedObjectPath};

use crate::{
    error::{Error, Intent, Result},
    job::JobResult,
    name::UnitName,
    private_socket, properties,
    proxy::{JobRemoved, ListRow, ManagerProxy},
    state::{ActiveState, LoadState, SubState, SystemState, UnitRow, UnitStatus},
};

/// systemd's own socket: D-Bus without a bus, for root, there as long as systemd runs.
pub const PRIVATE_SOCKET: &str = "/run/systemd/private";

/// How long a connection may take, and a question that systemd answers from memory.
const ANSWER: Duration = Duration::from_secs(25);

/// A connection to systemd's manager. Cheap to make: take a new one for each operation rather than
/// keeping one for days, since a restart of the bus ends it.
#[derive(Clone, Debug)]
pub struct Systemd {
    manager: ManagerProxy<'static>,
}

/// The three ways to move a unit that nodectl uses.
#[derive(Clone, Copy, Debug)]
enum Verb {
    Start,
    Stop,
    Restart,
}

impl Verb {
    fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
        }
    }
}

impl Systemd {
    /// Connects over the system bus, or over systemd's private socket where no bus runs (early boot, rescue).
    ///
    /// # Errors
    /// [`Error::Unreachable`] with what both ways said.
    pub async fn connect() -> Result<Self> {
        let bus = match timeout(ANSWER, Connection::system()).await {
            Ok(Ok(connection)) => match Self::over(connection).await {
                Ok(systemd) => return Ok(systemd),
                Err(error) => error.to_string(),
            },
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer".to_owned(),
        };
        tracing::debug!(%bus, "system bus not reachable, using systemd's private socket");
        Self::connect_private().await.map_err(|error| match error {
            Error::Unreachable { path, source, .. } => Error::Unreachable { bus, path, source },
            other => other,
        })
    }

    /// Connects over systemd's private socket only: what a program must use that runs before the bus.
    /// A `systemctl daemon-reexec` ends such a connection; a daemon-reload does not.
    ///
    /// # Errors
    /// [`Error::Unreachable`] if this is not root or systemd is not PID 1.
    pub async fn connect_private() -> Result<Self> {
        Self::connect_socket(Path::new(PRIVATE_SOCKET)).await
    }

    /// As [`Systemd::connect_private`], to a systemd whose private socket is elsewhere: that of a container.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub async fn connect_socket(path: &Path) -> Result<Self> {
        let unreachable = |source| Error::Unreachable {
            bus: "not tried".to_owned(),
            path: path.to_owned(),
            source,
        };
        let connection = match timeout(ANSWER, private_socket::connect(path)).await {
            Ok(result) => result.map_err(unreachable)?,
            Err(elapsed) => {
                let io = std::io::Error::from(elapsed);
                return Err(unreachable(io.into()));
            }
        };
        Self::over(connection).await
    }

    /// Uses a connection that is already there, over a bus or directly to a manager.
    ///
    /// # Errors
    /// systemd does not answer on it.
    pub async fn over(connection: Connection) -> Result<Self> {
        let intent = Intent::of("answer");
        let manager = intent.within(ANSWER, ManagerProxy::new(&connection)).await?;
        // systemd sends signals over a bus only while somebody has subscribed.
        match intent.within(ANSWER, manager.subscribe()).await {
            Ok(()) => {}
            Err(Error::Refused { name, .. }) if name == "org.freedesktop.systemd1.AlreadySubscribed" => {}
            Err(error) => return Err(error),
        }
        Ok(Self { manager })
    }

    /// Has systemd run its generators and read all unit files again; returns when it has.
    ///
    /// # Errors
    /// As all calls: [`Error`].
    pub async fn daemon_reload(&self, deadline: Duration) -> Result<()> {
        Intent::of("reload its units")
            .within(deadline, self.manager.reload())
            .await
    }

    /// Starts a unit and waits for the end of the job: for a service, until it is ready or has failed.
    ///
    /// # Errors
    /// [`Error::Deadline`] if the job is still under way; it then goes on in systemd.
    pub async fn start(&self, unit: &UnitName, deadline: Duration) -> Result<JobResult> {
        self.run(Verb::Start, unit, deadline).await
    }

    /// Stops a unit and waits until it has stopped.
    ///
    /// # Errors
    /// As [`Systemd::start`].
    pub async fn stop(&self, unit: &UnitName, deadline: Duration) -> Result<JobResult> {
        self.run(Verb::Stop, unit, deadline).await
    }

    /// Stops a unit if it runs, starts it, and waits until it is ready or has failed.
    ///
    /// # Errors
    /// As [`Systemd::start`].
    pub async fn restart(&self, unit: &UnitName, deadline: Duration) -> Result<JobResult> {
        self.run(Verb::Restart, unit, deadline).await
    }

    /// Queues the start of a unit and does not wait: for a unit that is ordered after the caller.
    ///
    /// # Errors
    /// systemd refused the job.
    pub async fn enqueue_start(&self, unit: &UnitName) -> Result<()> {
        self.call(Verb::Start, unit, ANSWER).await.map(drop)
    }

    /// Forgets that a unit has failed and how often it was started. A unit that systemd has not loaded has
    /// nothing to forget.
    ///
    /// # Errors
    /// As all calls: [`Error`].
    pub async fn reset_failed(&self, unit: &UnitName) -> Result<()> {
        let reset = Intent::on("reset the failure of", unit)
            .within(ANSWER, self.manager.reset_failed_unit(unit.as_str()))
            .await;
        match reset {
            Err(Error::NoSuchUnit { .. }) => Ok(()),
            other => other,
        }
    }

    /// What a unit does now. A unit without a unit file is [`LoadState::NotFound`], not an error.
    ///
    /// # Errors
    /// As all calls: [`Error`].
    pub async fn status(&self, unit: &UnitName) -> Result<UnitStatus> {
        let intent = Intent::on("tell the state of", unit);
        intent
            .within(ANSWER, async {
                let path = self.manager.load_unit(unit.as_str()).await?;
                properties::read(self.manager.inner().connection(), path, unit).await
            })
            .await
    }

    /// The loaded units whose names match one of the patterns (fnmatch(3)).
    ///
    /// # Errors
    /// As all calls: [`Error`].
    pub async fn list(&self, patterns: &[&str]) -> Result<Vec<UnitRow>> {
        let rows = Intent::of("list units")
            .within(ANSWER, self.manager.list_units_by_patterns(&[], patterns))
            .await?;
        // A name that systemd itself lists and we would refuse cannot be one of ours.
        Ok(rows.into_iter().filter_map(row).collect())
    }

    /// State of the whole system.
    ///
    /// # Errors
    /// As all calls: [`Error`].
    pub async fn is_system_running(&self) -> Result<SystemState> {
        let word = Intent::of("tell the state of the system")
            .within(ANSWER, self.manager.system_state())
            .await?;
        Ok(SystemState::parse(&word))
    }

    /// systemd's version as it prints it, for example `252.39-1~deb12u2`.
    ///
    /// # Errors
    /// As all calls: [`Error`].
    pub async fn version(&self) -> Result<String> {
        Intent::of("tell its version")
            .within(ANSWER, self.manager.version())
            .await
    }

    /// Waits until a unit is in a state that `holds`, woken by systemd's signals; returns that state.
    ///
    /// # Errors
    /// [`Error::Deadline`] if it does not come.
    pub async fn wait_until(
        &self,
        unit: &UnitName,
        deadline: Duration,
        holds: impl Fn(&UnitStatus) -> bool,
    ) -> Result<UnitStatus> {
        let intent = Intent::on("reach the awaited state of", unit);
        let waiting = async {
            let mut changes = self.changes(unit).await?;
            loop {
                let status = self.status(unit).await?;
                if holds(&status) {
                    return Ok(status);
                }
                match changes.next().await {
                    Some(Ok(_)) => {}
                    Some(Err(source)) => return Err(intent.failed(source)),
                    None => return Err(intent.lost()),
                }
            }
        };
        timeout(deadline, waiting)
            .await
            .unwrap_or_else(|_| Err(intent.late(deadline)))
    }

    /// One item for each change of the unit's properties that systemd announces.
    async fn changes(&self, unit: &UnitName) -> Result<zbus::MessageStream> {
        let intent = Intent::on("watch", unit);
        let subscribe = async {
            let path = self.manager.load_unit(unit.as_str()).await?;
            let rule = zbus::MatchRule::builder()
                .msg_type(zbus::message::Type::Signal)
                .interface("org.freedesktop.DBus.Properties")
                .member("PropertiesChanged")
                .path(path)
                .build()?;
            zbus::MessageStream::for_match_rule(rule, self.manager.inner().connection(), None).await
        };
        intent.within(ANSWER, subscribe).await
    }

    async fn call(&self, verb: Verb, unit: &UnitName, deadline: Duration) -> Result<OwnedObjectPath> {
        let intent = Intent::on(verb.word(), unit);
        let call = async {
            // "replace": a queued job that contradicts gives way; one of the same kind is joined.
            match verb {
                Verb::Start => self.manager.start_unit(unit.as_str(), "replace").await,
                Verb::Stop => self.manager.stop_unit(unit.as_str(), "replace").await,
                Verb::Restart => self.manager.restart_unit(unit.as_str(), "replace").await,
            }
        };
        intent.within(deadline, call).await
    }

    async fn run(&self, verb: Verb, unit: &UnitName, deadline: Duration) -> Result<JobResult> {
        let intent = Intent::on(verb.word(), unit);
        timeout(deadline, self.run_to_end(verb, unit, deadline))
            .await
            .unwrap_or_else(|_| Err(intent.late(deadline)))
    }

    /// Subscribed before the call: a short job ends before the call's answer is read.
    async fn run_to_end(&self, verb: Verb, unit: &UnitName, deadline: Duration) -> Result<JobResult> {
        let intent = Intent::on(verb.word(), unit);
        let mut removed = intent
            .within(deadline, self.manager.receive_job_removed())
            .await?;
        let mut ended = HashMap::new();
        let call = self.call(verb, unit, deadline);
        tokio::pin!(call);
        // The signals are read while the call is under way, so that a busy systemd cannot fill
        // the queue in front of the answer.
        let job = loop {
            tokio::select! {
                answer = &mut call => break answer?,
                signal = removed.next() => {
                    let (job, result) = job_end(&intent, signal)?;
                    ended.insert(job, result);
                }
            }
        };
        if let Some(result) = ended.remove(&job) {
            return Ok(result);
        }
        loop {
            let (ended, result) = job_end(&intent, removed.next().await)?;
            if ended == job {
                return Ok(result);
            }
        }
    }
}

fn job_end(intent: &Intent<'_>, signal: Option<JobRemoved>) -> Result<(OwnedObjectPath, JobResult)> {
    let signal = signal.ok_or_else(|| intent.lost())?;
    let args = signal.args().map_err(|source| intent.failed(source))?;
    Ok((args.job().clone(), JobResult::parse(args.result())))
}

fn row(row: ListRow) -> Option<UnitRow> {
    let (name, description, load, active, sub, ..) = row;
    Some(UnitRow {
        name: UnitName::parse(&name).ok()?,
        description,
        load: LoadState::parse(&load),
        active: ActiveState::parse(&active),
        sub: SubState::parse(&sub),
    })
}

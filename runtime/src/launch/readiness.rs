//! Waiting until a service that does not notify is ready.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;

use super::supervisor::Supervisor;
use super::{Bundle, Launch, Readiness, StartError};
use crate::inside::Inside;
use crate::sys;

/// Between two attempts. There is no event for "a listener accepts" or "a command would succeed".
const SOCKET_INTERVAL: Duration = Duration::from_millis(20);
const COMMAND_INTERVAL: Duration = Duration::from_millis(250);

/// Reports the service ready when it is, unless it does so itself.
pub(super) fn wait(bundle: &Bundle, pid: Pid, supervisor: &Supervisor) -> Result<(), StartError> {
    let launch = &bundle.launch;
    let mut watch = match &launch.readiness {
        Readiness::Notify => return Ok(()),
        Readiness::Started => return supervisor.ready(),
        Readiness::UnixSocket { .. } | Readiness::Exec { .. } => Watch::new(launch, pid)?,
    };
    match &launch.readiness {
        Readiness::UnixSocket { path } => {
            let inside = path.strip_prefix("/").unwrap_or(path);
            let path = Path::new("/proc").join(pid.to_string()).join("root").join(inside);
            watch.until(SOCKET_INTERVAL, || match UnixStream::connect(&path) {
                Ok(_) => Ok(None),
                Err(e) => Ok(Some(format!("connect to /{}: {e}", inside.display()))),
            })?;
        }
        Readiness::Exec { command } => {
            let inside = Inside::new(pid, bundle)?;
            watch.until(COMMAND_INTERVAL, || match inside.run_in_child(command)? {
                0 => Ok(None),
                status => Ok(Some(format!("{} exits with {status}", command.join(" ")))),
            })?;
        }
        Readiness::Notify | Readiness::Started => {}
    }
    supervisor.ready()
}

/// A deadline and the process whose end makes waiting pointless.
struct Watch<'a> {
    service: &'a str,
    process: OwnedFd,
    deadline: Instant,
}

impl<'a> Watch<'a> {
    fn new(launch: &'a Launch, pid: Pid) -> Result<Self, StartError> {
        let process = sys::pidfd(pid).map_err(StartError::call("watch the service"))?;
        let deadline = Instant::now() + Duration::from_secs(launch.start_timeout_seconds);
        Ok(Self {
            service: &launch.service,
            process,
            deadline,
        })
    }

    /// Tries until `attempt` has nothing to complain about.
    fn until(
        &mut self,
        interval: Duration,
        mut attempt: impl FnMut() -> Result<Option<String>, StartError>,
    ) -> Result<(), StartError> {
        loop {
            let Some(complaint) = attempt()? else {
                return Ok(());
            };
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(self.not_ready(&format!("{complaint}, until the time was up")));
            }
            if self.ended(interval.min(left))? {
                return Err(self.not_ready(&format!("{complaint}; then the service ended")));
            }
        }
    }

    fn not_ready(&self, reason: &str) -> StartError {
        StartError::NotReady {
            service: self.service.to_owned(),
            reason: reason.to_owned(),
        }
    }

    fn ended(&self, patience: Duration) -> Result<bool, StartError> {
        let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        match poll(
            &mut [PollFd::new(self.process.as_fd(), PollFlags::POLLIN)],
            timeout,
        ) {
            Ok(count) => Ok(count > 0),
            Err(Errno::EINTR) => Ok(false),
            Err(e) => Err(StartError::call("watch the service")(e.into())),
        }
    }
}

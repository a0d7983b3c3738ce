//! Why a launch failed: the step, the path and the cause.

use std::io;
use std::path::PathBuf;

use nix::unistd::Pid;

use super::{LaunchError, RecordError};

/// A launch that did not get as far as a ready service.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No deployment holds the bundle that the unit names.
    #[error("no deployment in {deployments} has service {service} with digest {digest}")]
    NoBundle {
        /// Where deployments are.
        deployments: PathBuf,
        /// Name of the service.
        service: String,
        /// Digest by the unit.
        digest: String,
    },
    /// `launch.json` is unusable.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// `config.json` is unusable.
    #[error("{path} is not an OCI runtime configuration")]
    Config {
        /// The file.
        path: PathBuf,
        /// Why.
        source: oci_spec::OciSpecError,
    },
    /// A bundle that must not be started as it is.
    #[error("{path}: {reason}")]
    Bundle {
        /// The file at fault.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A system call on a path failed.
    #[error("cannot {action} {path}")]
    Path {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A system call without a path failed.
    #[error("cannot {action}")]
    Call {
        /// What was tried.
        action: &'static str,
        /// Why.
        source: io::Error,
    },
    /// libcontainer could not create the container.
    #[error("cannot create the container of {service}")]
    Create {
        /// Name of the service.
        service: String,
        /// Why; its own log lines before this one say more.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The container's process could not execute the service's program.
    #[error("cannot execute the program of {service}: {reason}")]
    Execute {
        /// Name of the service.
        service: String,
        /// Step, path and cause as the container's process saw them.
        reason: String,
    },
    /// The service did not become ready in time, or ended before.
    #[error("{service} did not become ready: {reason}")]
    NotReady {
        /// Name of the service.
        service: String,
        /// What was waited for and what happened.
        reason: String,
    },
    /// The running record could not be written or read.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// A launch that failed, and what it leaves.
#[derive(Debug)]
pub struct Failed {
    /// Why.
    pub error: StartError,
    /// The main process of a service that runs but never became ready. It is ended only after the error has
    /// been told: when it is gone systemd gives up on the unit and kills whoever would still tell it.
    pub main: Option<Pid>,
}

impl From<StartError> for Failed {
    fn from(error: StartError) -> Self {
        Self { error, main: None }
    }
}

impl StartError {
    pub(crate) fn path(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Path { action, path, source }
    }

    pub(crate) fn call(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Call { action, source }
    }
}

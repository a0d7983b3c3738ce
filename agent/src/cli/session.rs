//! Who does the work: noded over D-Bus, or this process under the same lock.

use crate::daemon::{Client, ClientError};
use crate::local::LocalAgent;
use crate::output::{Output, ProgressView};
use crate::protocol::{Agent as _, Failure, Report, Request};

/// Whoever carries out the command.
#[derive(Debug)]
pub(super) enum Session {
    /// noded; an operation goes on when this process ends.
    Bus(Client),
    /// This process; an operation that is interrupted is finished or reverted by `nodectl recover`.
    Here(LocalAgent),
}

impl Session {
    /// noded where it can be reached, this process otherwise.
    pub(super) fn open(local: LocalAgent, output: &Output) -> Self {
        match Client::connect() {
            Ok(client) => Self::Bus(client),
            Err(error @ (ClientError::NoBus(_) | ClientError::NotInstalled)) => {
                tracing::info!("working without noded: {error}");
                Self::Here(local)
            }
            Err(error @ ClientError::NotStarting(_)) => {
                output.warning(&format!("working without noded: {error}"));
                Self::Here(local)
            }
        }
    }

    /// Carries out a request and shows its progress.
    pub(super) fn run(
        &self,
        request: &Request,
        progress: &ProgressView,
        output: &Output,
    ) -> Result<Report, Failure> {
        match self {
            Self::Here(agent) => agent.run(request, progress.sender()),
            Self::Bus(client) => {
                let sender = progress.sender();
                client.run(request, &|event| sender(event), &|remark| {
                    progress.aside(|| output.remark(remark));
                })
            }
        }
    }
}

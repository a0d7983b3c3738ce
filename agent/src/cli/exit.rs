//! How a command ends: the exit status as a function of the result or the error.

use std::process::ExitCode as ProcessExit;

use crate::error::{AgentError, ExitCode};
use crate::output::Output;
use crate::protocol::Failure;

/// Exit status of a command that did what it could.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit(u8);

impl Exit {
    /// Done.
    pub const DONE: Self = Self(0);
}

impl From<ExitCode> for Exit {
    fn from(code: ExitCode) -> Self {
        Self(code as u8)
    }
}

impl From<u8> for Exit {
    fn from(code: u8) -> Self {
        Self(code)
    }
}

impl From<Exit> for ProcessExit {
    fn from(exit: Exit) -> Self {
        Self::from(exit.0)
    }
}

/// Prints what clap has to say (help and version to standard output) and gives the status: a wrong command line is 64,
/// asking for help is not wrong.
pub(super) fn of_usage(error: &clap::Error) -> ProcessExit {
    // Nothing can be told to anybody when printing fails.
    let _ = error.print();
    let code = if error.use_stderr() {
        ExitCode::Usage
    } else {
        ExitCode::Done
    };
    Exit::from(code).into()
}

/// Prints an error once and gives the status that follows from it.
pub(super) fn report(output: &Output, error: &anyhow::Error) -> ProcessExit {
    let failure = failure_of(error);
    output.failure(&failure);
    Exit::from(failure.code).into()
}

/// The error as a failure: its own code where it has one, whatever context was put around it.
fn failure_of(error: &anyhow::Error) -> Failure {
    if let Some(failure) = error.downcast_ref::<Failure>() {
        return failure.clone();
    }
    if let Some(error) = error.downcast_ref::<AgentError>() {
        return Failure::from(error);
    }
    Failure::new(ExitCode::Other, format!("{error:#}"))
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn an_error_keeps_its_code_hint_and_causes() {
        let agent = AgentError::config("unknown key `relase` in /etc/nodectl/node.toml")
            .hint("did you mean `release`?");
        let failure = failure_of(&anyhow::Error::new(agent));
        assert_eq!(failure.code, 78);
        assert_eq!(failure.hint.as_deref(), Some("did you mean `release`?"));
        assert_eq!(failure.message, "unknown key `relase` in /etc/nodectl/node.toml");
    }

    #[test]
    fn anything_else_is_1_with_its_chain_in_one_line() {
        let error = Err::<(), _>(std::io::Error::from(std::io::ErrorKind::NotFound))
            .context("can't read /x")
            .unwrap_err();
        let failure = failure_of(&error);
        assert_eq!(
            (failure.code, failure.message.as_str()),
            (1, "can't read /x: entity not found")
        );
    }
}

//! An error on its way to the operator: text, hint and exit code, able to cross D-Bus.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{AgentError, ExitCode};

/// Why a request was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Failure {
    /// Exit code of the command; nodectl(1) lists them.
    pub code: u8,
    /// The error and its causes, outermost first, joined by `: `.
    pub message: String,
    /// What the operator can do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Lines to show below the message, for example the last journal lines of the unit that failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
}

/// What `--json` prints instead of a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Failed {
    /// Why the command failed.
    pub error: Failure,
}

impl Failure {
    /// A failure without a hint.
    pub fn new(code: ExitCode, message: impl Into<String>) -> Self {
        Self {
            code: code as u8,
            message: message.into(),
            hint: None,
            details: Vec::new(),
        }
    }

    /// The same failure with advice.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<&AgentError> for Failure {
    fn from(error: &AgentError) -> Self {
        Self {
            code: error.exit_code() as u8,
            message: error.chain(),
            hint: error.hint_text().map(str::to_owned),
            details: error.detail_lines().to_vec(),
        }
    }
}

impl From<AgentError> for Failure {
    fn from(error: AgentError) -> Self {
        Self::from(&error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

//! The agent's error and the exit code that follows from it.

use std::error::Error as StdError;
use std::fmt;

/// Exit codes of nodectl (sysexits where one fits).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ExitCode {
    /// Done.
    Done = 0,
    /// Anything without a code of its own.
    Other = 1,
    /// The command line makes no sense.
    Usage = 64,
    /// A signature, digest or document did not verify.
    Verification = 65,
    /// A registry or the bus can't be reached.
    Unavailable = 69,
    /// The operation failed and the node went back.
    RolledBack = 70,
    /// No space, or the disk refused a write.
    CannotWrite = 73,
    /// Locked or vetoed: try again later.
    TryAgain = 75,
    /// There was nothing to do.
    NothingToDo = 77,
    /// The configuration is wrong.
    Config = 78,
}

/// What kind of trouble an error is; decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The command line makes no sense.
    Usage,
    /// A signature, digest or document did not verify.
    Verification,
    /// A registry or the bus can't be reached.
    Unavailable,
    /// The operation failed and the node went back.
    RolledBack,
    /// No space, or the disk refused a write.
    CannotWrite,
    /// Another operation holds the lock.
    Locked,
    /// A gate or the host said no before anything was touched.
    Vetoed,
    /// The configuration, a parameter or a secret is wrong or missing.
    Config,
    /// Anything else.
    Other,
}

impl Kind {
    /// The exit code for this kind of trouble.
    pub fn exit_code(self) -> ExitCode {
        match self {
            Kind::Usage => ExitCode::Usage,
            Kind::Verification => ExitCode::Verification,
            Kind::Unavailable => ExitCode::Unavailable,
            Kind::RolledBack => ExitCode::RolledBack,
            Kind::CannotWrite => ExitCode::CannotWrite,
            Kind::Locked | Kind::Vetoed => ExitCode::TryAgain,
            Kind::Config => ExitCode::Config,
            Kind::Other => ExitCode::Other,
        }
    }
}

/// An error of the agent: what was being done to which thing, and what kind of trouble it is.
///
/// The message does not repeat the source; print the whole chain once, at the top.
#[derive(Debug)]
pub struct AgentError {
    kind: Kind,
    message: String,
    hint: Option<String>,
    details: Vec<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// Result with the agent's error.
pub type Result<T> = std::result::Result<T, AgentError>;

impl AgentError {
    /// An error of this kind.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        AgentError {
            kind,
            message: message.into(),
            hint: None,
            details: Vec::new(),
            source: None,
        }
    }

    /// Something is wrong with the configuration.
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(Kind::Config, message)
    }

    /// Something did not verify.
    pub fn verification(message: impl Into<String>) -> Self {
        Self::new(Kind::Verification, message)
    }

    /// The host or a gate said no before anything was touched.
    pub fn vetoed(message: impl Into<String>) -> Self {
        Self::new(Kind::Vetoed, message)
    }

    /// Trouble without a code of its own.
    pub fn other(message: impl Into<String>) -> Self {
        Self::new(Kind::Other, message)
    }

    /// Adds the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Adds what the operator can do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds lines to show below the message, for example from a journal.
    #[must_use]
    pub fn details(mut self, lines: Vec<String>) -> Self {
        self.details = lines;
        self
    }

    /// What kind of trouble this is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The exit code of a command that ends with this error.
    pub fn exit_code(&self) -> ExitCode {
        self.kind.exit_code()
    }

    /// What the operator can do about it.
    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Lines to show below the message.
    pub fn detail_lines(&self) -> &[String] {
        &self.details
    }

    /// The whole chain in one line: `message: cause: cause`.
    pub fn chain(&self) -> String {
        let mut text = self.message.clone();
        let mut next = self.source();
        while let Some(cause) = next {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            next = cause.source();
        }
        text
    }

    /// An error about reading or writing a path; a full or read-only disk gets its own kind.
    pub fn io(intent: &str, path: &std::path::Path, source: std::io::Error) -> Self {
        let kind = if is_write_refused(&source) {
            Kind::CannotWrite
        } else {
            Kind::Other
        };
        Self::new(kind, format!("can't {intent} {}", path.display())).because(source)
    }

    /// An error from a leaf crate, of a kind found by looking for a refused write in its chain.
    pub fn from_leaf(
        kind: Kind,
        message: impl Into<String>,
        source: impl StdError + Send + Sync + 'static,
    ) -> Self {
        let kind = if chain_has_write_refused(&source) {
            Kind::CannotWrite
        } else {
            kind
        };
        Self::new(kind, message).because(source)
    }
}

fn is_write_refused(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    let broken = error.raw_os_error() == Some(nix::libc::EIO);
    broken
        || matches!(
            error.kind(),
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::ReadOnlyFilesystem
        )
}

fn chain_has_write_refused(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(e) = next {
        if e.downcast_ref::<std::io::Error>().is_some_and(is_write_refused) {
            return true;
        }
        next = e.source();
    }
    false
}

impl fmt::Display for AgentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for AgentError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|e| e as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_the_documented_exit_code() {
        let table = [
            (Kind::Usage, 64),
            (Kind::Verification, 65),
            (Kind::Unavailable, 69),
            (Kind::RolledBack, 70),
            (Kind::CannotWrite, 73),
            (Kind::Locked, 75),
            (Kind::Vetoed, 75),
            (Kind::Config, 78),
            (Kind::Other, 1),
        ];
        for (kind, code) in table {
            assert_eq!(kind.exit_code() as u8, code, "{kind:?}");
        }
    }

    #[test]
    fn a_full_disk_below_any_error_decides_the_exit_code() {
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let inner = AgentError::other("can't write object").because(full);
        let outer = AgentError::from_leaf(Kind::Unavailable, "can't pull", inner);
        let broken = std::io::Error::from_raw_os_error(nix::libc::EIO);
        let broken = AgentError::from_leaf(Kind::Unavailable, "can't pull", broken);
        assert_eq!(broken.exit_code(), ExitCode::CannotWrite);
        assert_eq!(outer.exit_code(), ExitCode::CannotWrite);
        assert_eq!(outer.chain(), "can't pull: can't write object: no storage space");
    }
}

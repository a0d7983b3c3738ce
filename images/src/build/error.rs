//! Why an image could not be built.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::lock::Change;

/// A build that did not happen. Nothing has its final name then: neither a layout nor a cache entry.
#[derive(Debug, Error)]
pub enum BuildError {
    /// A definition says something that cannot be built.
    #[error("{}: {problem}", file.display())]
    Definition {
        /// The definition's file.
        file: PathBuf,
        /// What is wrong, naming the key.
        problem: String,
    },
    /// A definition is not the TOML that format 1 describes.
    #[error("{} is not an image definition", file.display())]
    Syntax {
        /// The definition's file.
        file: PathBuf,
        /// Line, column and key.
        source: Box<toml::de::Error>,
    },
    /// `base` leads back to a definition that is already in the chain.
    #[error("{}: base {name:?} leads in a circle", file.display())]
    Circle {
        /// The definition whose `base` closes the circle.
        file: PathBuf,
        /// That base.
        name: String,
    },
    /// A file operation failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A program that the build needs could not be started.
    #[error("cannot run {program}; it is in Debian's package {package}")]
    Missing {
        /// The program.
        program: String,
        /// The package that has it.
        package: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// A program failed.
    #[error("{program} failed while {intent} ({status}), its last words:\n{last_words}")]
    Program {
        /// The program.
        program: String,
        /// What it was to do.
        intent: String,
        /// Exit status or signal.
        status: String,
        /// The end of its output.
        last_words: String,
    },
    /// A program's output or a file made by it is not what its format promises.
    #[error("unexpected {what}: {problem}")]
    Unexpected {
        /// Which output or file.
        what: String,
        /// What is wrong with it.
        problem: String,
    },
    /// `--locked`, and the archive no longer gives what the lock file says.
    #[error("the archive has moved away from {}: {}", file.display(), list(changes))]
    Locked {
        /// The lock file.
        file: PathBuf,
        /// Every package that differs.
        changes: Vec<Change>,
    },
    /// `--locked`, and there is no lock file.
    #[error("no lock file {}; build once without --locked to write it", .0.display())]
    NoLock(PathBuf),
    /// A lock file is not in the format that this version writes.
    #[error("{}:{line}: not a lock line: {text:?}", file.display())]
    LockSyntax {
        /// The lock file.
        file: PathBuf,
        /// Counted from 1.
        line: usize,
        /// The line.
        text: String,
    },
    /// Packages made users or groups whose ids the definitions do not fix.
    #[error(
        "image {image}: packages made {} without a fixed id; add them to the base definition",
        names.join(", ")
    )]
    LooseAccounts {
        /// The image.
        image: String,
        /// `user NAME=ID` or `group NAME=ID`.
        names: Vec<String>,
    },
    /// The lock file could not be written.
    #[error("cannot write the lock file")]
    Durable(#[source] crate::durable::DurableError),
    /// The output directory holds something that is not an OCI layout.
    #[error("{} exists and is not an OCI layout; nothing was replaced", .0.display())]
    OutputTaken(PathBuf),
}

impl BuildError {
    /// For `map_err` on file operations.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    pub(super) fn unexpected(what: impl Into<String>, problem: impl std::fmt::Display) -> Self {
        Self::Unexpected {
            what: what.into(),
            problem: problem.to_string(),
        }
    }
}

fn list(changes: &[Change]) -> String {
    let texts: Vec<String> = changes.iter().map(ToString::to_string).collect();
    texts.join(", ")
}

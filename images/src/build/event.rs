//! What a build tells while it runs.

use std::time::Duration;

/// One thing worth showing to whoever waits for a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildEvent {
    /// A step of an image begins.
    Started {
        /// The definition's name.
        image: String,
        /// The step.
        step: Step,
    },
    /// A line that the program behind the running step printed.
    Output {
        /// The definition's name.
        image: String,
        /// The line, without its end.
        line: String,
    },
    /// A step is over.
    Finished {
        /// The definition's name.
        image: String,
        /// The step.
        step: Step,
        /// What came out, for people: `"463 packages"`.
        result: String,
        /// How long it took.
        took: Duration,
    },
    /// A step's result was in the cache.
    Cached {
        /// The definition's name.
        image: String,
        /// The step.
        step: Step,
    },
    /// The packages are not those of the lock file, which is written anew.
    LockChanged {
        /// The definition's name.
        image: String,
        /// How many packages differ.
        packages: usize,
    },
}

/// The steps of a build, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Waiting for another build that uses the same cache.
    Wait,
    /// Fetching the archive's package lists.
    Refresh,
    /// Choosing package versions.
    Resolve,
    /// Fetching packages.
    Download,
    /// Installing packages into a root file system.
    Install,
    /// Reading the root file system and making it reproducible.
    Normalise,
    /// Writing and compressing the layer.
    Layer,
    /// Writing the OCI layout.
    Layout,
}

impl Step {
    /// The step as an activity: `"installing packages"`.
    #[must_use]
    pub fn activity(self) -> &'static str {
        match self {
            Self::Wait => "waiting for another build",
            Self::Refresh => "fetching package lists",
            Self::Resolve => "choosing package versions",
            Self::Download => "fetching packages",
            Self::Install => "installing packages",
            Self::Normalise => "normalising the file tree",
            Self::Layer => "writing the layer",
            Self::Layout => "writing the layout",
        }
    }
}

/// Receives the events of a build, on the thread that builds or one that it started.
pub type Observer<'a> = &'a (dyn Fn(BuildEvent) + Sync);

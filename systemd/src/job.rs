//! How a systemd job ended.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The result in `JobRemoved` (org.freedesktop.systemd1(5), Manager object).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum JobResult {
    /// Carried out. Also given when a condition of the unit did not hold.
    Done,
    /// Called off before it finished, by another job or by a person.
    Canceled,
    /// The job's own time limit was reached.
    Timeout,
    /// Carried out and failed: for a service, it did not become ready.
    Failed,
    /// Not tried, since a unit it depends on failed.
    Dependency,
    /// Nothing to do for this kind of job in the unit's state.
    Skipped,
    /// The unit's state does not allow the job.
    Invalid,
    /// An assertion of the unit did not hold.
    Assert,
    /// The kind of unit is not supported on this system.
    Unsupported,
    /// The unit was unloaded while the job ran.
    Collected,
    /// A unit that may start only once was to start again.
    Once,
    /// A word that this version of nodectl does not know.
    Unknown(String),
}

impl JobResult {
    /// Reads systemd's word for a result.
    #[must_use]
    pub fn parse(word: &str) -> Self {
        match word {
            "done" => Self::Done,
            "canceled" => Self::Canceled,
            "timeout" => Self::Timeout,
            "failed" => Self::Failed,
            "dependency" => Self::Dependency,
            "skipped" => Self::Skipped,
            "invalid" => Self::Invalid,
            "assert" => Self::Assert,
            "unsupported" => Self::Unsupported,
            "collected" => Self::Collected,
            "once" => Self::Once,
            other => Self::Unknown(other.to_owned()),
        }
    }

    /// systemd's word for it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Done => "done",
            Self::Canceled => "canceled",
            Self::Timeout => "timeout",
            Self::Failed => "failed",
            Self::Dependency => "dependency",
            Self::Skipped => "skipped",
            Self::Invalid => "invalid",
            Self::Assert => "assert",
            Self::Unsupported => "unsupported",
            Self::Collected => "collected",
            Self::Once => "once",
            Self::Unknown(word) => word,
        }
    }

    /// True if what was asked holds now: done, or there was nothing to do.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        match self {
            Self::Done | Self::Skipped => true,
            Self::Canceled
            | Self::Timeout
            | Self::Failed
            | Self::Dependency
            | Self::Invalid
            | Self::Assert
            | Self::Unsupported
            | Self::Collected
            | Self::Once
            | Self::Unknown(_) => false,
        }
    }
}

impl fmt::Display for JobResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_systemd_is_known_and_round_trips() {
        let words = [
            "done",
            "canceled",
            "timeout",
            "failed",
            "dependency",
            "skipped",
            "invalid",
            "assert",
            "unsupported",
            "collected",
            "once",
        ];
        for word in words {
            let result = JobResult::parse(word);
            assert!(!matches!(result, JobResult::Unknown(_)), "{word}");
            assert_eq!(result.as_str(), word);
        }
        assert_eq!(JobResult::parse("frozen"), JobResult::Unknown("frozen".into()));
    }

    #[test]
    fn only_done_and_skipped_count_as_success() {
        let good: Vec<_> = ["done", "failed", "timeout", "skipped", "dependency", "new-word"]
            .into_iter()
            .filter(|word| JobResult::parse(word).succeeded())
            .collect();
        assert_eq!(good, ["done", "skipped"]);
    }
}

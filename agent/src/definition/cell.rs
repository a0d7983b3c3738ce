//! How nova's cell is asked about a service.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A program in the service's container that speaks with nova's conductor as the service itself does, so that a node
/// needs no other credentials than those of its own service. It belongs to the release, as nova does.
///
/// It gets one more argument and prints JSON: `versions` prints `{"own": N, "others": N}`, the service version of this
/// node's record and the lowest of the other records that are not forced down (null where there is none). `disable
/// REASON` and `enable REASON` switch the record and print `{"ours": true}` if it was, or is now, disabled for exactly
/// this reason; what somebody else disabled they leave as it is. It ends with status 69 (sysexits(3) `EX_UNAVAILABLE`)
/// when the conductor can't be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CellProgram {
    /// Command with its first arguments; begins with an absolute path.
    pub command: Vec<String>,
    /// Time for one answer in milliseconds; 30000 if absent.
    #[serde(default = "half_a_minute")]
    pub timeout_ms: u32,
}

impl CellProgram {
    /// The whole command for a question.
    pub fn asking(&self, words: &[&str]) -> Vec<String> {
        let more = words.iter().map(|word| (*word).to_owned());
        self.command.iter().cloned().chain(more).collect()
    }

    /// Time for one answer.
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms.into())
    }
}

fn half_a_minute() -> u32 {
    30_000
}

//! Number of a deployment.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Number of a deployment on this node; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Seq(pub u64);

impl Seq {
    /// The first deployment of a node.
    pub const FIRST: Seq = Seq(1);

    /// The number after this one; none after the last that there is, which only a damaged document names.
    pub fn next(self) -> Option<Seq> {
        self.0.checked_add(1).map(Seq)
    }

    /// Reads a number as a directory name spells it: decimal, no sign, no leading zero.
    pub fn parse(text: &str) -> Option<Seq> {
        let seq = Seq(text.parse().ok()?);
        (seq.0 > 0 && seq.to_string() == text).then_some(seq)
    }
}

impl std::fmt::Display for Seq {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::Seq;

    #[test]
    fn only_the_canonical_spelling_is_a_number() {
        assert_eq!(Seq::parse("17"), Some(Seq(17)));
        for bad in ["", "0", "017", "+1", "-1", "1 ", "x", "99999999999999999999"] {
            assert_eq!(Seq::parse(bad), None, "{bad:?}");
        }
    }
}

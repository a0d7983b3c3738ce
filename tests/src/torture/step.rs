//! What a node does while the power may go.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// One operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// To this version. Version 3 cannot be started: it ends where it began.
    Upgrade(String),
    /// To the deployment before.
    Rollback,
    /// Garbage collection.
    Gc,
    /// A file of the image goes bad on the disk.
    Damage,
    /// `fsck --repair`.
    Repair,
}

/// The version that cannot be started.
pub const BROKEN: &str = "3";

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Upgrade(version) => write!(f, "upgrade:{version}"),
            Self::Rollback => f.write_str("rollback"),
            Self::Gc => f.write_str("gc"),
            Self::Damage => f.write_str("damage"),
            Self::Repair => f.write_str("repair"),
        }
    }
}

impl FromStr for Step {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix("upgrade:")) {
            (_, Some(version)) => Ok(Self::Upgrade(version.to_owned())),
            ("rollback", None) => Ok(Self::Rollback),
            ("gc", None) => Ok(Self::Gc),
            ("damage", None) => Ok(Self::Damage),
            ("repair", None) => Ok(Self::Repair),
            _ => Err(format!("{text:?} is no step")),
        }
    }
}

/// What may be true of a node after a cut.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Versions that `current` may name when power comes back.
    pub found: BTreeSet<String>,
    /// Versions that it may end on, without help.
    pub settled: BTreeSet<String>,
    /// Whether the file that was damaged on purpose may still be.
    pub damaged: bool,
}

impl Allowed {
    /// A node that rests on this version.
    pub fn rest(version: &str, damaged: bool) -> Self {
        Self {
            found: [version.to_owned()].into(),
            settled: [version.to_owned()].into(),
            damaged,
        }
    }

    /// What is allowed if the cut fell somewhere between two instants with these.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        Self {
            found: self.found.union(&other.found).cloned().collect(),
            settled: self.settled.union(&other.settled).cloned().collect(),
            damaged: self.damaged || other.damaged,
        }
    }
}

/// What is allowed while each step is under way and after it, on a node that begins on `start`.
pub fn allowed(start: &str, steps: &[Step]) -> Vec<(Allowed, Allowed)> {
    let (mut present, mut before, mut damaged) = (start.to_owned(), None, false);
    let mut all = Vec::new();
    for step in steps {
        let was = Allowed::rest(&present, damaged);
        let mut during = was.clone();
        match step {
            Step::Upgrade(version) if version == BROKEN => {
                during.found.insert(version.clone());
            }
            Step::Upgrade(version) => {
                before = Some(std::mem::replace(&mut present, version.clone()));
                during = during.or(&Allowed::rest(&present, damaged));
            }
            Step::Rollback => {
                let back = before.take().unwrap_or_else(|| present.clone());
                before = Some(std::mem::replace(&mut present, back));
                during = during.or(&Allowed::rest(&present, damaged));
            }
            Step::Gc => {}
            Step::Damage => {
                damaged = true;
                during.damaged = true;
            }
            Step::Repair => damaged = false,
        }
        all.push((during, Allowed::rest(&present, damaged)));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_story_of_what_is_allowed() {
        let steps: Vec<Step> = ["upgrade:2", "upgrade:3", "rollback", "damage", "repair"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        let told: Vec<String> = allowed("1", &steps)
            .iter()
            .map(|(during, after)| {
                let words = |allowed: &Allowed| {
                    let join = |set: &BTreeSet<String>| set.iter().cloned().collect::<String>();
                    format!(
                        "{}/{}{}",
                        join(&allowed.found),
                        join(&allowed.settled),
                        if allowed.damaged { "!" } else { "" }
                    )
                };
                format!("{} {}", words(during), words(after))
            })
            .collect();
        assert_eq!(
            told,
            ["12/12 2/2", "23/2 2/2", "12/12 1/1", "1/1! 1/1!", "1/1! 1/1"]
        );
        assert_eq!(steps[0].to_string().parse::<Step>().unwrap(), steps[0]);
    }
}

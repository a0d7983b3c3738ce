//! The lock file of a definition: exactly which packages it adds to its base.
//!
//! `NAME.lock` lies beside `NAME.toml`. One line for each package, sorted:
//! `package=version architecture sha256:…` (`-` where the archive gave no digest).

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::path::Path;

use super::dpkg::Package;
use super::error::BuildError;
use crate::digest::Digest;

const HEADER: &str = "# nodectl image lock, format 1. Written by `nodectl image build`.\n";

/// How a package differs from the lock file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// In the archive's choice only.
    Added(Package),
    /// In the lock file only.
    Gone(Package),
    /// Another version, architecture or content.
    Moved {
        /// As locked.
        from: Package,
        /// As the archive has it now.
        to: Package,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Added(package) => write!(f, "{package} is new"),
            Self::Gone(package) => write!(f, "{package} is gone"),
            Self::Moved { from, to } if from.version == to.version => {
                write!(f, "{from} has another architecture or content")
            }
            Self::Moved { from, to } => write!(f, "{from} is now {}", to.version),
        }
    }
}

/// The text of the lock file for `packages`.
#[must_use]
pub fn render(packages: &[Package]) -> String {
    let mut sorted: Vec<&Package> = packages.iter().collect();
    sorted.sort();
    let mut text = HEADER.to_owned();
    for package in sorted {
        let digest = package
            .digest
            .map_or_else(|| "-".to_owned(), |digest| digest.to_string());
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{package} {} {digest}", package.architecture);
    }
    text
}

/// Parses the text of the lock file `file`.
///
/// # Errors
/// [`BuildError::LockSyntax`] naming the line.
pub fn parse(text: &str, file: &Path) -> Result<Vec<Package>, BuildError> {
    let lines = text.lines().enumerate();
    let content = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    content
        .map(|(index, line)| {
            parse_line(line).ok_or_else(|| BuildError::LockSyntax {
                file: file.to_owned(),
                line: index + 1,
                text: line.to_owned(),
            })
        })
        .collect()
}

fn parse_line(line: &str) -> Option<Package> {
    let mut fields = line.split(' ');
    let (name, version) = fields.next()?.split_once('=')?;
    let architecture = fields.next()?;
    let digest = match fields.next()? {
        "-" => None,
        text => Some(Digest::parse(text).ok()?),
    };
    fields.next().is_none().then(|| Package {
        name: name.to_owned(),
        version: version.to_owned(),
        architecture: architecture.to_owned(),
        digest,
    })
}

/// How `now` differs from `locked`, sorted by package.
#[must_use]
pub fn compare(locked: &[Package], now: &[Package]) -> Vec<Change> {
    let by_name = |packages: &[Package]| -> BTreeMap<String, Package> {
        packages.iter().map(|p| (p.name.clone(), p.clone())).collect()
    };
    let (mut before, after) = (by_name(locked), by_name(now));
    let mut changes: BTreeMap<String, Change> = BTreeMap::new();
    for (name, to) in after {
        match before.remove(&name) {
            None => drop(changes.insert(name, Change::Added(to))),
            Some(from) if from != to => drop(changes.insert(name, Change::Moved { from, to })),
            Some(_) => {}
        }
    }
    changes.extend(
        before
            .into_iter()
            .map(|(name, package)| (name, Change::Gone(package))),
    );
    changes.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, version: &str) -> Package {
        Package {
            name: name.to_owned(),
            version: version.to_owned(),
            architecture: "amd64".to_owned(),
            digest: Some(Digest::of(version.as_bytes())),
        }
    }

    #[test]
    fn text_survives_a_round_trip_sorted() {
        let mut packages = vec![package("b", "1:2~3"), package("a", "1")];
        packages[1].digest = None;
        let text = render(&packages);
        packages.sort();
        assert_eq!(parse(&text, Path::new("x.lock")).expect("parses"), packages);
    }

    #[test]
    fn a_bad_line_is_named() {
        let error = parse("# c\na=1 amd64\n", Path::new("x.lock")).expect_err("no digest");
        assert_eq!(error.to_string(), "x.lock:2: not a lock line: \"a=1 amd64\"");
    }

    #[test]
    fn every_difference_is_named() {
        let locked = [package("same", "1"), package("moved", "1"), package("gone", "1")];
        let now = [package("same", "1"), package("moved", "2"), package("new", "1")];
        let changes = compare(&locked, &now);
        let texts: Vec<String> = changes.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["gone=1 is gone", "moved=1 is now 2", "new=1 is new"]);
    }

    #[test]
    fn another_content_under_the_same_version_is_a_difference() {
        let locked = [package("a", "1")];
        let mut now = locked.clone();
        now[0].digest = Some(Digest::of(b"other"));
        let texts: Vec<String> = compare(&locked, &now).iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["a=1 has another architecture or content"]);
    }
}

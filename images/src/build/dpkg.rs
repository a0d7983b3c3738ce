//! Debian packages: what the archive offers and what a root file system has.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// A package version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Package {
    /// Debian's name of it.
    pub name: String,
    /// Version with epoch and revision.
    pub version: String,
    /// Architecture, or `all`.
    pub architecture: String,
    /// Digest of the .deb file, where the archive gave one.
    pub digest: Option<Digest>,
}

impl fmt::Display for Package {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.version)
    }
}

/// One stanza of dpkg's status file, as far as images need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// Name, version and architecture.
    pub package: Package,
    /// Who maintains it.
    pub maintainer: String,
    /// The source package's name.
    pub source: String,
    /// Home page, if it has one.
    pub homepage: Option<String>,
}

/// Parses dpkg's status file: the packages that are installed, by name.
#[must_use]
pub fn parse_status(text: &str) -> BTreeMap<String, Installed> {
    text.split("\n\n")
        .filter_map(stanza)
        .map(|i| (i.package.name.clone(), i))
        .collect()
}

fn stanza(text: &str) -> Option<Installed> {
    let field = |name: &str| {
        text.lines().find_map(|line| {
            let value = line.strip_prefix(name)?.strip_prefix(':')?;
            Some(value.trim().to_owned())
        })
    };
    if !field("Status")?.ends_with(" installed") {
        return None;
    }
    let name = field("Package")?;
    let source = field("Source").unwrap_or_else(|| name.clone());
    Some(Installed {
        package: Package {
            version: field("Version")?,
            architecture: field("Architecture")?,
            digest: None,
            name,
        },
        maintainer: field("Maintainer").unwrap_or_default(),
        source: source.split(' ').next().unwrap_or_default().to_owned(),
        homepage: field("Homepage"),
    })
}

/// A .deb file that apt would fetch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deb {
    /// The package in it.
    pub package: Package,
    /// Its name in the directory of packages.
    pub file: String,
    /// Its size in bytes.
    pub size: u64,
}

/// Parses a line of `apt-get --print-uris install`: `'URI' FILE SIZE SHA256:HEX`.
#[must_use]
pub fn parse_uri_line(line: &str) -> Option<Deb> {
    let mut fields = line.strip_prefix('\'')?.split_once("' ")?.1.split(' ');
    let file = fields.next()?;
    let size = fields.next()?.parse().ok()?;
    let digest = fields
        .next()
        .and_then(|hash| Digest::from_hex(hash.strip_prefix("SHA256:")?).ok());
    let mut parts = file.strip_suffix(".deb")?.split('_');
    let (name, version, architecture) = (parts.next()?, parts.next()?, parts.next()?);
    Some(Deb {
        package: Package {
            name: name.to_owned(),
            version: version.replace("%3a", ":"),
            architecture: architecture.to_owned(),
            digest,
        },
        file: file.to_owned(),
        size,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_lists_what_is_installed() {
        let text = "Package: a\nStatus: install ok installed\nVersion: 1:2-3\nArchitecture: amd64\n\
                    Source: aa (1:2)\nMaintainer: M <m@x>\nDescription: x\n Package: not this\n\n\
                    Package: b\nStatus: deinstall ok config-files\nVersion: 1\nArchitecture: all\n";
        let found = parse_status(text);
        assert_eq!(found.len(), 1);
        assert_eq!(found["a"].package.to_string(), "a=1:2-3");
        assert_eq!(found["a"].source, "aa");
    }

    #[test]
    fn uri_lines_name_package_and_digest() {
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let line = format!("'http://x/n_1.deb' nova-common_2%3a26.2.2-1~deb12u5_all.deb 1234 SHA256:{hex}");
        let deb = parse_uri_line(&line).expect("parsed");
        assert_eq!(deb.package.to_string(), "nova-common=2:26.2.2-1~deb12u5");
        assert_eq!(deb.package.architecture, "all");
        assert_eq!(deb.package.digest, Some(Digest::of(b"")));
        assert_eq!(deb.size, 1234);
        assert_eq!(parse_uri_line("Reading package lists..."), None);
    }
}

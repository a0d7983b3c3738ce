//! What an operator writes to name content: a registry reference, an OCI layout directory, or an
//! archive (a layout in one tar file, for example a release bundle).

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use oci_spec::distribution;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// Where content is and what it is called there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// `host[:port]/repository[:tag][@digest]`
    Registry(distribution::Reference),
    /// `oci:/directory[:name]`: an OCI image layout.
    Layout {
        /// The directory that holds `oci-layout` and `index.json`.
        path: PathBuf,
        /// Which entry of `index.json`; may be left out where there is one only.
        name: Option<String>,
    },
    /// `oci-archive:/file.tar[:name]`, `/file.tar` or `./file.tar`: a layout inside a tar file.
    Archive {
        /// The tar file, uncompressed.
        path: PathBuf,
        /// Which entry of `index.json`; may be left out where there is one only.
        name: Option<String>,
    },
}

/// Why a text is no reference.
#[derive(Debug, thiserror::Error)]
pub enum ReferenceError {
    /// Not a registry reference.
    #[error("`{text}` is not an image reference")]
    Registry {
        /// The text given.
        text: String,
        /// What the grammar objects to.
        source: distribution::ParseError,
    },
    /// A short name: which registry it means would be a guess.
    #[error("`{0}` names no registry; write host/{0}")]
    Short(String),
    /// The name of a file where only a registry's repository can stand.
    #[error("`{0}` is not a repository")]
    Repository(String),
    /// A prefix such as `oci:` with nothing behind it.
    #[error("`{0}` has no path")]
    NoPath(String),
    /// A digest other than sha256.
    #[error("`{text}` has a digest that is not usable")]
    Digest {
        /// The text given.
        text: String,
        /// What is wrong with the digest.
        source: crate::digest::DigestError,
    },
}

impl Reference {
    /// The digest that the reference pins, if it does.
    pub fn digest(&self) -> Option<Digest> {
        match self {
            Reference::Registry(reference) => {
                reference.digest().and_then(|digest| Digest::parse(digest).ok())
            }
            Reference::Layout { .. } | Reference::Archive { .. } => None,
        }
    }

    /// `host/repository` of a registry reference: what trust policy and configuration go by.
    pub fn repository(&self) -> Option<String> {
        match self {
            Reference::Registry(reference) => Some(repository(reference)),
            Reference::Layout { .. } | Reference::Archive { .. } => None,
        }
    }

    /// What to ask the source for.
    pub fn selector(&self) -> Selector {
        match self {
            Reference::Registry(reference) => match self.digest() {
                Some(digest) => Selector::Digest(digest),
                None => Selector::Name(reference.tag().unwrap_or("latest").to_owned()),
            },
            Reference::Layout { name, .. } | Reference::Archive { name, .. } => match name {
                Some(name) => match Digest::parse(name) {
                    Ok(digest) => Selector::Digest(digest),
                    Err(_) => Selector::Name(name.clone()),
                },
                None => Selector::Only,
            },
        }
    }
}

/// `host/repository` without tag and digest.
pub(crate) fn repository(reference: &distribution::Reference) -> String {
    format!("{}/{}", reference.registry(), reference.repository())
}

/// What is wanted from a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// The manifest with this digest.
    Digest(Digest),
    /// A tag, or the name an entry of a layout has.
    Name(String),
    /// The one entry of a layout; an error where there are several.
    Only,
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Selector::Digest(digest) => digest.fmt(f),
            Selector::Name(name) => f.write_str(name),
            Selector::Only => f.write_str("its only entry"),
        }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let no_path = || ReferenceError::NoPath(text.to_owned());
        if let Some(rest) = text.strip_prefix("oci:") {
            let (path, name) = split_name(rest).ok_or_else(no_path)?;
            return Ok(Reference::Layout { path, name });
        }
        if let Some(rest) = text.strip_prefix("oci-archive:") {
            let (path, name) = split_name(rest).ok_or_else(no_path)?;
            return Ok(Reference::Archive { path, name });
        }
        if text.starts_with('/') || text.starts_with("./") || text.starts_with("../") {
            return Ok(Reference::Archive {
                path: PathBuf::from(text),
                name: None,
            });
        }
        let bare = text.strip_prefix("docker://").unwrap_or(text);
        if !names_registry(bare) {
            return Err(ReferenceError::Short(bare.to_owned()));
        }
        let reference: distribution::Reference = bare.parse().map_err(|source| ReferenceError::Registry {
            text: text.to_owned(),
            source,
        })?;
        if let Some(digest) = reference.digest() {
            Digest::parse(digest).map_err(|source| ReferenceError::Digest {
                text: text.to_owned(),
                source,
            })?;
        }
        Ok(Reference::Registry(reference))
    }
}

/// Whether the first part is a host: it has a dot or a port, or is `localhost`
/// (the rule of Docker's reference grammar).
fn names_registry(text: &str) -> bool {
    match text.split_once('/') {
        Some((host, _)) => host == "localhost" || host.contains(['.', ':']),
        None => false,
    }
}

/// `/path[:name]`; the name may hold a colon itself (`host:5000/repo:tag`, `sha256:…`), so the
/// path ends at the first one, as in containers-transports(5).
fn split_name(rest: &str) -> Option<(PathBuf, Option<String>)> {
    let (path, name) = match rest.split_once(':') {
        Some((path, name)) if !name.is_empty() => (path, Some(name.to_owned())),
        Some((path, _)) => (path, None),
        None => (rest, None),
    };
    (!path.is_empty()).then(|| (PathBuf::from(path), name))
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, path, name) = match self {
            Reference::Registry(reference) => return f.write_str(&reference.whole()),
            // Behind `oci-archive:` a colon would begin a name.
            Reference::Archive { path, name: None } if path.to_string_lossy().contains(':') => {
                return path.display().fmt(f);
            }
            Reference::Layout { path, name } => ("oci", path, name),
            Reference::Archive { path, name } => ("oci-archive", path, name),
        };
        write!(f, "{scheme}:{}", path.display())?;
        match name {
            Some(name) => write!(f, ":{name}"),
            None => Ok(()),
        }
    }
}

impl Serialize for Reference {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn references_parse_as_written() {
        let digest = format!("127.0.0.1:5000/a/b@sha256:{HEX}");
        let table: &[(&str, &str, &str)] = &[
            ("127.0.0.1:5000/a/b:1", "127.0.0.1:5000/a/b:1", "1"),
            ("docker://q.example/a:1", "q.example/a:1", "1"),
            ("localhost/a", "localhost/a:latest", "latest"),
            (&digest, &digest, &digest["127.0.0.1:5000/a/b@".len()..]),
            ("oci:/srv/l:name", "oci:/srv/l:name", "name"),
            ("oci:/srv/l", "oci:/srv/l", "its only entry"),
            ("oci:/srv/l:h:5000/r:1", "oci:/srv/l:h:5000/r:1", "h:5000/r:1"),
            ("/srv/x.tar", "oci-archive:/srv/x.tar", "its only entry"),
            ("./x.tar", "oci-archive:./x.tar", "its only entry"),
            ("/srv/x:1.tar", "/srv/x:1.tar", "its only entry"),
            ("oci-archive:x.tar:1", "oci-archive:x.tar:1", "1"),
        ];
        for (text, shown, selector) in table {
            let reference: Reference = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(reference.to_string(), *shown, "{text}");
            assert_eq!(reference.selector().to_string(), *selector, "{text}");
            let again: Reference = shown.parse().expect("what is shown parses");
            assert_eq!(again, reference, "{text}");
        }
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        let sha512 = format!("h.example/a@sha512:{}", "ab".repeat(64));
        for text in [
            "",
            "ubuntu",
            "a/b",
            "oci:",
            "oci-archive::x",
            "h.example/A",
            &sha512,
        ] {
            let error = text.parse::<Reference>().expect_err(text);
            assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn a_repository_has_neither_tag_nor_digest() {
        let reference: Reference = "h.example:5000/a/b:1".parse().expect("parses");
        assert_eq!(reference.repository().as_deref(), Some("h.example:5000/a/b"));
    }
}

//! `policy.toml` of the trust directory: which keys vouch for which repository. What no rule covers
//! is refused.
//!
//! ```toml
//! revoked = ["stolen.pub"]            # counts nowhere, whatever a rule says; a file or a fingerprint
//!
//! [retired]                           # counts for what it signed until then
//! "2025.pub" = "2026-01-31T00:00:00Z"
//!
//! [[repository]]
//! name = "registry.example/compute"   # this repository and all below it
//! keys = ["2026.pub", "2027.pub"]     # files beside policy.toml
//! signatures = 1                      # so many of them have to have signed
//! identity = "build.example/compute"  # the name the signer used, if another
//! max_age_days = 90                   # signatures that are older, or don't say, do not count
//! unnamed = true                      # signatures that name no repository count here, too
//!
//! [[repository]]
//! name = "127.0.0.1:5000"
//! insecure = "accept-unsigned"        # no check at all; shows in `nodectl status`
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Deserialize;

use super::key::{KeyError, PublicKey};
use crate::digest::Digest;

/// The policy and its keys.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    rules: Vec<Rule>,
    keys: BTreeMap<String, PublicKey>,
    revoked: BTreeSet<Digest>,
    retired: BTreeMap<Digest, Timestamp>,
}

/// What holds for a repository and all below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// `host`, `host/path`, `file:/path`, or `*` for everything else.
    pub name: String,
    /// The name signatures have in its place.
    pub identity: Option<String>,
    /// What has to hold.
    pub require: Requirement,
    /// How old a signature may be, in days; none for no limit.
    pub max_age_days: Option<NonZeroU32>,
    /// Whether signatures count that name no repository, and so might have been made for another one.
    pub unnamed: bool,
}

/// What has to hold for content to be accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requirement {
    /// Nothing; the policy says so in so many words.
    Nothing,
    /// At least `needed` of `keys` have signed.
    Signatures {
        /// Key file names.
        keys: Vec<String>,
        /// How many.
        needed: NonZeroUsize,
    },
}

/// Why a policy can't be used. Nothing is trusted then.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// A file can't be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not TOML, or unknown keys.
    #[error("{} is not a trust policy", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why.
        source: toml::de::Error,
    },
    /// A key file that is no key.
    #[error("{} is not a usable key", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        source: KeyError,
    },
    /// A rule that contradicts itself or another.
    #[error("{}: repository `{rule}` {problem}", path.display())]
    Rule {
        /// The policy file.
        path: PathBuf,
        /// The rule's name.
        rule: String,
        /// What is wrong.
        problem: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    revoked: Vec<String>,
    #[serde(default)]
    retired: BTreeMap<String, Timestamp>,
    #[serde(default)]
    repository: Vec<RawRule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    name: String,
    keys: Option<Vec<String>>,
    signatures: Option<NonZeroUsize>,
    identity: Option<String>,
    max_age_days: Option<NonZeroU32>,
    #[serde(default)]
    unnamed: bool,
    insecure: Option<Insecure>,
}

#[derive(Deserialize)]
enum Insecure {
    #[serde(rename = "accept-unsigned")]
    AcceptUnsigned,
}

impl Trust {
    /// Reads `policy.toml` and the keys it names from a directory. Without the file nothing is
    /// trusted.
    ///
    /// # Errors
    /// [`PolicyError`] names the file and the rule. A policy that is half understood is not used.
    pub fn load(directory: &Path) -> Result<Self, PolicyError> {
        let path = directory.join("policy.toml");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Trust::default()),
            Err(source) => return Err(PolicyError::Read { path, source }),
        };
        Trust::parse(&text, directory)
    }

    /// Reads the text of `policy.toml` and, from `directory`, the keys it names.
    ///
    /// # Errors
    /// As [`Trust::load`].
    pub fn parse(text: &str, directory: &Path) -> Result<Self, PolicyError> {
        let path = directory.join("policy.toml");
        let file: File = toml::from_str(text).map_err(|source| PolicyError::Parse {
            path: path.clone(),
            source,
        })?;
        let mut trust = Trust::default();
        for raw in file.repository {
            let name = raw.name.clone();
            let rule = rule(raw).and_then(|rule| trust.unique(rule));
            let rule = rule.map_err(|problem| PolicyError::Rule {
                path: path.clone(),
                rule: name,
                problem,
            })?;
            if let Requirement::Signatures { keys, .. } = &rule.require {
                for key in keys {
                    trust.keys.insert(key.clone(), load_key(directory, key)?);
                }
            }
            trust.rules.push(rule);
        }
        for entry in &file.revoked {
            trust.revoked.insert(fingerprint(directory, entry)?);
        }
        for (entry, time) in &file.retired {
            trust.retired.insert(fingerprint(directory, entry)?, *time);
        }
        Ok(trust)
    }

    /// A key by the name of its file.
    pub(super) fn key(&self, name: &str) -> Option<&PublicKey> {
        self.keys.get(name)
    }

    /// Whether nothing that this key ever signed counts.
    pub fn is_revoked(&self, name: &str) -> bool {
        self.key(name)
            .is_some_and(|key| self.revoked.contains(&key.fingerprint()))
    }

    /// Until when what this key signed counts, if there is an end.
    pub fn retired(&self, name: &str) -> Option<Timestamp> {
        self.retired.get(&self.key(name)?.fingerprint()).copied()
    }

    fn unique(&self, rule: Rule) -> Result<Rule, String> {
        if self.rules.iter().any(|other| other.name == rule.name) {
            return Err("has two rules".to_owned());
        }
        Ok(rule)
    }

    /// The rule for a place: the longest name that covers it.
    pub fn rule_for(&self, place: &str) -> Option<&Rule> {
        self.rules
            .iter()
            .filter(|rule| rule.rest(place).is_some())
            .max_by_key(|rule| if rule.name == "*" { 0 } else { rule.name.len() })
    }

    /// All rules, in the order of the file.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The names of the rules that accept anything, for `status` to show.
    pub fn insecure_rules(&self) -> impl Iterator<Item = &str> {
        let insecure = self
            .rules
            .iter()
            .filter(|rule| rule.require == Requirement::Nothing);
        insecure.map(|rule| rule.name.as_str())
    }
}

/// A key as the policy names it: by its file, or by its fingerprint where the file is gone.
fn fingerprint(directory: &Path, entry: &str) -> Result<Digest, PolicyError> {
    match Digest::parse(entry) {
        Ok(fingerprint) => Ok(fingerprint),
        Err(_) => Ok(load_key(directory, entry)?.fingerprint()),
    }
}

fn rule(raw: RawRule) -> Result<Rule, String> {
    if raw.name.is_empty() || raw.name.ends_with('/') || raw.name.contains('@') {
        return Err("is not a repository, nor the start of one".to_owned());
    }
    let require = match (raw.keys, raw.insecure, raw.signatures) {
        (Some(_), Some(_), _) => return Err("has keys and is insecure: one or the other".to_owned()),
        (None, Some(_), Some(_)) => return Err("is insecure and wants signatures".to_owned()),
        (None, Some(Insecure::AcceptUnsigned), None) if raw.max_age_days.is_some() => {
            return Err("is insecure and wants signatures of some age".to_owned());
        }
        (None, Some(_), None) if raw.unnamed => {
            return Err("is insecure and wants signatures of some kind".to_owned());
        }
        (None, Some(Insecure::AcceptUnsigned), None) => Requirement::Nothing,
        (None, None, _) => {
            return Err("names no keys (nor says insecure = \"accept-unsigned\")".to_owned());
        }
        (Some(keys), None, signatures) => {
            let needed = signatures.unwrap_or(NonZeroUsize::MIN);
            if keys.len() < needed.get() {
                return Err(format!("wants {needed} signatures and has {} keys", keys.len()));
            }
            Requirement::Signatures { keys, needed }
        }
    };
    if raw.name == "*" && raw.identity.is_some() {
        return Err("can't have an identity".to_owned());
    }
    Ok(Rule {
        name: raw.name,
        identity: raw.identity,
        require,
        max_age_days: raw.max_age_days,
        unnamed: raw.unnamed,
    })
}

fn load_key(directory: &Path, name: &str) -> Result<PublicKey, PolicyError> {
    let path = directory.join(name);
    let pem = std::fs::read(&path).map_err(|source| PolicyError::Read {
        path: path.clone(),
        source,
    })?;
    PublicKey::from_pem(&pem).map_err(|source| PolicyError::Key { path, source })
}

impl Rule {
    /// The part of `place` behind this rule's name, if the rule covers it. Files are covered by
    /// `file:` rules only: `*` means every registry.
    fn rest<'a>(&self, place: &'a str) -> Option<&'a str> {
        if self.name == "*" {
            return (!place.starts_with("file:")).then_some("");
        }
        below(&self.name, place)
    }

    /// The repository a signature must name for content of `place`.
    pub(super) fn expected(&self, place: &str) -> Option<String> {
        let rest = self.rest(place)?;
        match &self.identity {
            Some(identity) => Some(format!("{identity}{rest}")),
            None => Some(place.to_owned()),
        }
    }

    /// Whether this rule is about signatures that name `repository`.
    pub(super) fn speaks_of(&self, repository: &str) -> bool {
        match (&self.identity, self.name.as_str()) {
            (Some(identity), _) => below(identity, repository).is_some(),
            (None, "*") => true,
            (None, name) => below(name, repository).is_some(),
        }
    }
}

/// What is behind `start` if `text` is it or below it: `/…` or nothing.
fn below<'a>(start: &str, text: &'a str) -> Option<&'a str> {
    let rest = text.strip_prefix(start)?;
    (rest.is_empty() || rest.starts_with('/')).then_some(rest)
}

#[cfg(test)]
#[path = "policy_tests.rs"]
pub(super) mod tests;

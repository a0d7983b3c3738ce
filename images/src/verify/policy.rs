//! `policy.toml` of the trust directory: which keys vouch for which repository. What no rule covers
//! is refused.
//!
//! ```toml
//! revoked = ["2025.pub"]              # never count, whatever a rule says
//!
//! [[repository]]
//! name = "registry.example/compute"   # this repository and all below it
//! keys = ["2026.pub", "2027.pub"]     # files beside policy.toml
//! signatures = 1                      # so many of them have to have signed
//! identity = "build.example/compute"  # the name the signer used, if another
//!
//! [[repository]]
//! name = "127.0.0.1:5000"
//! insecure = "accept-unsigned"        # no check at all; shows in `nodectl status`
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::cosign::{Payload, Signature};
use super::key::{KeyError, PublicKey};
use super::{Authority, VerifyError};
use crate::digest::Digest;

/// The policy and its keys.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    rules: Vec<Rule>,
    keys: BTreeMap<String, PublicKey>,
    revoked: BTreeSet<Digest>,
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
    repository: Vec<RawRule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    name: String,
    keys: Option<Vec<String>>,
    signatures: Option<NonZeroUsize>,
    identity: Option<String>,
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
        let file: File = toml::from_str(&text).map_err(|source| PolicyError::Parse {
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
        for entry in file.revoked {
            let revoked = match Digest::parse(&entry) {
                Ok(fingerprint) => fingerprint,
                Err(_) => load_key(directory, &entry)?.fingerprint(),
            };
            trust.revoked.insert(revoked);
        }
        Ok(trust)
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

fn rule(raw: RawRule) -> Result<Rule, String> {
    if raw.name.is_empty() || raw.name.ends_with('/') || raw.name.contains('@') {
        return Err("is not a repository, nor the start of one".to_owned());
    }
    let require = match (raw.keys, raw.insecure, raw.signatures) {
        (Some(_), Some(_), _) => return Err("has keys and is insecure: one or the other".to_owned()),
        (None, Some(_), Some(_)) => return Err("is insecure and wants signatures".to_owned()),
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
    fn expected(&self, place: &str) -> Option<String> {
        let rest = self.rest(place)?;
        match &self.identity {
            Some(identity) => Some(format!("{identity}{rest}")),
            None => Some(place.to_owned()),
        }
    }

    /// Whether this rule is about signatures that name `repository`.
    fn speaks_of(&self, repository: &str) -> bool {
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

/// Weighs signatures. `repository` is the place's name where it has one; for files the name in the
/// signed payload counts instead.
pub(super) fn judge(
    trust: &Trust,
    place: &str,
    repository: Option<&str>,
    digest: &Digest,
    signatures: &[Signature],
) -> Result<Authority, VerifyError> {
    // Repository as signed → keys that have signed, and how many the rule wants.
    let mut signed: BTreeMap<String, (BTreeSet<String>, usize)> = BTreeMap::new();
    let mut reasons = Vec::new();
    for (number, signature) in signatures.iter().enumerate() {
        match one(trust, repository, digest, signature) {
            Ok((name, key, needed)) => {
                let entry = signed.entry(name).or_insert((BTreeSet::new(), needed));
                entry.0.insert(key);
            }
            Err(reason) => reasons.push(format!("signature {}: {reason}", number + 1)),
        }
    }
    let mut short = None;
    for (name, (keys, needed)) in signed {
        let keys: Vec<String> = keys.into_iter().collect();
        if distinct(trust, &keys) >= needed {
            return Ok(Authority::Signed {
                repository: name,
                keys,
            });
        }
        short = Some((keys, needed));
    }
    let place = place.to_owned();
    match short {
        Some((have, needed)) => Err(VerifyError::TooFew {
            place,
            digest: *digest,
            have,
            needed,
        }),
        None => Err(VerifyError::Untrusted {
            place,
            digest: *digest,
            reasons,
        }),
    }
}

/// Two files with the same key count once.
fn distinct(trust: &Trust, names: &[String]) -> usize {
    let fingerprints = names.iter().filter_map(|name| trust.keys.get(name));
    fingerprints
        .map(PublicKey::fingerprint)
        .collect::<BTreeSet<_>>()
        .len()
}

/// Judges one signature: the repository it names, the key that made it, and how many are needed.
fn one(
    trust: &Trust,
    repository: Option<&str>,
    digest: &Digest,
    signature: &Signature,
) -> Result<(String, String, usize), String> {
    let bytes = signature.signature.as_deref().ok_or("not base64")?;
    let payload = Payload::parse(&signature.payload)?;
    let named = payload.repository().to_owned();
    let rule = match repository {
        Some(repository) => {
            let rule = trust.rule_for(repository).ok_or("no rule")?;
            let expected = rule.expected(repository).ok_or("no rule")?;
            if named != expected {
                return Err(format!("it is for {named}, not for {expected}"));
            }
            rule
        }
        None => trust
            .rules
            .iter()
            .filter(|rule| rule.speaks_of(&named))
            .max_by_key(|rule| rule.name.len())
            .ok_or_else(|| format!("it is for {named}, which no rule covers"))?,
    };
    let Requirement::Signatures { keys, needed } = &rule.require else {
        return Err(format!(
            "the rule for {named} has no keys, and a file proves no origin"
        ));
    };
    if payload.critical.image.docker_manifest_digest != *digest {
        return Err(format!(
            "it is over {}",
            payload.critical.image.docker_manifest_digest
        ));
    }
    let made_by = keys.iter().find(|name| {
        trust
            .keys
            .get(*name)
            .is_some_and(|key| key.verifies(&signature.payload, bytes))
    });
    let name = made_by.ok_or_else(|| format!("made by none of {}", keys.join(", ")))?;
    let fingerprint = trust.keys.get(name).map(PublicKey::fingerprint);
    if fingerprint.is_some_and(|fingerprint| trust.revoked.contains(&fingerprint)) {
        return Err(format!("made by {name}, which is revoked"));
    }
    Ok((named, name.clone(), needed.get()))
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;

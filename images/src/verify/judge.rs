//! Weighs signatures against the policy. Pure: the time comes in as a value.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::claim::{Claim, Signature};
use super::key::PublicKey;
use super::policy::{Requirement, Rule, Trust};
use super::{Authority, VerifyError};
use crate::digest::Digest;

/// What the good signatures for one repository amount to.
struct Tally {
    /// Who has signed, by key file, and when at the latest.
    signers: BTreeMap<String, Option<Timestamp>>,
    needed: usize,
}

/// One signature that counts.
struct Good {
    repository: String,
    key: String,
    time: Option<Timestamp>,
    needed: usize,
}

/// Weighs signatures. `repository` is the place's name where it has one; for files the name in the
/// signed payload counts instead.
pub(super) fn judge(
    trust: &Trust,
    place: &str,
    repository: Option<&str>,
    digest: &Digest,
    signatures: &[Signature],
    now: Timestamp,
) -> Result<Authority, VerifyError> {
    let mut signed: BTreeMap<String, Tally> = BTreeMap::new();
    let mut reasons = Vec::new();
    for (number, signature) in signatures.iter().enumerate() {
        match one(trust, repository, digest, signature, now) {
            Ok(good) => {
                let tally = signed.entry(good.repository).or_insert(Tally {
                    signers: BTreeMap::new(),
                    needed: good.needed,
                });
                let latest = tally.signers.entry(good.key).or_default();
                *latest = (*latest).max(good.time);
            }
            Err(reason) => reasons.push(format!("signature {}: {reason}", number + 1)),
        }
    }
    let mut short = None;
    for (name, tally) in signed {
        let times = distinct(trust, &tally.signers);
        let keys: Vec<String> = tally.signers.into_keys().collect();
        // The last of those needed: what one key alone says, however late, moves nothing.
        if let Some(time) = times.get(tally.needed - 1) {
            return Ok(Authority::Signed {
                repository: name,
                keys,
                time: *time,
            });
        }
        short = Some((keys, tally.needed));
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

/// When each key has signed, the latest first. Two files with the same key count once.
fn distinct(trust: &Trust, signers: &BTreeMap<String, Option<Timestamp>>) -> Vec<Option<Timestamp>> {
    let mut keys: BTreeMap<Digest, Option<Timestamp>> = BTreeMap::new();
    for (name, time) in signers {
        if let Some(key) = trust.key(name) {
            let latest = keys.entry(key.fingerprint()).or_default();
            *latest = (*latest).max(*time);
        }
    }
    let mut times: Vec<_> = keys.into_values().collect();
    times.sort_unstable_by(|a, b| b.cmp(a));
    times
}

/// Judges one signature. The error is the reason in words.
fn one(
    trust: &Trust,
    repository: Option<&str>,
    digest: &Digest,
    signature: &Signature,
    now: Timestamp,
) -> Result<Good, String> {
    let claim = signature.claim.as_ref().map_err(String::clone)?;
    let bytes = signature.signature.as_deref().ok_or("not base64")?;
    let (rule, named) = rule_of(trust, repository, claim)?;
    let Requirement::Signatures { keys, needed } = &rule.require else {
        return Err(format!(
            "the rule for {named} has no keys, and a file proves no origin"
        ));
    };
    if claim.digest != *digest {
        return Err(format!("it is over {}", claim.digest));
    }
    let made_by = |name: &&String| {
        let key = trust.key(name);
        key.is_some_and(|key: &PublicKey| key.verifies(&signature.message, bytes))
    };
    let name = keys
        .iter()
        .find(made_by)
        .ok_or_else(|| format!("made by none of {}", keys.join(", ")))?;
    check_key(trust, name, claim.time)?;
    check_age(rule, claim.time, now)?;
    Ok(Good {
        repository: named,
        key: name.clone(),
        time: claim.time,
        needed: needed.get(),
    })
}

/// The rule that a claim has to satisfy, and the repository it then counts for.
fn rule_of<'a>(
    trust: &'a Trust,
    repository: Option<&str>,
    claim: &Claim,
) -> Result<(&'a Rule, String), String> {
    let Some(repository) = repository else {
        let Some(named) = &claim.repository else {
            return Err("it names no repository, and neither does a file".to_owned());
        };
        let speaking = trust.rules().iter().filter(|rule| rule.speaks_of(named));
        let rule = speaking.max_by_key(|rule| rule.name.len());
        let rule = rule.ok_or_else(|| format!("it is for {named}, which no rule covers"))?;
        return Ok((rule, named.clone()));
    };
    let rule = trust.rule_for(repository).ok_or("no rule")?;
    let expected = rule.expected(repository).ok_or("no rule")?;
    match &claim.repository {
        Some(named) if *named != expected => Err(format!("it is for {named}, not for {expected}")),
        None if !rule.unnamed => Err(format!(
            "it names no repository, and the rule {} does not say `unnamed = true`",
            rule.name
        )),
        _ => Ok((rule, expected)),
    }
}

/// Whether the key still counts, or counted when it signed.
fn check_key(trust: &Trust, name: &str, time: Option<Timestamp>) -> Result<(), String> {
    if trust.is_revoked(name) {
        return Err(format!("made by {name}, which is revoked"));
    }
    match (trust.retired(name), time) {
        (None, _) => Ok(()),
        (Some(retired), Some(time)) if time <= retired => Ok(()),
        (Some(retired), Some(time)) => Err(format!(
            "made by {name} at {time}, which was retired at {retired}"
        )),
        (Some(_), None) => Err(format!(
            "made by {name}, which was retired, and does not say when"
        )),
    }
}

/// A time to come is no age: clocks differ, and one that is years behind must not lock a node out.
fn check_age(rule: &Rule, time: Option<Timestamp>, now: Timestamp) -> Result<(), String> {
    let Some(days) = rule.max_age_days else {
        return Ok(());
    };
    let Some(time) = time else {
        return Err(format!(
            "it does not say when it was made, and may be {days} days old at most"
        ));
    };
    if now.duration_since(time) > SignedDuration::from_hours(i64::from(days.get()) * 24) {
        return Err(format!("made at {time}, more than {days} days ago"));
    }
    Ok(())
}

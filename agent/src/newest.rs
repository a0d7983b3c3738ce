//! The newest release of each repository that this node has run: `newest.json`.
//!
//! A signature stays good for ever, so whoever controls a registry or a mirror could offer an old release, with
//! its old faults, as the present one. What was signed before the newest release that held here is therefore
//! refused unless the operator asks for it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use node_images::durable;
use serde::{Deserialize, Serialize};

use crate::api::ReleaseInfo;
use crate::error::{AgentError, Kind, Result};
use crate::root::Roots;

/// Format of the record that this version reads and writes.
const FORMAT: u32 = 1;

/// The record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Newest {
    format: u32,
    /// By the repository that the signatures name.
    repositories: BTreeMap<String, Mark>,
}

/// How far one repository has come here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mark {
    /// When the release was signed.
    signed: Timestamp,
    /// Its digest.
    digest: String,
    /// Its name and version, for people.
    release: String,
}

impl Mark {
    /// What a release is worth as a mark: its repository and the mark. None without a time of signing.
    fn of(release: &ReleaseInfo) -> Option<(&str, Mark)> {
        let signed = release.signed.as_ref()?;
        let mark = Mark {
            signed: signed.time?,
            digest: release.digest.clone(),
            release: format!("{} {}", release.name, release.version),
        };
        Some((&signed.repository, mark))
    }
}

/// Refuses a release that is older than one this node has run. `present` is what it runs now, which counts
/// even where the record was lost.
///
/// # Errors
/// It is older, or the record can't be read.
pub fn check(roots: &Roots, release: &ReleaseInfo, present: Option<&ReleaseInfo>) -> Result<()> {
    let mut marks = load(roots)?.repositories;
    if let Some((repository, mark)) = present.and_then(Mark::of) {
        let newest = marks.entry(repository.to_owned()).or_insert_with(|| mark.clone());
        if newest.signed < mark.signed {
            *newest = mark;
        }
    }
    verdict(&marks, release).map_err(|text| {
        AgentError::verification(text).hint(
            "--allow-downgrade takes it; `nodectl rollback` returns to a deployment that is on the node",
        )
    })
}

/// The decision. The error is the reason in words.
fn verdict(marks: &BTreeMap<String, Mark>, release: &ReleaseInfo) -> std::result::Result<(), String> {
    // A policy that wants no signatures gives nothing to compare.
    let Some(signed) = &release.signed else {
        return Ok(());
    };
    let Some(newest) = marks.get(&signed.repository) else {
        return Ok(());
    };
    let which = format!("release {} {}", release.name, release.version);
    let than = format!(
        "{}, signed {}, which this node has run",
        newest.release, newest.signed
    );
    match signed.time {
        _ if release.digest == newest.digest => Ok(()),
        Some(time) if time >= newest.signed => Ok(()),
        Some(time) => Err(format!("{which} was signed {time} and is older than {than}")),
        None => Err(format!(
            "{which} does not say when it was signed, so it may be older than {than}"
        )),
    }
}

/// Puts a release that held on record as the newest of its repository, also where an older one was asked for.
///
/// # Errors
/// The record can't be read or written.
pub fn record(roots: &Roots, release: &ReleaseInfo) -> Result<()> {
    let Some((repository, mark)) = Mark::of(release) else {
        return Ok(());
    };
    // A record that can't be read was overruled by the operator when the release was let in.
    let mut newest = load(roots).unwrap_or_else(|_| Newest::empty());
    if newest.repositories.get(repository) == Some(&mark) {
        return Ok(());
    }
    newest.repositories.insert(repository.to_owned(), mark);
    let bytes = serde_json::to_vec_pretty(&newest)
        .map_err(|e| AgentError::other("can't write the record of the newest release").because(e))?;
    durable::write_file(&roots.newest(), &bytes, 0o644)
        .map_err(|e| AgentError::from_leaf(Kind::Other, "can't put the release on record as the newest", e))
}

impl Newest {
    fn empty() -> Newest {
        Newest {
            format: FORMAT,
            repositories: BTreeMap::new(),
        }
    }
}

/// Whether the record can be read, where there is one.
///
/// # Errors
/// It can't.
pub fn readable(roots: &Roots) -> Result<()> {
    load(roots).map(drop)
}

fn load(roots: &Roots) -> Result<Newest> {
    let path = roots.newest();
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Newest::empty()),
        Err(e) => return Err(AgentError::io("read", &path, e)),
    };
    let unusable = |why: String| {
        AgentError::verification(format!("{} {why}", path.display()))
            .hint("--allow-downgrade goes on without it and writes it anew")
    };
    let newest: Newest =
        serde_json::from_slice(&bytes).map_err(|e| unusable("is damaged".to_owned()).because(e))?;
    if newest.format != FORMAT {
        let why = format!("has format {}, this version knows up to {FORMAT}", newest.format);
        return Err(unusable(why));
    }
    Ok(newest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::SignedBy;

    fn release(version: &str, repository: &str, day: Option<u8>) -> ReleaseInfo {
        let time = day.map(|day| format!("2026-01-{day:02}T00:00:00Z").parse().unwrap());
        ReleaseInfo {
            reference: "r.example/compute:latest".into(),
            digest: format!("sha256:{version}"),
            name: "compute".into(),
            version: version.into(),
            signed: Some(SignedBy {
                repository: repository.into(),
                keys: vec!["a.pub".into()],
                time,
            }),
        }
    }

    #[test]
    fn what_is_older_than_what_held_is_refused() {
        let base = tempfile::tempdir().unwrap();
        let roots = Roots::under(base.path());
        std::fs::create_dir_all(&roots.state).unwrap();
        let (r, other) = ("r.example/compute", "r.example/other");
        check(&roots, &release("1", r, Some(1)), None).unwrap();
        record(&roots, &release("2", r, Some(10))).unwrap();
        let unsigned = ReleaseInfo {
            signed: None,
            ..release("1", r, None)
        };
        let table = [
            (release("3", r, Some(11)), None),
            (release("2b", r, Some(10)), None),
            (release("2", r, Some(1)), None),
            (release("1", other, Some(1)), None),
            (unsigned, None),
            (release("1", r, Some(9)), Some("is older than compute 2")),
            (release("1", r, None), Some("does not say when")),
        ];
        for (offered, expected) in table {
            let result = check(&roots, &offered, None).map_err(|e| e.chain());
            match (result, expected) {
                (Ok(()), None) => {}
                (Err(text), Some(expected)) => assert!(text.contains(expected), "{text}"),
                (result, _) => panic!("{offered:?}: {result:?}"),
            }
        }
        // An older one that was let in is the newest from then on.
        record(&roots, &release("1", r, Some(1))).unwrap();
        check(&roots, &release("1b", r, Some(2)), None).unwrap();
    }

    #[test]
    fn what_runs_counts_where_the_record_is_lost_and_damage_is_no_permission() {
        let base = tempfile::tempdir().unwrap();
        let roots = Roots::under(base.path());
        std::fs::create_dir_all(&roots.state).unwrap();
        let (old, new) = (release("1", "r", Some(1)), release("2", "r", Some(2)));
        check(&roots, &old, Some(&new)).unwrap_err();
        check(&roots, &new, Some(&old)).unwrap();
        for text in ["{", r#"{"format":2,"repositories":{}}"#] {
            std::fs::write(roots.newest(), text).unwrap();
            let error = check(&roots, &new, None).unwrap_err();
            assert!(error.chain().contains("newest.json"), "{}", error.chain());
        }
        record(&roots, &new).unwrap();
        check(&roots, &old, None).unwrap_err();
    }
}

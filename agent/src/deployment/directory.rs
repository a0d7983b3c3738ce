//! Deployments on disk.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Seq;
use super::document::{DeploymentDocument, FORMAT};
use crate::error::{AgentError, Result};
use crate::release::ReleaseDocument;
use crate::root::Roots;

/// A deployment read from its directory.
#[derive(Debug, Clone, PartialEq)]
pub struct Deployment {
    /// Its number.
    pub seq: Seq,
    /// Its directory.
    pub path: PathBuf,
    /// What it is.
    pub document: DeploymentDocument,
    /// The release it was made from.
    pub release: ReleaseDocument,
    /// Text of each service's unit, by service.
    pub units: BTreeMap<String, String>,
}

impl Deployment {
    /// Reads a deployment.
    ///
    /// # Errors
    /// It is missing, damaged, or from a newer version; the error names the file.
    pub fn load(roots: &Roots, seq: Seq) -> Result<Deployment> {
        let path = roots.deployment(seq);
        let document = load_document(&path)?;
        if document.seq != seq {
            return Err(damaged(&path.join("deployment.json"))
                .because(format!("it says that it is {}", document.seq)));
        }
        let file = path.join("release.json");
        let release = ReleaseDocument::parse(&read(&file)?).map_err(|e| damaged(&file).because(e))?;
        let mut units = BTreeMap::new();
        for (name, service) in &document.services {
            if !is_plain(name) || !is_plain(&service.unit) {
                let text = format!("{name:?} with {:?} is no service", service.unit);
                return Err(damaged(&path.join("deployment.json")).because(text));
            }
            let file = path.join("units").join(&service.unit);
            let text = String::from_utf8(read(&file)?).map_err(|e| damaged(&file).because(e))?;
            units.insert(name.clone(), text);
        }
        Ok(Deployment {
            seq,
            path,
            document,
            release,
            units,
        })
    }

    /// The directory of a service's bundle.
    pub fn bundle(&self, service: &str) -> PathBuf {
        self.path.join("services").join(service)
    }
}

/// Whether it names something in a directory, and nothing elsewhere.
fn is_plain(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '\0'])
}

fn load_document(directory: &Path) -> Result<DeploymentDocument> {
    #[derive(serde::Deserialize)]
    struct Format {
        format: u32,
    }
    let file = directory.join("deployment.json");
    let bytes = read(&file)?;
    let format: Format = serde_json::from_slice(&bytes).map_err(|e| damaged(&file).because(e))?;
    if format.format > FORMAT {
        let text = format!(
            "{} has format {}, this version knows up to {FORMAT}",
            file.display(),
            format.format
        );
        return Err(AgentError::other(text).hint("use the nodectl that wrote it, or a newer one"));
    }
    serde_json::from_slice(&bytes).map_err(|e| damaged(&file).because(e))
}

fn read(file: &Path) -> Result<Vec<u8>> {
    std::fs::read(file).map_err(|e| AgentError::io("read", file, e))
}

fn damaged(file: &Path) -> AgentError {
    AgentError::other(format!("{} is damaged", file.display()))
}

/// The deployment that `current` names; `None` on an empty node.
///
/// # Errors
/// `current` can't be read or is not a link to a deployment.
pub fn current(roots: &Roots) -> Result<Option<Seq>> {
    let link = roots.current();
    match std::fs::read_link(&link) {
        Ok(target) => {
            let name = target.file_name().and_then(|n| n.to_str()).and_then(Seq::parse);
            match name {
                Some(seq) if target == roots.current_target(seq) => Ok(Some(seq)),
                Some(_) | None => Err(damaged(&link).because(format!(
                    "it leads to {}, which is no deployment",
                    target.display()
                ))),
            }
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(AgentError::io("read", &link, e)),
    }
}

/// Numbers of all deployments, oldest first.
///
/// # Errors
/// The directory can't be read.
pub fn list(roots: &Roots) -> Result<Vec<Seq>> {
    let directory = roots.deployments();
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(AgentError::io("list", &directory, e)),
    };
    let mut seqs = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| AgentError::io("list", &directory, e))?;
        seqs.extend(entry.file_name().to_str().and_then(Seq::parse));
    }
    seqs.sort_unstable();
    Ok(seqs)
}

/// The number that the next deployment gets: above every one that is there or was in use.
///
/// # Errors
/// As for [`list`] and [`current`], or a number is in use that none can follow.
pub fn next_seq(roots: &Roots, used: impl IntoIterator<Item = Seq>) -> Result<Seq> {
    let highest = list(roots)?.into_iter().chain(current(roots)?).chain(used).max();
    let Some(highest) = highest else {
        return Ok(Seq::FIRST);
    };
    highest
        .next()
        .ok_or_else(|| AgentError::other(format!("no deployment can follow number {highest}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> (tempfile::TempDir, Roots) {
        let base = tempfile::tempdir().unwrap();
        let roots = Roots::under(base.path());
        std::fs::create_dir_all(roots.deployment(Seq(1)).join("units")).unwrap();
        (base, roots)
    }

    #[test]
    fn no_number_follows_the_last_one() {
        let (_base, roots) = node();
        assert_eq!(next_seq(&roots, [Seq(7)]).unwrap(), Seq(8));
        let error = next_seq(&roots, [Seq(u64::MAX)]).unwrap_err();
        assert!(
            error.chain().contains("18446744073709551615"),
            "{}",
            error.chain()
        );
    }

    #[test]
    fn a_damaged_document_leads_nowhere_else() {
        let (_base, roots) = node();
        let directory = roots.deployment(Seq(1));
        let hex = "ab".repeat(32);
        std::fs::write(directory.join("outside"), "text").unwrap();
        std::fs::write(
            directory.join("release.json"),
            format!(
                r#"{{"format":1,"name":"x","version":"1","images":{{"i":{{"repository":"a","digest":"sha256:{hex}","size":1}}}},
                "services":{{"s":{{"format":1,"name":"s","description":"","image":"i"}}}}}}"#
            ),
        )
        .unwrap();
        let load = |name: &str, unit: &str| {
            let text = format!(
                r#"{{"format":1,"seq":1,"created":"2026-01-01T00:00:00Z","previous":null,"reason":"set","parameters":{{}},
                "operator":{{}},"release":{{"reference":"r","digest":"d","name":"x","version":"1"}},"services":
                {{{name:?}:{{"image":"i","manifest":"sha256:{hex}","digest":"{hex}","unit":{unit:?}}}}}}}"#
            );
            std::fs::write(directory.join("deployment.json"), text).unwrap();
            std::fs::write(directory.join("units/s.service"), "text").unwrap();
            Deployment::load(&roots, Seq(1))
        };
        assert!(load("s", "s.service").is_ok());
        for (name, unit) in [
            ("s", "../outside"),
            ("s", "/dev/null"),
            ("s", ".."),
            ("../s", "s.service"),
            ("", "s.service"),
        ] {
            let error = load(name, unit).unwrap_err().chain();
            assert!(
                error.contains("deployment.json is damaged"),
                "{name} {unit}: {error}"
            );
        }
    }
}

//! Releases that failed on this node: `rejected/<release digest hex>.json`.

use std::collections::BTreeMap;

use node_images::durable;
use serde::{Deserialize, Serialize};

use crate::api::ReleaseInfo;
use crate::error::{AgentError, Kind, Result};
use crate::root::Roots;

/// Why a release is not tried again by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// The release.
    pub release: ReleaseInfo,
    /// What went wrong.
    pub reason: String,
    /// When.
    pub time: jiff::Timestamp,
}

fn path(roots: &Roots, digest: &str) -> std::path::PathBuf {
    let hex = digest.rsplit(':').next().unwrap_or(digest);
    roots.rejected().join(format!("{hex}.json"))
}

/// Puts a release on record.
///
/// # Errors
/// The record can't be written durably.
pub fn add(roots: &Roots, rejected: &Rejected) -> Result<()> {
    let directory = roots.rejected();
    durable::create_directories(&directory).map_err(|e| AgentError::io("create", &directory, e))?;
    let bytes = serde_json::to_vec_pretty(rejected)
        .map_err(|e| AgentError::other("can't write the record of a failed release").because(e))?;
    durable::write_file(&path(roots, &rejected.release.digest), &bytes, 0o644)
        .map_err(|e| AgentError::from_leaf(Kind::Other, "can't put the release on record as failed", e))
}

/// Forgets a release's failure; one that is not on record is fine.
///
/// # Errors
/// The record can't be removed.
pub fn forget(roots: &Roots, digest: &str) -> Result<()> {
    let path = path(roots, digest);
    match path.try_exists() {
        Ok(false) => Ok(()),
        Ok(true) => durable::remove_file(&path)
            .map_err(|e| AgentError::from_leaf(Kind::Other, "can't take the release off the record", e)),
        Err(e) => Err(AgentError::io("read", &path, e)),
    }
}

/// All releases on record, by digest. A record that can't be read still counts.
///
/// # Errors
/// The directory can't be read.
pub fn all(roots: &Roots) -> Result<BTreeMap<String, String>> {
    let directory = roots.rejected();
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(e) => return Err(AgentError::io("list", &directory, e)),
    };
    let mut all = BTreeMap::new();
    for entry in entries {
        let path = entry.map_err(|e| AgentError::io("list", &directory, e))?.path();
        let (Some(hex), Some("json")) = (
            path.file_stem().and_then(|s| s.to_str()),
            path.extension().and_then(|e| e.to_str()),
        ) else {
            continue;
        };
        let reason = std::fs::read(&path)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Rejected>(&bytes).ok())
            .map_or_else(|| "the record is damaged".to_owned(), |r| r.reason);
        all.insert(format!("sha256:{hex}"), reason);
    }
    Ok(all)
}

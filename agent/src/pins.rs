//! Deployments that garbage collection leaves alone: `pins/<seq>` holds the operator's reason.

use std::collections::BTreeMap;

use node_images::durable;

use crate::deployment::Seq;
use crate::error::{AgentError, Kind, Result};
use crate::root::Roots;

/// Pins a deployment.
///
/// # Errors
/// The pin can't be written durably.
pub fn add(roots: &Roots, seq: Seq, reason: &str) -> Result<()> {
    let directory = roots.pins();
    durable::create_directories(&directory).map_err(|e| AgentError::io("create", &directory, e))?;
    durable::write_file(&directory.join(seq.to_string()), reason.as_bytes(), 0o644)
        .map_err(|e| AgentError::from_leaf(Kind::Other, format!("can't pin deployment {seq}"), e))
}

/// Unpins a deployment.
///
/// # Errors
/// It is not pinned, or the pin can't be removed.
pub fn remove(roots: &Roots, seq: Seq) -> Result<()> {
    if !all(roots)?.contains_key(&seq) {
        return Err(AgentError::new(
            Kind::Usage,
            format!("deployment {seq} is not pinned"),
        ));
    }
    durable::remove_file(&roots.pins().join(seq.to_string()))
        .map_err(|e| AgentError::from_leaf(Kind::Other, format!("can't unpin deployment {seq}"), e))
}

/// All pins with their reasons.
///
/// # Errors
/// The directory can't be read.
pub fn all(roots: &Roots) -> Result<BTreeMap<Seq, String>> {
    let directory = roots.pins();
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(e) => return Err(AgentError::io("list", &directory, e)),
    };
    let mut pins = BTreeMap::new();
    for entry in entries {
        let entry = entry.map_err(|e| AgentError::io("list", &directory, e))?;
        if let Some(seq) = entry.file_name().to_str().and_then(Seq::parse) {
            let reason = std::fs::read_to_string(entry.path()).unwrap_or_default();
            pins.insert(seq, reason);
        }
    }
    Ok(pins)
}

//! The last check of everything that is stored: `check.json`.

use node_images::durable;
use node_images::store::Locked;
use serde::{Deserialize, Serialize};

use crate::api::CheckStatus;
use crate::error::{AgentError, Kind, Result};
use crate::root::Roots;

/// Format of the record that this version reads and writes.
pub const FORMAT: u32 = 1;

/// The record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checked {
    /// Format of this document, [`FORMAT`].
    pub format: u32,
    /// What was found.
    pub result: CheckStatus,
    /// The directory of objects where the next light check begins to read.
    pub next: u8,
}

/// The last check; `None` where there was none, or where the record says nothing any more: the next check writes it anew.
pub fn load(roots: &Roots) -> Option<Checked> {
    let bytes = std::fs::read(roots.checked()).ok()?;
    let checked: Checked = serde_json::from_slice(&bytes).ok()?;
    (checked.format == FORMAT).then_some(checked)
}

/// Writes the record durably.
///
/// # Errors
/// No space, or the disk refused the write.
pub fn save(roots: &Roots, checked: &Checked, _lock: &Locked) -> Result<()> {
    let bytes = serde_json::to_vec_pretty(checked)
        .map_err(|e| AgentError::other("can't keep the result of the check").because(e))?;
    durable::write_file(&roots.checked(), &bytes, 0o644)
        .map_err(|e| AgentError::from_leaf(Kind::Other, "can't keep the result of the check", e))
}

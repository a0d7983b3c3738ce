//! `deployment.json`: what a deployment is.

use std::collections::BTreeMap;

use node_images::digest::Digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Seq;
use crate::api::ReleaseInfo;

/// Format of `deployment.json` that this version reads and writes.
pub const FORMAT: u32 = 1;

/// What a deployment is. Written once, never changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeploymentDocument {
    /// Format of this document, [`FORMAT`].
    pub format: u32,
    /// Its number.
    pub seq: Seq,
    /// The release it was made from.
    pub release: ReleaseInfo,
    /// When it was made.
    pub created: jiff::Timestamp,
    /// The deployment that was current then.
    pub previous: Option<Seq>,
    /// Why it was made.
    pub reason: Reason,
    /// Its services by name.
    pub services: BTreeMap<String, DeployedService>,
    /// All parameters with their values. No secrets.
    pub parameters: BTreeMap<String, Value>,
    /// What the operator had set of them.
    pub operator: BTreeMap<String, Value>,
}

/// Why a deployment was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// A release was asked for.
    Upgrade,
    /// A parameter was set or unset.
    Set,
}

/// One service of a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeployedService {
    /// Name of its image in the release.
    pub image: String,
    /// Digest of that image's manifest.
    pub manifest: Digest,
    /// Digest of its bundle, hexadecimal.
    pub digest: String,
    /// Name of its unit file.
    pub unit: String,
}

impl DeploymentDocument {
    /// Digests of all images it needs.
    pub fn images(&self) -> impl Iterator<Item = Digest> {
        self.services.values().map(|s| s.manifest)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    // Without serde_json's float_roundtrip the number that was set and the one that is read differ in the last bit, and
    // every comparison with what the operator sets finds a change.
    #[test]
    fn a_number_is_read_as_it_was_set() {
        for number in [1.184_467_440_737_095_5e20, 0.1 + 0.2, 16.1, 5e-324, f64::MAX] {
            let release = json!({
                "reference": "r.example/a:1",
                "digest": format!("sha256:{}", "ab".repeat(32)),
                "name": "a",
                "version": "1",
                "signed": null,
            });
            let mut document: DeploymentDocument = serde_json::from_value(json!({
                "format": FORMAT,
                "seq": 1,
                "release": release,
                "created": "2026-01-01T00:00:00Z",
                "previous": null,
                "reason": "set",
                "services": {},
                "parameters": {},
                "operator": {},
            }))
            .expect("a document");
            document.operator.insert("ratio".to_owned(), json!(number));
            let text = serde_json::to_vec(&document).expect("it can be written");
            let back: DeploymentDocument = serde_json::from_slice(&text).expect("it can be read");
            assert_eq!(back, document, "{number:e}");
        }
    }
}

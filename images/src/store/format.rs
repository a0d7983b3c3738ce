//! The format file: which version of this project may use a store.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::durable;
use crate::error::StoreError;

const VERSION: u32 = 1;

/// Version and feature flags, after the model of ext4: unknown compatible features do not matter, unknown
/// incompatible ones forbid any use.
#[derive(Debug, Serialize, Deserialize)]
struct Format {
    version: u32,
    #[serde(default)]
    compatible: Vec<String>,
    #[serde(default)]
    read_only_compatible: Vec<String>,
    #[serde(default)]
    incompatible: Vec<String>,
}

/// Checks the format file, or writes it in a store that has none.
pub(super) fn check_or_create(path: &Path) -> Result<(), StoreError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return create(path),
        Err(e) => return Err(StoreError::io("read", path)(e)),
    };
    let format: Format = serde_json::from_slice(&bytes).map_err(|source| StoreError::Document {
        path: path.to_owned(),
        source,
    })?;
    match unknown(&format) {
        None => Ok(()),
        Some(needs) => Err(StoreError::Format {
            path: path.to_owned(),
            needs,
        }),
    }
}

fn create(path: &Path) -> Result<(), StoreError> {
    let format = Format {
        version: VERSION,
        compatible: Vec::new(),
        read_only_compatible: Vec::new(),
        incompatible: Vec::new(),
    };
    let mut text = serde_json::json!(format).to_string();
    text.push('\n');
    Ok(durable::write_file(path, text.as_bytes(), 0o644)?)
}

/// What this version does not know. Every use of a store may write, so read-only features count.
fn unknown(format: &Format) -> Option<String> {
    if format.version > VERSION {
        return Some(format!("format version {}", format.version));
    }
    let mut features = format.incompatible.iter().chain(&format.read_only_compatible);
    features.next().map(|feature| format!("feature {feature:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_stores_are_refused_and_untouched() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("format");
        check_or_create(&path).unwrap();
        check_or_create(&path).unwrap();
        for (text, ok) in [
            (r#"{"version":1,"compatible":["x"],"later":1}"#, true),
            (r#"{"version":2}"#, false),
            (r#"{"version":1,"incompatible":["y"]}"#, false),
            (r#"{"version":1,"read_only_compatible":["y"]}"#, false),
            ("{", false),
        ] {
            fs::write(&path, text).unwrap();
            assert_eq!(check_or_create(&path).is_ok(), ok, "{text}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }
}

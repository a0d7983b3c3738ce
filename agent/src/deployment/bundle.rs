//! A bundle in memory, and the digest that names it.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use node_images::digest::Digest;

use crate::error::{AgentError, Result};

/// Everything in `services/<name>/` except `digest`. Equal bundles start equal processes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bundle {
    /// Path relative to the bundle → file.
    pub files: BTreeMap<String, BundleFile>,
}

/// One file of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleFile {
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Content.
    pub bytes: Vec<u8>,
}

impl BundleFile {
    /// A file of root's that everybody may read.
    pub fn plain(bytes: impl Into<Vec<u8>>) -> Self {
        BundleFile {
            mode: 0o644,
            uid: 0,
            gid: 0,
            bytes: bytes.into(),
        }
    }
}

impl Bundle {
    /// Reads a bundle back from its directory.
    ///
    /// # Errors
    /// A file can't be read, or something in there is not a file.
    pub fn read(directory: &Path) -> Result<Bundle> {
        let mut bundle = Bundle::default();
        for (folder, prefix) in [(directory.to_owned(), ""), (directory.join("files"), "files/")] {
            let entries = std::fs::read_dir(&folder).map_err(|e| AgentError::io("list", &folder, e))?;
            for entry in entries {
                let entry = entry.map_err(|e| AgentError::io("list", &folder, e))?;
                let name = entry.file_name().to_string_lossy().into_owned();
                if prefix.is_empty() && (name == "digest" || name == "files") {
                    continue;
                }
                let path = entry.path();
                let failed = |e| AgentError::io("read", &path, e);
                let meta = entry.metadata().map_err(failed)?;
                let file = BundleFile {
                    mode: meta.mode() & 0o7777,
                    uid: meta.uid(),
                    gid: meta.gid(),
                    bytes: std::fs::read(&path).map_err(failed)?,
                };
                bundle.files.insert(format!("{prefix}{name}"), file);
            }
        }
        Ok(bundle)
    }

    /// The service digest: sha256 over the sorted lines `path mode uid:gid sha256`.
    pub fn digest(&self) -> String {
        let mut text = String::new();
        for (path, file) in &self.files {
            let content = Digest::of(&file.bytes).hex();
            text.push_str(&format!(
                "{path} {:04o} {}:{} {content}\n",
                file.mode, file.uid, file.gid
            ));
        }
        Digest::of(text.as_bytes()).hex()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(files: &[(&str, u32, &str)]) -> Bundle {
        let file = |(path, mode, text): &(&str, u32, &str)| {
            let mut file = BundleFile::plain(*text);
            file.mode = *mode;
            ((*path).to_owned(), file)
        };
        Bundle {
            files: files.iter().map(file).collect(),
        }
    }

    #[test]
    fn path_mode_and_content_all_count() {
        let base = bundle(&[("a", 0o644, "x"), ("b", 0o644, "y")]);
        assert_eq!(
            base.digest(),
            bundle(&[("b", 0o644, "y"), ("a", 0o644, "x")]).digest()
        );
        for other in [
            bundle(&[("a", 0o644, "x")]),
            bundle(&[("a", 0o600, "x"), ("b", 0o644, "y")]),
            bundle(&[("a", 0o644, "x"), ("b", 0o644, "z")]),
            bundle(&[("a", 0o644, "x"), ("c", 0o644, "y")]),
        ] {
            assert_ne!(base.digest(), other.digest());
        }
    }
}

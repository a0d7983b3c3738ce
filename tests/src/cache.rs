//! Things that take long to make, kept by what they are made of.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};

use crate::command;
use crate::paths;

/// The hash of everything that decides how a cached thing turns out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key(String);

impl Key {
    /// Hashes the parts; each is framed by its length, so that moving a byte between parts changes the key.
    pub fn of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut framed = Vec::new();
        for part in parts {
            framed.extend_from_slice(&(part.len() as u64).to_le_bytes());
            framed.extend_from_slice(part);
        }
        Self(hex::encode(&openssl::sha::sha256(&framed)[..8]))
    }

    /// The key as text: 16 hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Returns the directory `roots/<name>-<key>` of the cache, made by `build` if it is not there yet.
///
/// `build` works in a scratch directory that gets its name when it has succeeded. Two processes that want the
/// same thing make it once.
///
/// # Errors
/// What `build` returns; the scratch directory is removed then.
pub fn entry(name: &str, key: &Key, build: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let parent = paths::cache().join("roots");
    fs::create_dir_all(&parent).with_context(|| format!("create {}", parent.display()))?;
    let path = parent.join(format!("{name}-{}", key.as_str()));
    if path.exists() {
        return Ok(path);
    }
    let _lock = lock(&parent.join(format!(".{name}.lock")))?;
    if path.exists() {
        return Ok(path);
    }
    remove_abandoned(&parent, name)?;
    let scratch = tempfile::Builder::new()
        .prefix(&scratch_prefix(name))
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir_in(&parent)
        .with_context(|| format!("create a directory in {}", parent.display()))?
        .keep();
    match build(&scratch) {
        Ok(()) => {
            fs::rename(&scratch, &path).with_context(|| format!("name {}", path.display()))?;
            Ok(path)
        }
        Err(error) => {
            remove(&scratch)?;
            Err(error)
        }
    }
}

/// Removes what builds of that name have left that were killed; the caller holds the lock of the name.
fn remove_abandoned(parent: &Path, name: &str) -> Result<()> {
    for entry in fs::read_dir(parent).with_context(|| format!("list {}", parent.display()))? {
        let entry = entry?;
        let abandoned = entry
            .file_name()
            .to_string_lossy()
            .starts_with(&scratch_prefix(name));
        if abandoned && entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// No name contains a dot, so no name's prefix matches the scratch directories of another.
fn scratch_prefix(name: &str) -> String {
    format!(".{name}.")
}

/// Waits for an exclusive lock on a file; it is released when the value is dropped.
///
/// # Errors
/// The file cannot be created or locked.
pub fn lock(path: &Path) -> Result<Flock<File>> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .with_context(|| format!("open {}", path.display()))?;
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, errno)| errno)
        .with_context(|| format!("lock {}", path.display()))
}

/// Removes a tree, but never anything that is mounted in it: a failed build may have left /proc or /dev there.
///
/// # Errors
/// Something cannot be removed.
pub fn remove(path: &Path) -> Result<()> {
    command::output(
        Command::new("rm")
            .args(["-rf", "--one-file-system", "--"])
            .arg(path),
    )
    .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_frames_its_parts() {
        let one = Key::of([b"ab".as_slice(), b"c"]);
        let two = Key::of([b"a".as_slice(), b"bc"]);
        assert_ne!(one, two);
        assert_eq!(one, Key::of([b"ab".as_slice(), b"c"]));
        assert_eq!(one.as_str().len(), 16);
    }
}

//! The one way this project writes a file durably, and the one way it flips a symbolic link.
//!
//! Each function returns only after the change would survive a power cut. A failed `fsync` or
//! `syncfs` is an error: the kernel reports a lost write once, to whoever asks first.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use thiserror::Error;

/// A durable change that did not happen, or whose durability is not known.
#[derive(Debug, Error)]
pub enum DurableError {
    /// A step on `path` failed.
    #[error("cannot {action} {}", path.display())]
    Step {
        /// What was tried.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The path has no parent directory or no file name.
    #[error("{} does not name a file in a directory", .0.display())]
    NotAFile(PathBuf),
}

impl DurableError {
    /// The error kind of the failed step, for callers that tell "not found" or "no space" apart.
    #[must_use]
    pub fn io_kind(&self) -> Option<io::ErrorKind> {
        match self {
            Self::Step { source, .. } => Some(source.kind()),
            Self::NotAFile(_) => None,
        }
    }
}

/// Writes `bytes` to `path` with permission bits `mode`, replacing what was there in one step.
///
/// A reader sees the old file or the whole new one, also after a power cut.
///
/// # Errors
/// [`DurableError`] naming the step; the old file is then still in place, unless the last step (the
/// `fsync` of the directory) failed: then either may be there after a power cut.
pub fn write_file(path: &Path, bytes: &[u8], mode: u32) -> Result<(), DurableError> {
    let (dir, name) = split(path)?;
    let temp = temp_beside(dir, name);
    let written =
        write_new(&temp, bytes, mode).and_then(|()| fs::rename(&temp, path).map_err(step("replace", path)));
    if written.is_err() {
        discard(&temp);
    }
    written?;
    sync_dir(dir)
}

/// Removes the file `path` durably.
///
/// # Errors
/// [`DurableError`] naming the step, also where `path` does not exist.
pub fn remove_file(path: &Path) -> Result<(), DurableError> {
    let (dir, _) = split(path)?;
    fs::remove_file(path).map_err(step("remove", path))?;
    sync_dir(dir)
}

/// Whether a file of this name was left by a [`write_file`] or [`flip_symlink`] that a power cut or a kill ended
/// before its rename.
#[must_use]
pub fn is_unfinished(name: &OsStr) -> bool {
    let digits = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    let mut parts = name.as_bytes().rsplitn(4, |byte| *byte == b'.');
    let (count, process) = (parts.next(), parts.next());
    let (tmp, rest) = (parts.next(), parts.next());
    count.is_some_and(digits)
        && process.is_some_and(digits)
        && tmp == Some(b"tmp")
        && rest.is_some_and(|rest| rest.starts_with(b"."))
}

/// Removes what such ends left in the directory `dir`; one that is not there is fine. Nobody may be writing in it.
///
/// # Errors
/// [`DurableError`] naming the step.
pub fn remove_unfinished(dir: &Path) -> Result<(), DurableError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(step("list", dir)(e)),
    };
    for entry in entries {
        let entry = entry.map_err(step("list", dir))?;
        if is_unfinished(&entry.file_name()) {
            fs::remove_file(entry.path()).map_err(step("remove", &entry.path()))?;
        }
    }
    Ok(())
}

/// Makes the symbolic link `link` point to `target` in one step, whether or not it existed.
///
/// # Errors
/// [`DurableError`] naming the step; the link is then as before, unless the last step (the `fsync`
/// of the directory) failed.
pub fn flip_symlink(link: &Path, target: &Path) -> Result<(), DurableError> {
    let (dir, name) = split(link)?;
    let temp = temp_beside(dir, name);
    std::os::unix::fs::symlink(target, &temp).map_err(step("create", &temp))?;
    if let Err(source) = fs::rename(&temp, link) {
        discard(&temp);
        return Err(step("replace", link)(source));
    }
    sync_dir(dir)
}

/// Renames the directory (or file) `from` to `to` within one file system and makes that durable in both parents.
///
/// # Errors
/// [`DurableError`] naming the step.
pub fn rename_dir(from: &Path, to: &Path) -> Result<(), DurableError> {
    let (from_dir, _) = split(from)?;
    let (to_dir, _) = split(to)?;
    fs::rename(from, to).map_err(step("rename", from))?;
    sync_dir(to_dir)?;
    if from_dir == to_dir {
        return Ok(());
    }
    sync_dir(from_dir)
}

/// Writes everything back that is dirty on the file system that holds `dir` (syncfs(2)).
///
/// # Errors
/// [`DurableError`] if the directory cannot be opened or any write-back since it was opened failed.
pub fn sync_filesystem(dir: &Path) -> Result<(), DurableError> {
    let file = File::open(dir).map_err(step("open", dir))?;
    nix::unistd::syncfs(file.as_raw_fd())
        .map_err(|errno| step("write back the file system of", dir)(errno.into()))
}

/// Makes the names in directory `dir` durable (fsync(2) on the directory).
///
/// # Errors
/// [`DurableError`] naming the step.
pub fn sync_dir(dir: &Path) -> Result<(), DurableError> {
    File::open(dir)
        .and_then(|file| file.sync_all())
        .map_err(step("fsync directory", dir))
}

fn write_new(temp: &Path, bytes: &[u8], mode: u32) -> Result<(), DurableError> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(temp)
        .map_err(step("create", temp))?;
    file.write_all(bytes).map_err(step("write", temp))?;
    // Set explicitly: the mode given to open(2) is subject to the umask.
    file.set_permissions(Permissions::from_mode(mode))
        .map_err(step("set the mode of", temp))?;
    file.sync_all().map_err(step("fsync", temp))
}

fn step(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DurableError {
    let path = path.to_owned();
    move |source| DurableError::Step { action, path, source }
}

fn split(path: &Path) -> Result<(&Path, &OsStr), DurableError> {
    let bad = || DurableError::NotAFile(path.to_owned());
    let name = path.file_name().ok_or_else(bad)?;
    let dir = path.parent().ok_or_else(bad)?;
    let here = dir.as_os_str().is_empty();
    Ok((if here { Path::new(".") } else { dir }, name))
}

/// A fresh hidden name in the same directory; unique among processes and threads.
fn temp_beside(dir: &Path, name: &OsStr) -> PathBuf {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let mut temp = b".".to_vec();
    temp.extend_from_slice(name.as_bytes());
    temp.extend_from_slice(format!(".tmp.{}.{count}", std::process::id()).as_bytes());
    dir.join(OsStr::from_bytes(&temp))
}

/// The caller already has the error that matters; a leftover temporary file harms nobody.
fn discard(temp: &Path) {
    let _ = fs::remove_file(temp);
}

/// Creates a directory and all above it that are missing; nothing is synced.
///
/// # Errors
/// As [`fs::create_dir_all`], but on a file system that fails with what is wrong with it: where the standard library
/// cannot see that something that exists is a directory, it says that it exists.
pub fn create_directories(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path).map_err(|e| why_not_created(path, e))
}

/// What keeps a directory from being created: where something exists that can't be looked at, the reason for that.
pub(crate) fn why_not_created(path: &Path, error: io::Error) -> io::Error {
    match (error.kind(), path.metadata()) {
        (io::ErrorKind::AlreadyExists, Err(why)) => why,
        (_, _) => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn write_replaces_and_leaves_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        write_file(&path, b"one", 0o644).unwrap();
        write_file(&path, b"two", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(names(dir.path()), ["a"]);
    }

    #[test]
    fn what_exists_and_cannot_be_looked_at_is_told_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("around");
        std::os::unix::fs::symlink(&path, &path).unwrap();
        let why = create_directories(&path).unwrap_err();
        assert_eq!(why.raw_os_error(), Some(libc::ELOOP), "{why}");
    }

    #[test]
    fn failed_write_keeps_the_old_state_and_names_the_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub");
        fs::create_dir(&path).unwrap();
        let error = write_file(&path, b"x", 0o644).unwrap_err();
        assert!(error.to_string().contains(path.to_str().unwrap()));
        assert_eq!(names(dir.path()), ["sub"]);
        let missing = write_file(&dir.path().join("no/file"), b"x", 0o644).unwrap_err();
        assert_eq!(missing.io_kind(), Some(io::ErrorKind::NotFound));
    }

    #[test]
    fn flip_creates_and_replaces() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("current");
        flip_symlink(&link, Path::new("deployments/1")).unwrap();
        flip_symlink(&link, Path::new("deployments/2")).unwrap();
        assert_eq!(fs::read_link(&link).unwrap(), Path::new("deployments/2"));
        assert_eq!(names(dir.path()), ["current"]);
    }

    #[test]
    fn what_an_interruption_left_is_known_by_its_name_and_nothing_else_is() {
        let dir = tempfile::tempdir().unwrap();
        let left = [
            temp_beside(dir.path(), OsStr::new("current")),
            temp_beside(dir.path(), OsStr::new("a.toml")),
        ];
        std::os::unix::fs::symlink("nowhere", &left[0]).unwrap();
        fs::write(&left[1], "half").unwrap();
        let other = [
            "a.tmp.1.2",
            ".a.tmp.1.",
            ".a.tmp.1",
            ".staging-1",
            "tmp.1.2",
            ".a.tmp.1.2x",
        ];
        for name in other {
            fs::write(dir.path().join(name), "").unwrap();
        }
        remove_unfinished(dir.path()).unwrap();
        let mut expected = other.map(str::to_owned);
        expected.sort();
        assert_eq!(names(dir.path()), expected);
        remove_unfinished(&dir.path().join("not there")).unwrap();
    }

    #[test]
    fn rename_and_remove() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("tmp/x"), dir.path().join("y"));
        fs::create_dir_all(&from).unwrap();
        rename_dir(&from, &to).unwrap();
        assert!(to.is_dir() && !from.exists());
        sync_filesystem(dir.path()).unwrap();
        let file = dir.path().join("f");
        write_file(&file, b"", 0o644).unwrap();
        remove_file(&file).unwrap();
        assert!(!file.exists());
        assert!(remove_file(&file).is_err());
    }
}

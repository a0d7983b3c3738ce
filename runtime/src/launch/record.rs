//! What was started from what: after a reload systemd shows the new definition of a unit whose
//! process still runs the old one, so node-run records it.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use serde::{Deserialize, Serialize};

/// One started service, `<run root>/running/<service>.json`. It may outlive its process: compare
/// [`Running::pid`] with the unit's MainPID before relying on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Name of the service.
    pub service: String,
    /// Service digest of the bundle it was started from.
    pub digest: String,
    /// The bundle, an absolute path into a deployment.
    pub bundle: PathBuf,
    /// Image tree that is its root file system.
    pub tree: PathBuf,
    /// Its main process in the host's pid namespace.
    pub pid: i32,
    /// Start of that process in clock ticks since boot (field 22 of proc_pid_stat(5)); pid and
    /// this together name a process for good.
    pub started_at_ticks: u64,
}

/// The records could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// A directory or file could not be read.
    #[error("cannot read {path}")]
    Read {
        /// What.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not a record.
    #[error("{path} is not a record of a running service")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A record could not be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

fn directory(run_root: &Path) -> PathBuf {
    run_root.join("running")
}

/// All records, sorted by service; none if nothing was started since boot.
///
/// # Errors
/// A record is unreadable or malformed.
pub fn running(run_root: &Path) -> Result<Vec<Running>, RecordError> {
    let path = directory(run_root);
    let entries = match std::fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(RecordError::Read { path, source }),
    };
    let mut records = Vec::new();
    for entry in entries {
        let file = entry
            .map_err(|source| RecordError::Read {
                path: path.clone(),
                source,
            })?
            .path();
        if file.extension().is_some_and(|extension| extension == "json") {
            records.push(read(&file)?);
        }
    }
    records.sort_by(|a, b| a.service.cmp(&b.service));
    Ok(records)
}

fn read(path: &Path) -> Result<Running, RecordError> {
    let bytes = std::fs::read(path).map_err(|source| RecordError::Read {
        path: path.to_owned(),
        source,
    })?;
    serde_json::from_slice(&bytes).map_err(|source| RecordError::Parse {
        path: path.to_owned(),
        source,
    })
}

impl Running {
    /// The record of one service, or `None` if it was not started since boot.
    ///
    /// # Errors
    /// The record is unreadable or malformed.
    pub fn of(run_root: &Path, service: &str) -> Result<Option<Self>, RecordError> {
        match read(&directory(run_root).join(format!("{service}.json"))) {
            Ok(record) => Ok(Some(record)),
            Err(RecordError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }
}

/// The directory of the records, held open: node-run writes into it when its path is out of sight.
pub(super) struct Records(OwnedFd);

impl Records {
    /// Opens it, and makes it if it is missing.
    pub(super) fn open(run_root: &Path) -> Result<Self, RecordError> {
        let path = directory(run_root);
        let open = || -> std::io::Result<OwnedFd> {
            std::fs::create_dir_all(&path)?;
            let flags = (OFlag::O_DIRECTORY | OFlag::O_CLOEXEC).bits();
            std::fs::File::options()
                .read(true)
                .custom_flags(flags)
                .open(&path)
                .map(Into::into)
        };
        open().map(Self).map_err(|source| RecordError::Write {
            path: path.clone(),
            source,
        })
    }

    /// Writes a record, atomically for readers. It need not survive a power cut: neither does what
    /// it describes.
    pub(super) fn write(&self, running: &Running) -> Result<(), RecordError> {
        let directory = PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()));
        let path = directory.join(format!("{}.json", running.service));
        let temporary = directory.join(format!(".{}.{}", running.service, std::process::id()));
        let write = || -> std::io::Result<()> {
            std::fs::write(&temporary, serde_json::to_vec(running)?)?;
            std::fs::rename(&temporary, &path)
        };
        write().map_err(|source| RecordError::Write {
            path: path.clone(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(service: &str, pid: i32) -> Running {
        Running {
            service: service.into(),
            digest: "ab".into(),
            bundle: "/b".into(),
            tree: "/t".into(),
            pid,
            started_at_ticks: 7,
        }
    }

    #[test]
    fn records_come_back_sorted_and_replaced() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(running(root.path()).unwrap(), []);
        assert_eq!(Running::of(root.path(), "nova").unwrap(), None);
        for (service, pid) in [("ovs", 3), ("nova", 1), ("nova", 2)] {
            Records::open(root.path())
                .unwrap()
                .write(&record(service, pid))
                .unwrap();
        }
        let expected = [record("nova", 2), record("ovs", 3)];
        assert_eq!(running(root.path()).unwrap(), expected);
        assert_eq!(Running::of(root.path(), "nova").unwrap(), Some(record("nova", 2)));
    }

    #[test]
    fn a_broken_record_is_named() {
        let root = tempfile::tempdir().unwrap();
        Records::open(root.path())
            .unwrap()
            .write(&record("nova", 1))
            .unwrap();
        let path = root.path().join("running/nova.json");
        std::fs::write(&path, "{").unwrap();
        let error = running(root.path()).unwrap_err().to_string();
        assert!(error.contains("running/nova.json"), "{error}");
    }
}

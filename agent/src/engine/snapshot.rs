//! State of services saved for the way back: `state/<transaction>/<service>/<n>`.

use std::fs;
use std::io::BufRead;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use node_images::durable;
use serde::{Deserialize, Serialize};

use crate::definition::{Restore, StatePath};
use crate::error::{AgentError, Kind, Result};
use crate::root::Roots;

/// The snapshots of one transaction.
#[derive(Debug, Clone)]
pub(super) struct Snapshots {
    directory: PathBuf,
}

/// What was saved of one service; written last, so that its presence means that all of it is there.
#[derive(Debug, Serialize, Deserialize)]
struct Index {
    files: Vec<Saved>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    path: PathBuf,
    restore: Restore,
    /// Mode, owner and group; `None` if there was no such file.
    metadata: Option<(u32, u32, u32)>,
}

impl Snapshots {
    pub fn of(roots: &Roots, transaction: &str) -> Self {
        Snapshots {
            directory: roots.snapshots().join(transaction),
        }
    }

    /// Saves the state of a service, once: a second attempt must not save what the first one's new
    /// version has written.
    pub fn save(&self, service: &str, state: &[StatePath]) -> Result<()> {
        let directory = self.directory.join(service);
        let index = directory.join("index.json");
        if state.is_empty() || index.exists() {
            return Ok(());
        }
        durable::create_directories(&directory).map_err(|e| AgentError::io("create", &directory, e))?;
        let mut files = Vec::new();
        for (n, item) in state.iter().enumerate() {
            let metadata = copy(&item.path, &directory.join(n.to_string()))?;
            files.push(Saved {
                path: item.path.clone(),
                restore: item.restore,
                metadata,
            });
        }
        durable::sync_filesystem(&directory).map_err(unsaved)?;
        let bytes = serde_json::to_vec_pretty(&Index { files })
            .map_err(|e| AgentError::other("can't save state for the way back").because(e))?;
        durable::write_file(&index, &bytes, 0o600).map_err(unsaved)
    }

    /// Restores what was saved of a service; whether there was anything.
    pub fn restore(&self, service: &str) -> Result<bool> {
        let directory = self.directory.join(service);
        let index = directory.join("index.json");
        let bytes = match fs::read(&index) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(AgentError::io("read", &index, e)),
        };
        let saved: Index = serde_json::from_slice(&bytes)
            .map_err(|e| AgentError::other(format!("{} is damaged", index.display())).because(e))?;
        let mut any = false;
        for (n, file) in saved.files.iter().enumerate() {
            let copy = directory.join(n.to_string());
            let wanted = match file.restore {
                Restore::OnRevert => true,
                Restore::OnSchemaChange => schema(&copy)? != schema(&file.path)?,
                Restore::Never => false,
            };
            if wanted {
                put_back(file, &copy)?;
                any = true;
            }
        }
        Ok(any)
    }

    /// Removes everything that was saved for this transaction.
    pub fn discard(&self) -> Result<()> {
        match fs::remove_dir_all(&self.directory) {
            Ok(()) => Ok(()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(AgentError::io("remove", &self.directory, e)),
        }
    }
}

fn unsaved(e: durable::DurableError) -> AgentError {
    AgentError::from_leaf(Kind::Other, "can't save state for the way back", e)
}

fn copy(from: &Path, to: &Path) -> Result<Option<(u32, u32, u32)>> {
    match fs::metadata(from) {
        Ok(meta) => {
            fs::copy(from, to).map_err(|e| AgentError::io("save", from, e))?;
            Ok(Some((meta.mode() & 0o7777, meta.uid(), meta.gid())))
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(AgentError::io("save", from, e)),
    }
}

/// The schema of an OVSDB file: its first record, the line after the record's header (ovsdb(5), "Database files").
fn schema(path: &Path) -> Result<Option<String>> {
    let mut lines = match fs::File::open(path) {
        Ok(file) => std::io::BufReader::new(file).lines(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(AgentError::io("read", path, e)),
    };
    let record = lines.nth(1).transpose();
    record.map_err(|e| AgentError::io("read the schema of", path, e))
}

fn put_back(file: &Saved, saved: &Path) -> Result<()> {
    let failed = |e| AgentError::io("restore", &file.path, e);
    let Some((mode, uid, gid)) = file.metadata else {
        return match fs::remove_file(&file.path) {
            Ok(()) => Ok(()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(failed(e)),
        };
    };
    let temporary = file.path.with_extension("nodectl-restore");
    fs::copy(saved, &temporary).map_err(failed)?;
    fs::set_permissions(&temporary, fs::Permissions::from_mode(mode)).map_err(failed)?;
    chown(&temporary, Some(uid), Some(gid)).map_err(failed)?;
    fs::File::open(&temporary)
        .and_then(|f| f.sync_all())
        .map_err(failed)?;
    durable::rename_dir(&temporary, &file.path)
        .map_err(|e| AgentError::from_leaf(Kind::Other, "can't restore state on the way back", e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_comes_back_and_what_was_not_goes() {
        let base = tempfile::tempdir().unwrap();
        let roots = Roots::under(base.path());
        let (old, new) = (base.path().join("conf.db"), base.path().join("journal"));
        fs::write(&old, "before").unwrap();
        fs::set_permissions(&old, fs::Permissions::from_mode(0o640)).unwrap();
        let state = |path: &Path, restore| StatePath {
            path: path.to_owned(),
            restore,
        };
        let items = [state(&old, Restore::OnRevert), state(&new, Restore::OnRevert)];
        let snapshots = Snapshots::of(&roots, "t1");
        assert!(!snapshots.restore("s").unwrap());
        snapshots.save("s", &items).unwrap();
        fs::write(&old, "after").unwrap();
        fs::write(&new, "after").unwrap();
        snapshots.save("s", &items).unwrap();
        assert!(snapshots.restore("s").unwrap());
        assert_eq!(fs::read_to_string(&old).unwrap(), "before");
        assert_eq!(fs::metadata(&old).unwrap().mode() & 0o7777, 0o640);
        assert!(!new.exists());
        snapshots.discard().unwrap();
        assert!(!snapshots.restore("s").unwrap());
    }

    #[test]
    fn a_database_comes_back_only_under_another_schema() {
        let base = tempfile::tempdir().unwrap();
        let roots = Roots::under(base.path());
        let db = base.path().join("conf.db");
        let write = |version: &str, ports: &str| {
            fs::write(
                &db,
                format!("OVSDB JSON 7 ab\n{{\"version\":\"{version}\"}}\nOVSDB JSON 9 cd\n{ports}\n"),
            )
            .unwrap();
        };
        write("1", "tap1");
        let state = StatePath {
            path: db.clone(),
            restore: Restore::OnSchemaChange,
        };
        let snapshots = Snapshots::of(&roots, "t1");
        snapshots.save("s", &[state]).unwrap();
        write("1", "tap1 tap2");
        assert!(
            !snapshots.restore("s").unwrap(),
            "a port that was plugged meanwhile stays"
        );
        write("2", "tap1 tap2");
        assert!(snapshots.restore("s").unwrap());
        assert!(!fs::read_to_string(&db).unwrap().contains("tap2"));
        fs::remove_file(&db).unwrap();
        assert!(snapshots.restore("s").unwrap(), "one that is gone has no schema");
    }
}

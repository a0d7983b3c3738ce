//! The node lock: one process changes the store and the deployments at a time.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::error::LockError;

/// Witness that this process holds the node lock. Whatever changes the store asks for it.
///
/// The lock is an flock(2) on a file, so it ends with the process, however that ends.
#[derive(Debug)]
pub struct Locked {
    _file: Flock<File>,
}

impl Locked {
    /// Takes the lock without waiting. The file is created if need be and tells who holds it.
    ///
    /// # Errors
    /// [`LockError::Busy`] names the holder; [`LockError::Io`] where the file cannot be used.
    pub fn acquire(path: &Path) -> Result<Self, LockError> {
        let io_error = |action| {
            move |source: io::Error| LockError::Io {
                action,
                path: path.to_owned(),
                source,
            }
        };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .open(path)
            .map_err(io_error("open"))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut file) => {
                sign(&mut file).map_err(io_error("write"))?;
                Ok(Self { _file: file })
            }
            Err((mut file, Errno::EWOULDBLOCK)) => Err(LockError::Busy {
                path: path.to_owned(),
                holder: holder(&mut file),
            }),
            Err((_, errno)) => Err(io_error("take")(errno.into())),
        }
    }
}

/// Notes this process in the lock file, for whoever finds it locked.
fn sign(file: &mut File) -> io::Result<()> {
    let command = std::env::args_os()
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ");
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{} ({command})", std::process::id())
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    match file.read_to_string(&mut text) {
        Ok(_) if !text.trim().is_empty() => text.trim().to_owned(),
        Ok(_) | Err(_) => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_holder_is_told_who_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = Locked::acquire(&path).unwrap();
        let error = Locked::acquire(&path).unwrap_err();
        assert!(matches!(error, LockError::Busy { .. }));
        assert!(error.to_string().contains(&std::process::id().to_string()));
        drop(held);
        Locked::acquire(&path).unwrap();
    }
}

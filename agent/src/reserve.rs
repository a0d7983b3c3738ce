//! Space for the way back: `reserve/`, files that are there to be given up.
//!
//! A way back writes little, but it has to write: the journal, the switch of `current`, the record of a release that
//! failed. On a file system that somebody else has filled to its last block or inode that is possible only with
//! something of our own to give up.

use node_images::durable;
use node_images::store::Locked;

use crate::error::{AgentError, Kind, Result};
use crate::root::Roots;

/// So many files: each is an inode, too.
const FILES: u32 = 4;

/// Bytes of each.
const SIZE: usize = 256 << 10;

/// Makes sure that the reserve is there.
///
/// # Errors
/// No space for it, or the disk refused a write.
pub fn keep(roots: &Roots, _lock: &Locked) -> Result<()> {
    let directory = roots.reserve();
    durable::create_directories(&directory).map_err(|e| AgentError::io("create", &directory, e))?;
    for number in 0..FILES {
        let path = directory.join(number.to_string());
        if path.metadata().is_ok_and(|meta| meta.len() == SIZE as u64) {
            continue;
        }
        durable::write_file(&path, &vec![0; SIZE], 0o600)
            .map_err(|e| AgentError::from_leaf(Kind::Other, "can't keep a reserve for the way back", e))?;
    }
    Ok(())
}

/// Writes, and where the disk has no room for that gives the reserve up and writes again.
///
/// # Errors
/// Those of the last attempt.
pub fn or_spend(roots: &Roots, lock: &Locked, write: &dyn Fn() -> Result<()>) -> Result<()> {
    match write() {
        Err(e) if e.kind() == Kind::CannotWrite && roots.reserve().exists() => {
            // On a disk that takes nothing any more the reserve can't be given up either. What counts is the write.
            spend(roots, lock).ok();
            write()
        }
        ended => ended,
    }
}

fn spend(roots: &Roots, _lock: &Locked) -> Result<()> {
    let directory = roots.reserve();
    let gone = match std::fs::remove_dir_all(&directory) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other,
    };
    gone.map_err(|e| AgentError::io("remove", &directory, e))?;
    // Only what is durably gone is free on every file system.
    durable::sync_dir(&roots.state)
        .map_err(|e| AgentError::from_leaf(Kind::Other, "can't give up the reserve", e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> (tempfile::TempDir, Roots, Locked) {
        let base = tempfile::tempdir().unwrap();
        let roots = Roots::under(base.path());
        for directory in [&roots.state, &roots.run] {
            std::fs::create_dir_all(directory).unwrap();
        }
        let lock = Locked::acquire(&roots.lock()).unwrap();
        (base, roots, lock)
    }

    #[test]
    fn it_is_there_until_it_is_spent() {
        let (_base, roots, lock) = node();
        spend(&roots, &lock).unwrap();
        keep(&roots, &lock).unwrap();
        std::fs::write(roots.reserve().join("2"), "short").unwrap();
        keep(&roots, &lock).unwrap();
        let files = std::fs::read_dir(roots.reserve()).unwrap();
        let sizes: Vec<u64> = files
            .map(|file| file.unwrap().metadata().unwrap().len())
            .collect();
        assert_eq!(sizes, [SIZE as u64; FILES as usize]);
        let attempts = std::cell::Cell::new(0);
        let write = || {
            attempts.set(attempts.get() + 1);
            let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
            if roots.reserve().exists() {
                return Err(AgentError::io("write", &roots.history(), full));
            }
            Ok(())
        };
        or_spend(&roots, &lock, &write).unwrap();
        assert_eq!(attempts.get(), 2);
        assert!(!roots.reserve().exists());
        or_spend(&roots, &lock, &write).unwrap();
        assert_eq!(attempts.get(), 3);
    }

    #[test]
    fn where_it_cannot_be_given_up_the_write_is_what_failed() {
        let (_base, roots, lock) = node();
        std::fs::write(roots.reserve(), "not a directory").unwrap();
        let write = || {
            let refused = std::io::Error::from(std::io::ErrorKind::ReadOnlyFilesystem);
            Err(AgentError::io("write", &roots.history(), refused))
        };
        let error = or_spend(&roots, &lock, &write).unwrap_err();
        assert_eq!(error.kind(), Kind::CannotWrite);
        assert!(error.chain().contains("history"), "{}", error.chain());
    }
}

//! Sealing files with fs-verity, where their file system has it: from then on the kernel lets nobody write to them, and
//! refuses every read of bytes that are not those that were sealed
//! (<https://docs.kernel.org/filesystems/fsverity.html>).
//!
//! The kernel writes the file and its hashes back before the seal counts, but not through the disk's cache, and the
//! seal itself is metadata: the barrier of a pull makes both durable. A seal that a power cut interrupted is none.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::statfs::fstatfs;

use super::finding::Finding;
use super::fsck::FsckReport;
use super::{Locked, Store};
use crate::durable;
use crate::error::StoreError;
use crate::sys;

/// Files are hashed in blocks of so many bytes, or in the file system's own where these are smaller.
const BLOCK: i64 = 4096;

/// Each seal waits for the disk: so many wait at once.
const THREADS: usize = 8;

/// A process that is being started holds what was open when it was forked, until it executes its program.
const BUSY: Duration = Duration::from_secs(10);

/// What the file system of a store does for its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sealing {
    /// It has fs-verity.
    Verity {
        /// Bytes that are hashed as one.
        block: u32,
    },
    /// It has none.
    Absent,
}

impl Sealing {
    /// Asks the file system that holds `file`. Nothing is changed.
    pub fn of(file: &File) -> Self {
        match sys::measure_verity(file) {
            Ok(()) | Err(Errno::ENODATA) => {
                let block = fstatfs(file).map_or(BLOCK, |found| found.block_size().min(BLOCK));
                Self::Verity {
                    block: u32::try_from(block).unwrap_or_default(),
                }
            }
            // EOPNOTSUPP of one that could, ENOTTY of others, and whatever comes from those behind a network.
            Err(_) => Self::Absent,
        }
    }

    /// Seals one file. Nobody may have it open for writing.
    pub fn seal(self, path: &Path) -> io::Result<()> {
        let Self::Verity { block } = self else {
            return Ok(());
        };
        let file = File::open(path)?;
        let modified = file.metadata()?.modified()?;
        patiently(BUSY, || sys::enable_verity(&file, block))?;
        // ext4 writes the hashes behind the content, which counts as a change of the file.
        file.set_modified(modified)
    }

    /// Seals many.
    pub fn seal_all(self, paths: &[PathBuf]) -> Result<(), StoreError> {
        if self == Self::Absent {
            return Ok(());
        }
        let next = AtomicUsize::new(0);
        let work = || {
            while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
                self.seal(path).map_err(StoreError::io("seal", path))?;
            }
            Ok(())
        };
        thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS.min(paths.len())).map(|_| scope.spawn(work)).collect();
            // All are waited for, whatever the first one says.
            let ended: Vec<_> = threads
                .into_iter()
                .map(|thread| {
                    thread
                        .join()
                        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                })
                .collect();
            ended.into_iter().collect()
        })
    }
}

impl Store {
    /// Seals the objects that were there before their file system had fs-verity, or before this project used it, if
    /// `report`, of a check that has read them all, finds them whole. Returns how many are sealed then.
    ///
    /// # Errors
    /// No space for what a seal takes; I/O errors. What was sealed until then stays so.
    pub fn seal_rest(&self, _lock: &Locked, report: &FsckReport) -> Result<Option<u64>, StoreError> {
        if !self.seals() {
            return Ok(None);
        }
        let broken: BTreeSet<_> = report
            .findings
            .iter()
            .filter_map(|finding| match finding {
                Finding::Object { object, .. } => Some(*object),
                Finding::Record { .. } | Finding::Layer { .. } | Finding::Tree { .. } => None,
            })
            .collect();
        let mut whole = Vec::new();
        self.for_each_object(&mut |id, path| {
            if id.is_some_and(|id| !broken.contains(&id)) {
                whole.push(path.to_owned());
            }
            Ok(())
        })?;
        self.sealing.seal_all(&whole)?;
        durable::sync_filesystem(self.root())?;
        let sealed = whole
            .iter()
            .filter(|path| File::open(path).is_ok_and(|file| is_sealed(&file)));
        Ok(Some(sealed.count() as u64))
    }
}

/// Whether a file is sealed.
pub(super) fn is_sealed(file: &File) -> bool {
    sys::measure_verity(file).is_ok()
}

/// Enables until nobody has the file open for writing any more. A file system that has fs-verity and not for such files
/// (on pages or blocks of a size that it does not know) leaves them as they are; the next check counts them.
fn patiently(patience: Duration, mut enable: impl FnMut() -> Result<(), Errno>) -> io::Result<()> {
    let deadline = Instant::now() + patience;
    loop {
        match enable() {
            Ok(()) | Err(Errno::EEXIST | Errno::EOPNOTSUPP | Errno::ENOTTY | Errno::EINVAL) => return Ok(()),
            // Nothing tells when it is over.
            Err(Errno::ETXTBSY) if Instant::now() < deadline => thread::sleep(Duration::from_millis(1)),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tries(answers: &[Result<(), Errno>], patience: Duration) -> (usize, Option<i32>) {
        let mut tried = 0;
        let ended = patiently(patience, || {
            tried += 1;
            answers[tried.min(answers.len()) - 1]
        });
        (tried, ended.err().and_then(|error| error.raw_os_error()))
    }

    #[test]
    fn what_is_sealed_what_is_left_and_what_fails() {
        let long = Duration::from_secs(60);
        assert_eq!(tries(&[Ok(())], long), (1, None));
        for fine in [Errno::EEXIST, Errno::EOPNOTSUPP, Errno::ENOTTY, Errno::EINVAL] {
            assert_eq!(tries(&[Err(fine)], long), (1, None), "{fine}");
        }
        for wrong in [
            Errno::ENOSPC,
            Errno::EDQUOT,
            Errno::EIO,
            Errno::EROFS,
            Errno::EPERM,
        ] {
            assert_eq!(tries(&[Err(wrong)], long), (1, Some(wrong as i32)));
        }
        let busy = Err(Errno::ETXTBSY);
        assert_eq!(tries(&[busy, busy, Err(Errno::EINTR), Ok(())], long), (4, None));
        let (_, ended) = tries(&[busy], Duration::ZERO);
        assert_eq!(ended, Some(Errno::ETXTBSY as i32));
    }

    #[test]
    fn a_file_system_without_it_is_left_alone() {
        // procfs is one everywhere.
        let file = File::open("/proc/self/status").unwrap();
        assert_eq!(Sealing::of(&file), Sealing::Absent);
        assert!(!is_sealed(&file));
        Sealing::Absent.seal(Path::new("/not/there")).unwrap();
        Sealing::Absent.seal_all(&["/not/there".into()]).unwrap();
    }

    #[test]
    fn the_first_file_that_cannot_be_sealed_is_named() {
        let missing = PathBuf::from("/not/there");
        let error = Sealing::Verity { block: 4096 }
            .seal_all(&[missing.clone(), missing])
            .unwrap_err();
        assert_eq!(error.to_string(), "cannot seal /not/there");
    }
}

//! Keeps the builder's cache from growing for ever: what no build used for a month goes.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::error::BuildError;

/// Unused entries are kept this long.
const KEEP: Duration = Duration::from_secs(30 * 24 * 3600);

/// Removes entries of the cache directory `cache` that were not used for [`KEEP`] before `now`.
///
/// Use shows in the change time: a level is marked by [`mark_used`], and linking a package's file
/// into an installation changes it too.
///
/// # Errors
/// [`BuildError::Io`] where an old entry cannot be removed.
pub fn forget_unused(cache: &Path, now: SystemTime) -> Result<(), BuildError> {
    let oldest = now
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .saturating_sub(KEEP)
        .as_secs();
    for part in ["levels", "resolved", "debs"] {
        let Ok(entries) = fs::read_dir(cache.join(part)) else {
            continue;
        };
        for entry in entries {
            let path = entry.map_err(BuildError::io("list", &cache.join(part)))?.path();
            let Ok(metadata) = fs::symlink_metadata(&path) else {
                continue;
            };
            if u64::try_from(metadata.ctime()).unwrap_or_default() >= oldest || path.ends_with("partial") {
                continue;
            }
            let removed = if metadata.is_dir() {
                fs::remove_dir_all(&path)
            } else {
                fs::remove_file(&path)
            };
            removed.map_err(BuildError::io("remove the unused", &path))?;
        }
    }
    Ok(())
}

/// Notes that the level in `directory` is in use. A cache that cannot be written to keeps working.
pub fn mark_used(directory: &Path) {
    if let Ok(directory) = fs::File::open(directory) {
        // The change time follows; a failure only means that the level is built again some day.
        let _ = directory.set_modified(SystemTime::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_not_used_for_long_goes() {
        let cache = tempfile::tempdir().expect("a directory");
        let level = cache.path().join("levels/abc");
        let deb = cache.path().join("debs/a.deb");
        fs::create_dir_all(&level).expect("made");
        fs::create_dir_all(cache.path().join("debs/partial")).expect("made");
        fs::write(&deb, "x").expect("written");
        mark_used(&level);

        forget_unused(cache.path(), SystemTime::now()).expect("nothing to remove");
        assert!(level.exists() && deb.exists());
        forget_unused(cache.path(), SystemTime::now() + 2 * KEEP).expect("removes");
        assert!(!level.exists() && !deb.exists());
        assert!(cache.path().join("debs/partial").exists());
    }
}

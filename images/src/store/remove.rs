//! Removing files and directories that may not be there.

use std::fs;
use std::io;
use std::path::Path;

use crate::error::StoreError;

/// Removes a directory and all that is in it, without following links.
pub(super) fn tree(path: &Path) -> Result<(), StoreError> {
    absent_is_fine(fs::remove_dir_all(path)).map_err(StoreError::io("remove", path))
}

/// Removes a file.
pub(super) fn file(path: &Path) -> Result<(), StoreError> {
    absent_is_fine(fs::remove_file(path)).map_err(StoreError::io("remove", path))
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

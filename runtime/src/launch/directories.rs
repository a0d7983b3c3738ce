//! Host directories of a service.

use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};

use super::{HostDirectory, StartError};

/// Makes the directories that are missing. Those that exist are left as they are.
pub(super) fn make(directories: &[HostDirectory]) -> Result<(), StartError> {
    directories.iter().try_for_each(make_one)
}

fn make_one(directory: &HostDirectory) -> Result<(), StartError> {
    let path = &directory.path;
    let failed = |action| StartError::path(action, path);
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        let mut builder = DirBuilder::new();
        builder
            .recursive(true)
            .mode(0o755)
            .create(parent)
            .map_err(failed("make parents of"))?;
    }
    // Closed to others until it has its owner.
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {}
        Err(e) if e.kind() == ErrorKind::AlreadyExists && path.is_dir() => return Ok(()),
        Err(e) => return Err(failed("make directory")(e)),
    }
    chown(path, Some(directory.uid), Some(directory.gid)).map_err(failed("set the owner of"))?;
    let mode = std::fs::Permissions::from_mode(directory.mode.bits());
    std::fs::set_permissions(path, mode).map_err(failed("set the mode of"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::values::Mode;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn existing_directories_keep_their_mode() {
        let root = tempfile::tempdir().unwrap();
        let meta = std::fs::metadata(root.path()).unwrap();
        let directory = |name: &str, mode| HostDirectory {
            path: root.path().join(name),
            uid: meta.uid(),
            gid: meta.gid(),
            mode: Mode::new(mode),
        };
        make(&[directory("a/b", 0o750)]).unwrap();
        make(&[directory("a/b", 0o700), directory("a", 0o700)]).unwrap();
        let mode = |name: &str| std::fs::metadata(root.path().join(name)).unwrap().mode() & 0o7777;
        assert_eq!((mode("a/b"), mode("a")), (0o750, 0o755));
        std::fs::write(root.path().join("file"), "").unwrap();
        let error = make(&[directory("file", 0o700)]).unwrap_err().to_string();
        assert!(error.contains("/file"), "{error}");
    }
}

//! Attributes of files on disk: setting them in the order that keeps them, and reading them back.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use nix::fcntl::AtFlags;
use nix::sys::stat::{UtimensatFlags, futimens, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchownat};
use xattr::FileExt;

use crate::layer::{Attributes, Bytes, Mtime};

/// What the host's security modules put on files; not part of an image.
const HOST_XATTRS: &str = "security.";
const CAPABILITY: &str = "security.capability";

/// Gives a file or directory its attributes. The order matters: chown clears the setuid bits and file
/// capabilities, and everything before the last step changes times.
pub(super) fn apply(file: &File, attributes: &Attributes) -> io::Result<()> {
    let fd = file.as_raw_fd();
    let owner = Some(Uid::from_raw(attributes.uid));
    let group = Some(Gid::from_raw(attributes.gid));
    nix::unistd::fchown(fd, owner, group)?;
    file.set_permissions(PermissionsExt::from_mode(attributes.mode))?;
    for (name, value) in &attributes.xattrs {
        file.set_xattr(name, &value.0)?;
    }
    let time = timespec(attributes.mtime);
    Ok(futimens(fd, &time, &time)?)
}

/// Gives the symbolic link at `path` (relative to `dir`) its owner and time; it has nothing else.
pub(super) fn apply_to_link(dir: &File, path: &Path, attributes: &Attributes) -> io::Result<()> {
    let owner = Some(Uid::from_raw(attributes.uid));
    let group = Some(Gid::from_raw(attributes.gid));
    let dir = dir.as_raw_fd();
    fchownat(Some(dir), path, owner, group, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    let time = timespec(attributes.mtime);
    let nofollow = UtimensatFlags::NoFollowSymlink;
    Ok(utimensat(Some(dir), path, &time, &time, nofollow)?)
}

/// Reads the attributes of whatever is at `path`, without following a link.
pub(super) fn read(path: &Path) -> io::Result<Attributes> {
    let metadata = path.symlink_metadata()?;
    let mut attributes = Attributes {
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
        mtime: Mtime {
            secs: metadata.mtime(),
            nanos: u32::try_from(metadata.mtime_nsec()).unwrap_or(0),
        },
        xattrs: Default::default(),
    };
    if metadata.is_file() || metadata.is_dir() {
        for name in xattr::list(path)? {
            let Ok(name) = std::str::from_utf8(name.as_bytes()) else {
                continue;
            };
            if name.starts_with(HOST_XATTRS) && name != CAPABILITY {
                continue;
            }
            if let Some(value) = xattr::get(path, name)? {
                attributes.xattrs.insert(name.to_owned(), Bytes(value));
            }
        }
    }
    Ok(attributes)
}

fn timespec(time: Mtime) -> TimeSpec {
    TimeSpec::new(time.secs, i64::from(time.nanos))
}

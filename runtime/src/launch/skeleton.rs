//! Mount points that the image does not have. The tree of an image is never written to, so they
//! come from a small layer in memory that lies over it.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

use super::StartError;

/// A mount point that has to be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MountPoint {
    pub target: PathBuf,
    pub directory: bool,
}

/// The mount points that `tree` lacks.
pub(super) fn missing(tree: &Path, wanted: Vec<MountPoint>) -> Result<Vec<MountPoint>, StartError> {
    let root = open_directory(tree).map_err(StartError::path("open image tree", tree))?;
    let mut missing = Vec::new();
    for point in wanted {
        match resolve(&root, &point.target) {
            Ok(_) => {}
            Err(Errno::ENOENT) => missing.push(point),
            Err(e) => return Err(StartError::path("find mount point", point.target)(e.into())),
        }
    }
    Ok(missing)
}

/// Makes the mount points below `skeleton`. A directory that the image has as well gets the image's
/// owner and mode, since it is the skeleton's that shows.
pub(super) fn make(tree: &Path, skeleton: &Path, points: &[MountPoint]) -> Result<(), StartError> {
    let root = open_directory(tree).map_err(StartError::path("open image tree", tree))?;
    let like_root = copy_attributes(tree, skeleton);
    like_root.map_err(StartError::path("make mount points in", skeleton))?;
    points.iter().try_for_each(|point| {
        make_one(&root, tree, skeleton, point).map_err(StartError::path("make mount point", &point.target))
    })
}

fn make_one(root: &OwnedFd, tree: &Path, skeleton: &Path, point: &MountPoint) -> io::Result<()> {
    let (existing, rest) = deepest(root, tree, &point.target)?;
    let mut path = skeleton.to_owned();
    let mut origin = tree.to_owned();
    for name in &existing {
        path.push(name);
        origin.push(name);
        make_directory(&path)?;
        copy_attributes(&origin, &path)?;
    }
    let last = rest.components().count().saturating_sub(1);
    for (number, name) in rest.components().enumerate() {
        path.push(name);
        if number < last || point.directory {
            make_directory(&path)?;
        } else {
            File::options()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o644)
                .open(&path)?;
        }
    }
    Ok(())
}

/// The deepest part of `target` that exists, as plain path without symbolic links below the tree,
/// and the rest.
fn deepest(root: &OwnedFd, tree: &Path, target: &Path) -> io::Result<(PathBuf, PathBuf)> {
    for ancestor in target.ancestors() {
        match resolve(root, ancestor) {
            Ok(fd) => {
                let real = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))?;
                let base = tree.canonicalize()?;
                let plain = real.strip_prefix(base).map_err(|_| io::ErrorKind::NotFound)?;
                let rest = target
                    .strip_prefix(ancestor)
                    .map_err(|_| io::ErrorKind::NotFound)?;
                return Ok((plain.to_owned(), rest.to_owned()));
            }
            Err(Errno::ENOENT) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

fn make_directory(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o755).create(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

fn copy_attributes(from: &Path, to: &Path) -> io::Result<()> {
    let meta = std::fs::metadata(from)?;
    chown(to, Some(meta.uid()), Some(meta.gid()))?;
    std::fs::set_permissions(to, meta.permissions())
}

/// The place to mount on for a path below `root`. What is missing is made, so what it is missing
/// from has to belong to the service.
pub(super) fn mount_point(root: &OwnedFd, target: &Path, directory: bool) -> io::Result<OwnedFd> {
    match resolve(root, target) {
        Ok(found) => return Ok(found),
        Err(Errno::ENOENT) => {}
        Err(e) => return Err(e.into()),
    }
    let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else {
        return Err(Errno::ENOENT.into());
    };
    let parent = mount_point(root, parent, true)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}", parent.as_raw_fd())).join(name);
    match directory {
        true => make_directory(&path)?,
        false => File::create_new(&path).map(drop)?,
    }
    Ok(resolve(root, target)?)
}

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    open(path, OFlag::O_DIRECTORY)
}

/// A descriptor that stands for a path.
pub(super) fn open_path(path: &Path) -> io::Result<OwnedFd> {
    open(path, OFlag::O_PATH)
}

fn open(path: &Path, flags: OFlag) -> io::Result<OwnedFd> {
    File::options()
        .read(true)
        .custom_flags((flags | OFlag::O_CLOEXEC).bits())
        .open(path)
        .map(OwnedFd::from)
}

/// Resolves a path as a process whose root is the tree would.
pub(super) fn resolve(root: &OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let fd = openat2(root.as_raw_fd(), path, how)?;
    Ok(crate::sys::own(fd))
}

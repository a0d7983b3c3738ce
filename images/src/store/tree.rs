//! Building a file tree on disk: directories, and hard links to objects.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{linkat, mkfifo, symlinkat};

use super::metadata;
use super::object::ObjectId;
use super::seal::Sealing;
use crate::error::StoreError;
use crate::layer::{Attributes, EntryPath, Node, Tree};

/// Finds the file of an object.
pub(super) type Locate<'a> = &'a dyn Fn(&ObjectId) -> PathBuf;

/// Builds `tree` as the new directory `dest`.
pub(super) fn build(
    dest: &Path,
    tree: &Tree,
    locate: Locate<'_>,
    sealing: Sealing,
) -> Result<(), StoreError> {
    create_directory(dest).map_err(StoreError::io("create", dest))?;
    let mut builder = Builder::open(dest, locate, sealing)?;
    for (path, node) in tree.entries() {
        if !path.is_root() {
            builder.create(path, node)?;
        }
    }
    // From the inside out: creating an entry changes the mtime of its directory.
    for (path, node) in tree.entries().iter().rev() {
        if let Node::Directory(attributes) = node {
            builder.finish_directory(path, attributes)?;
        }
    }
    Ok(())
}

/// Creates entries below one directory.
pub(super) struct Builder<'a> {
    dest: PathBuf,
    root: File,
    locate: Locate<'a>,
    sealing: Sealing,
    /// Where to link from once an object's inode has as many names as the file system allows.
    copies: HashMap<ObjectId, PathBuf>,
}

impl<'a> Builder<'a> {
    pub fn open(dest: &Path, locate: Locate<'a>, sealing: Sealing) -> Result<Self, StoreError> {
        Ok(Self {
            dest: dest.to_owned(),
            root: File::open(dest).map_err(StoreError::io("open", dest))?,
            locate,
            sealing,
            copies: HashMap::new(),
        })
    }

    /// Creates one entry whose directory exists. A directory gets its attributes later.
    pub fn create(&mut self, path: &EntryPath, node: &Node) -> Result<(), StoreError> {
        let root = self.root.as_raw_fd();
        let relative = path.as_path();
        let full = || self.dest.join(relative);
        let created = match node {
            Node::Directory(_) => mkdirat(Some(root), relative, Mode::S_IRWXU).map_err(Into::into),
            Node::File { object, .. } => return self.link(path, object),
            Node::Empty(attributes) => create_empty(&full(), attributes),
            Node::Fifo(attributes) => create_fifo(&self.root, &full(), relative, attributes),
            Node::Symlink { target, attributes } => {
                let target = Path::new(std::ffi::OsStr::from_bytes(&target.0));
                symlinkat(target, Some(root), relative)
                    .map_err(io::Error::from)
                    .and_then(|()| metadata::apply_to_link(&self.root, relative, attributes))
            }
            // A tree has none of these: layer::Tree resolves them.
            Node::Link { .. } => Err(io::ErrorKind::InvalidInput.into()),
        };
        created.map_err(StoreError::io("create", &full()))
    }

    /// Gives a directory its attributes, once everything in it exists.
    pub fn finish_directory(&self, path: &EntryPath, attributes: &Attributes) -> Result<(), StoreError> {
        let full = self.dest.join(path.as_path());
        File::open(&full)
            .and_then(|dir| metadata::apply(&dir, attributes))
            .map_err(StoreError::io("set the attributes of", &full))
    }

    fn link(&mut self, path: &EntryPath, object: &ObjectId) -> Result<(), StoreError> {
        let relative = path.as_path();
        let source = match self.copies.get(object) {
            Some(copy) => copy.clone(),
            None => (self.locate)(object),
        };
        let root = Some(self.root.as_raw_fd());
        let full = || self.dest.join(relative);
        match linkat(None, source.as_path(), root, relative, AtFlags::empty()) {
            Ok(()) => Ok(()),
            Err(Errno::EMLINK) => {
                let full = full();
                copy(&source, &full)
                    .and_then(|()| self.sealing.seal(&full))
                    .map_err(StoreError::io("copy an object to", &full))?;
                self.copies.insert(*object, full);
                Ok(())
            }
            Err(errno) => Err(StoreError::io("link an object to", &full())(errno.into())),
        }
    }
}

/// A private directory, whatever the umask.
pub(super) fn create_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

fn copy(source: &Path, dest: &Path) -> io::Result<()> {
    let attributes = metadata::read(source)?;
    fs::copy(source, dest)?;
    let file = OpenOptions::new().write(true).open(dest)?;
    metadata::apply(&file, &attributes)
}

fn create_empty(path: &Path, attributes: &Attributes) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path)?;
    metadata::apply(&file, attributes)
}

fn create_fifo(root: &File, path: &Path, relative: &Path, attributes: &Attributes) -> io::Result<()> {
    mkfifo(path, Mode::S_IRUSR)?;
    metadata::apply_to_link(root, relative, attributes)?;
    // After chown, and a mode does not change the mtime.
    fs::set_permissions(
        path,
        std::os::unix::fs::PermissionsExt::from_mode(attributes.mode),
    )
}

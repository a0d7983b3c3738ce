//! Comparing one tree on disk with what its layers say.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use super::finding::{Fault, Finding};
use super::fsck::{identify, refused};
use super::layout::Layout;
use super::metadata;
use super::object::ObjectId;
use crate::digest::Digest;
use crate::error::StoreError;
use crate::layer::{Attributes, EntryPath, Node, Tree};

/// Adds a finding for every entry that is not as planned.
pub(super) fn check(
    layout: &Layout,
    image: &Digest,
    tree: &Tree,
    findings: &mut Vec<Finding>,
) -> Result<(), StoreError> {
    let root = layout.tree(image);
    let mut find = |path: &EntryPath, problem| {
        findings.push(Finding::Tree {
            image: *image,
            path: path.clone(),
            problem,
        });
    };
    if !super::ingest::exists(&root)? {
        find(&EntryPath::root(), Fault::Missing);
        return Ok(());
    }
    for (path, node) in tree.entries() {
        let full = root.join(path.as_path());
        let fault = check_entry(layout, &full, node)
            .or_else(refused)
            .map_err(StoreError::io("read", &full))?;
        if let Some(fault) = fault {
            find(path, fault);
        }
        let is_there = !matches!(fault, Some(Fault::Missing | Fault::Kind));
        if matches!(node, Node::Directory(_)) && is_there {
            for extra in extras(&full, path, tree).map_err(StoreError::io("list", &full))? {
                find(&extra, Fault::Extra);
            }
        }
    }
    Ok(())
}

fn extras(dir: &Path, path: &EntryPath, tree: &Tree) -> io::Result<Vec<EntryPath>> {
    let mut extras = Vec::new();
    for entry in fs::read_dir(dir)? {
        let child = path.join(entry?.file_name().as_bytes());
        if !tree.entries().contains_key(&child) {
            extras.push(child);
        }
    }
    extras.sort();
    Ok(extras)
}

fn check_entry(layout: &Layout, full: &Path, node: &Node) -> io::Result<Option<Fault>> {
    let found = match full.symlink_metadata() {
        Ok(found) => found,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Some(Fault::Missing));
        }
        Err(e) => return Err(e),
    };
    let kind = found.file_type();
    Ok(match node {
        Node::Directory(attributes) if kind.is_dir() => compare(full, attributes)?,
        Node::Fifo(attributes) if kind.is_fifo() => compare(full, attributes)?,
        Node::Empty(attributes) if kind.is_file() => match found.size() {
            0 => compare(full, attributes)?,
            _ => Some(Fault::Size),
        },
        Node::Symlink { target, attributes } if kind.is_symlink() => {
            if fs::read_link(full)?.as_os_str().as_bytes() != target.0 {
                return Ok(Some(Fault::Target));
            }
            let mut found = metadata::read(full)?;
            found.mode = attributes.mode;
            (found != *attributes).then_some(Fault::Attributes)
        }
        Node::File { object, .. } if kind.is_file() => compare_object(layout, full, &found, object)?,
        Node::Directory(_)
        | Node::Fifo(_)
        | Node::Empty(_)
        | Node::Symlink { .. }
        | Node::File { .. }
        | Node::Link { .. } => Some(Fault::Kind),
    })
}

fn compare(full: &Path, attributes: &Attributes) -> io::Result<Option<Fault>> {
    Ok((metadata::read(full)? != *attributes).then_some(Fault::Attributes))
}

/// A link to the object is as good as the object, which is checked for itself. Another inode may be a
/// copy, made when the object had no room for more links.
fn compare_object(
    layout: &Layout,
    full: &Path,
    found: &fs::Metadata,
    id: &ObjectId,
) -> io::Result<Option<Fault>> {
    if let Ok(object) = layout.object(id).symlink_metadata()
        && (object.dev(), object.ino()) == (found.dev(), found.ino())
    {
        return Ok(None);
    }
    Ok((identify(full)? != *id).then_some(Fault::Content))
}

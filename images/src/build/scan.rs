//! Reads a tar file into a [`Tree`].

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use tar::{Archive, EntryType};

use super::error::BuildError;
use super::tree::{Content, Entry, Kind, Source, Tree, TreePath};
use crate::digest::Hasher;

const XATTR: &str = "SCHILY.xattr.";

/// Position of the flags in a .pyc file (PEP 552).
const PYC_FLAGS: usize = 4;
/// Flags of a .pyc file that is valid while the hash in it matches its source.
const PYC_CHECKED_HASH: u8 = 0b11;
/// Flags of a .pyc file that Python takes without looking at its source.
const PYC_UNCHECKED_HASH: u8 = 0b01;

/// Reads the tar at `path`. Devices are left out.
///
/// Python's hash-checked bytecode becomes unchecked: nothing changes a source file in an image, and
/// bytecode that depends neither on time stamps nor on reading the source starts fastest.
///
/// # Errors
/// [`BuildError`] naming the entry that cannot be read.
pub fn scan(path: &Path) -> Result<Tree, BuildError> {
    let file = File::open(path).map_err(BuildError::io("open", path))?;
    let mut archive = Archive::new(BufReader::with_capacity(1 << 18, file));
    let mut tree = Tree::new();
    let entries = archive.entries().map_err(BuildError::io("read", path))?;
    for entry in entries {
        let mut entry = entry.map_err(BuildError::io("read", path))?;
        let name = entry.path_bytes().into_owned();
        let bad = |problem: String| {
            let what = format!("entry {:?} in {}", String::from_utf8_lossy(&name), path.display());
            BuildError::unexpected(what, problem)
        };
        let Some(place) = TreePath::from_tar(&name).map_err(bad)? else {
            continue;
        };
        if let Some(found) = read_entry(&mut entry, &place).map_err(bad)? {
            tree.insert(place, found);
        }
    }
    Ok(tree)
}

fn read_entry<R: Read>(entry: &mut tar::Entry<'_, R>, place: &TreePath) -> Result<Option<Entry>, String> {
    let xattrs = xattrs(entry)?;
    let kind = match entry.header().entry_type() {
        EntryType::Directory => Kind::Directory,
        EntryType::Regular | EntryType::Continuous => Kind::File(content(entry, place)?),
        EntryType::Symlink => Kind::Symlink(link_target(entry)?),
        EntryType::Link => {
            let target = TreePath::from_tar(&link_target(entry)?)?;
            Kind::HardLink(target.ok_or("hard link to the root")?)
        }
        EntryType::Fifo => Kind::Fifo,
        EntryType::Char | EntryType::Block => return Ok(None),
        other => return Err(format!("entry type {other:?} has no place in an image")),
    };
    let text = |problem: std::io::Error| problem.to_string();
    let header = entry.header();
    Ok(Some(Entry {
        kind,
        mode: header.mode().map_err(text)? & 0o7777,
        uid: header.uid().map_err(text)?,
        gid: header.gid().map_err(text)?,
        mtime: header.mtime().map_err(text)?,
        xattrs,
    }))
}

fn xattrs<R: Read>(entry: &mut tar::Entry<'_, R>) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let mut found = BTreeMap::new();
    let Some(extensions) = entry.pax_extensions().map_err(|e| e.to_string())? else {
        return Ok(found);
    };
    for extension in extensions {
        let extension = extension.map_err(|e| e.to_string())?;
        let key = extension.key().map_err(|e| e.to_string())?;
        if let Some(name) = key.strip_prefix(XATTR) {
            found.insert(name.to_owned(), extension.value_bytes().to_vec());
        }
    }
    Ok(found)
}

fn link_target<R: Read>(entry: &tar::Entry<'_, R>) -> Result<Vec<u8>, String> {
    let target = entry.link_name_bytes().ok_or("link without a target")?;
    Ok(target.into_owned())
}

fn content<R: Read>(entry: &mut tar::Entry<'_, R>, place: &TreePath) -> Result<Content, String> {
    let offset = entry.raw_file_position();
    let size = entry.size();
    let bytecode = place.as_bytes().ends_with(b".pyc");
    let mut hasher = Hasher::new();
    let mut patch = None;
    let mut buffer = vec![0; 1 << 16];
    let mut first = true;
    loop {
        let n = entry.read(&mut buffer).map_err(|e| e.to_string())?;
        if n == 0 {
            break;
        }
        if first && bytecode && n > PYC_FLAGS && buffer[PYC_FLAGS] == PYC_CHECKED_HASH {
            buffer[PYC_FLAGS] = PYC_UNCHECKED_HASH;
            patch = Some((PYC_FLAGS as u64, PYC_UNCHECKED_HASH));
        }
        first = false;
        hasher.update(&buffer[..n]);
    }
    Ok(Content {
        size,
        digest: hasher.finish(),
        source: Source::Tar { offset, patch },
    })
}

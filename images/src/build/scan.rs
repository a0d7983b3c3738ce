//! Reads a tar file into a [`Tree`].

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use super::error::BuildError;
use super::tree::{Content, Entry, Kind, Source, Tree, TreePath};
use crate::digest::Hasher;
use crate::layer::{Archive, ArchiveError, Member, MemberKind};

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
    let broken = |error: ArchiveError| match error {
        ArchiveError::Read(source) => BuildError::io("read", path)(source),
        ArchiveError::Malformed(problem) => BuildError::unexpected(path.display().to_string(), problem),
        ArchiveError::Entry(problem) => BuildError::unexpected(path.display().to_string(), problem),
    };
    let mut tree = Tree::new();
    while let Some(member) = archive.next().map_err(broken)? {
        let bad = |problem: String| {
            let name = String::from_utf8_lossy(&member.name);
            BuildError::unexpected(format!("entry {name:?} in {}", path.display()), problem)
        };
        let Some(place) = TreePath::from_tar(&member.name).map_err(bad)? else {
            continue;
        };
        let kind = match &member.kind {
            MemberKind::Directory => Kind::Directory,
            MemberKind::File => Kind::File(content(&mut archive, &member, &place).map_err(bad)?),
            MemberKind::Symlink(target) => Kind::Symlink(target.clone()),
            MemberKind::HardLink(target) => {
                let target = TreePath::from_tar(target).map_err(bad)?;
                Kind::HardLink(target.ok_or_else(|| bad("hard link to the root".to_owned()))?)
            }
            MemberKind::Fifo => Kind::Fifo,
            MemberKind::Device => continue,
        };
        tree.insert(place, entry(kind, &member).map_err(bad)?);
    }
    Ok(tree)
}

fn entry(kind: Kind, member: &Member) -> Result<Entry, String> {
    let attributes = &member.attributes;
    let xattrs = attributes
        .xattrs
        .iter()
        .map(|(name, value)| (name.clone(), value.0.clone()));
    Ok(Entry {
        kind,
        mode: attributes.mode,
        uid: attributes.uid.into(),
        gid: attributes.gid.into(),
        mtime: u64::try_from(attributes.mtime.secs).map_err(|_| "its time is before 1970".to_owned())?,
        xattrs: xattrs.collect(),
    })
}

fn content<R: Read>(archive: &mut Archive<R>, member: &Member, place: &TreePath) -> Result<Content, String> {
    if member.sparse.is_some() {
        return Err("sparse files are not expected here".to_owned());
    }
    let offset = archive.offset();
    let bytecode = place.as_bytes().ends_with(b".pyc");
    let mut reader = archive.content(member);
    let mut hasher = Hasher::new();
    let mut patch = None;
    let mut buffer = vec![0; 1 << 16];
    let mut first = true;
    loop {
        let n = reader.read(&mut buffer).map_err(|e| e.to_string())?;
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
        size: member.size,
        digest: hasher.finish(),
        source: Source::Tar { offset, patch },
    })
}

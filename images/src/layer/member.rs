//! One member of an archive: its headers decoded, nothing judged yet.

use tar::{EntryType, Header};

use super::index::{Attributes, Bytes, Mtime};
use super::pax::Pax;
use super::sparse::SparseMap;
use crate::error::{EntryError, EntryProblem};

/// What kind of file a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    Symlink(Vec<u8>),
    HardLink(Vec<u8>),
    Device,
    Fifo,
}

/// A member of an archive.
#[derive(Debug)]
pub(crate) struct Member {
    pub name: Vec<u8>,
    pub kind: Kind,
    pub attributes: Attributes,
    /// Size of the content; of a sparse file with its holes.
    pub size: u64,
    pub sparse: Option<SparseMap>,
}

impl Member {
    /// Combines a header with what preceded it: the PAX header wins over GNU's long names, these over
    /// the header's own fields.
    pub(super) fn decode(
        header: &Header,
        long_name: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
        pax: &Pax,
    ) -> Result<Self, EntryError> {
        let name = pax.sparse.name.clone().or_else(|| pax.path.clone());
        let name = name
            .or(long_name)
            .unwrap_or_else(|| header.path_bytes().into_owned());
        let link = pax.link.clone().or(long_link);
        let link = link.or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned));
        let fail = |problem| name_error(&name, problem);
        let kind = kind(header.entry_type(), &name, link.unwrap_or_default()).map_err(fail)?;
        let attributes = attributes(header, pax).map_err(fail)?;
        let stated = match pax.size {
            Some(size) => size,
            None => header
                .entry_size()
                .map_err(|_| fail(EntryProblem::Field("size")))?,
        };
        // Only regular files are followed by data; writers that note a link target's size exist.
        let size = if kind == Kind::File { stated } else { 0 };
        Ok(Self {
            name,
            kind,
            attributes,
            size,
            sparse: None,
        })
    }
}

/// An error about a member of which only the header is known.
pub(super) fn error(header: &Header, problem: EntryProblem) -> EntryError {
    name_error(&header.path_bytes(), problem)
}

/// An error about a named member.
pub(super) fn name_error(name: &[u8], problem: EntryProblem) -> EntryError {
    EntryError {
        name: String::from_utf8_lossy(name).into_owned(),
        problem,
    }
}

fn kind(entry_type: EntryType, name: &[u8], link: Vec<u8>) -> Result<Kind, EntryProblem> {
    Ok(match entry_type {
        // Before ustar a directory was a file with a slash at its end.
        EntryType::Regular if name.ends_with(b"/") => Kind::Directory,
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File,
        EntryType::Directory => Kind::Directory,
        EntryType::Symlink => Kind::Symlink(link),
        EntryType::Link => Kind::HardLink(link),
        EntryType::Char | EntryType::Block => Kind::Device,
        EntryType::Fifo => Kind::Fifo,
        other => return Err(EntryProblem::Kind(char::from(other.as_byte()))),
    })
}

fn attributes(header: &Header, pax: &Pax) -> Result<Attributes, EntryProblem> {
    let old = header.as_old();
    let mode = if blank(&old.mode) {
        0
    } else {
        header.mode().map_err(|_| EntryProblem::Field("mode"))?
    };
    let own_uid = || {
        if blank(&old.uid) {
            Ok(0)
        } else {
            header.uid().map_err(|_| EntryProblem::Field("uid"))
        }
    };
    let own_gid = || {
        if blank(&old.gid) {
            Ok(0)
        } else {
            header.gid().map_err(|_| EntryProblem::Field("gid"))
        }
    };
    let uid = pax.uid.map_or_else(own_uid, Ok)?;
    let gid = pax.gid.map_or_else(own_gid, Ok)?;
    let mtime = match pax.mtime {
        Some(mtime) => mtime,
        None if blank(&old.mtime) => Mtime { secs: 0, nanos: 0 },
        None => {
            let secs = header.mtime().map_err(|_| EntryProblem::Field("mtime"))?;
            // A base-256 field before 1970 comes out as the two's complement.
            Mtime {
                secs: secs.cast_signed(),
                nanos: 0,
            }
        }
    };
    Ok(Attributes {
        mode: mode & 0o7777,
        uid: owner(uid)?,
        gid: owner(gid)?,
        mtime,
        xattrs: pax
            .xattrs
            .iter()
            .map(|(k, v)| (k.clone(), Bytes(v.0.clone())))
            .collect(),
    })
}

/// Some writers leave number fields empty where others write zeros.
fn blank(field: &[u8]) -> bool {
    field.iter().all(|b| matches!(b, 0 | b' '))
}

/// The largest value means "leave unchanged" to chown(2).
fn owner(id: u64) -> Result<u32, EntryProblem> {
    match u32::try_from(id) {
        Ok(id) if id != u32::MAX => Ok(id),
        Ok(_) | Err(_) => Err(EntryProblem::Owner(id)),
    }
}

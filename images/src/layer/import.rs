//! From archive to index: each member is judged by the policy, file content goes to a sink.

use std::io::{self, Read};

use super::archive::{Archive, ArchiveError};
use super::index::{Attributes, Bytes, LayerIndex, Node};
use super::member::{Kind, Member, name_error};
use super::path::EntryPath;
use super::policy::{DevicePolicy, Policy, PrivilegePolicy};
use crate::digest::Digest;
use crate::error::{EntryError, EntryProblem, ImportError, StoreError};
use crate::store::ObjectId;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh.opq";
/// Other marks of aufs, which mean nothing in an image.
const AUFS: &[u8] = b".wh..wh.";
const CAPABILITY: &str = "security.capability";
/// Labels of the machine that built the image; they are the business of the machine that runs it.
const HOST_LABELS: [&str; 3] = ["security.selinux", "security.ima", "security.evm"];
/// Bits that give a process another identity.
const SETID: u32 = 0o6000;
/// Longest target of a symbolic link (PATH_MAX without its end).
const TARGET_MAX: usize = 4095;
/// Most bytes that Linux keeps in extended attributes of one file (XATTR_SIZE_MAX).
const XATTR_MAX: usize = 64 << 10;

/// Where the content of files goes.
pub(crate) trait ObjectSink {
    /// Takes one regular file with content.
    fn put(
        &self,
        attributes: &Attributes,
        size: u64,
        sparse: bool,
        content: &mut dyn Read,
    ) -> Result<ObjectId, SinkError>;
}

/// Why a file was not taken.
#[derive(Debug)]
pub(crate) enum SinkError {
    /// The content could not be read.
    Read(io::Error),
    /// It could not be written.
    Store(StoreError),
}

/// Reads a whole archive.
pub(crate) fn import(
    tar: impl Read,
    diff_id: &Digest,
    policy: &Policy,
    sink: &dyn ObjectSink,
) -> Result<LayerIndex, ImportError> {
    let mut archive = Archive::new(tar);
    let mut import = Import {
        index: LayerIndex::new(*diff_id),
        policy,
        sink,
        entries: 0,
        bytes: 0,
        metadata: 0,
    };
    loop {
        let step = import.step(&mut archive);
        let more = step.map_err(|failure| import.explain(failure, archive.offset()))?;
        if !more {
            return Ok(import.index);
        }
        import.check_limits()?;
    }
}

struct Import<'a> {
    index: LayerIndex,
    policy: &'a Policy,
    sink: &'a dyn ObjectSink,
    entries: u64,
    bytes: u64,
    metadata: u64,
}

/// How far a member has come: what to do with it is known, its content is not read.
enum Verdict {
    Ignore,
    Opaque(EntryPath),
    Whiteout(EntryPath),
    Entry(EntryPath),
}

/// Why an import stops, before it is known which layer it was.
enum Failure {
    Archive(ArchiveError),
    Store(StoreError),
}

impl From<ArchiveError> for Failure {
    fn from(error: ArchiveError) -> Self {
        Self::Archive(error)
    }
}

impl From<EntryError> for Failure {
    fn from(error: EntryError) -> Self {
        Self::Archive(error.into())
    }
}

impl From<SinkError> for Failure {
    fn from(error: SinkError) -> Self {
        match error {
            SinkError::Read(error) => Self::Archive(ArchiveError::from_io(error)),
            SinkError::Store(error) => Self::Store(error),
        }
    }
}

impl Import<'_> {
    /// Takes the next member; says whether there was one.
    fn step<R: Read>(&mut self, archive: &mut Archive<R>) -> Result<bool, Failure> {
        match archive.next()? {
            Some(member) => self.member(archive, &member).map(|()| true),
            None => Ok(false),
        }
    }

    fn member<R: Read>(&mut self, archive: &mut Archive<R>, member: &Member) -> Result<(), Failure> {
        self.entries += 1;
        let fail = |problem| name_error(&member.name, problem);
        let path = match self.verdict(member).map_err(fail)? {
            Verdict::Ignore => return Ok(()),
            Verdict::Opaque(dir) => {
                self.metadata += dir.len() as u64;
                self.index.opaque.insert(dir);
                return Ok(());
            }
            Verdict::Whiteout(path) => {
                self.metadata += path.len() as u64;
                self.index.whiteouts.insert(path);
                return Ok(());
            }
            Verdict::Entry(path) => path,
        };
        let attributes = self.attributes(member).map_err(fail)?;
        let node = match &member.kind {
            Kind::Directory => Node::Directory(attributes),
            Kind::Fifo => Node::Fifo(attributes),
            Kind::Symlink(target) => symlink(target, attributes).map_err(fail)?,
            Kind::HardLink(target) => {
                let target = self.link_target(target).map_err(fail)?;
                let node = self.index.link_node(target).map_err(fail)?;
                return self.put(path, node).map_err(|p| fail(p).into());
            }
            Kind::File if member.size == 0 => Node::Empty(attributes),
            Kind::File => self.file(archive, member, &attributes)?,
            Kind::Device => match self.policy.devices {
                DevicePolicy::Skip => return Ok(()),
                DevicePolicy::Refuse => return Err(fail(EntryProblem::Device).into()),
            },
        };
        self.put(path, node).map_err(|p| fail(p).into())
    }

    /// Adds an entry and what it costs in memory. A hard link costs what it copies.
    fn put(&mut self, path: EntryPath, node: Node) -> Result<(), EntryProblem> {
        self.metadata += path.len() as u64 + node.weight();
        self.index.put(path, node)
    }

    fn verdict(&self, member: &Member) -> Result<Verdict, EntryProblem> {
        let path = EntryPath::parse(&member.name, &self.policy.limits)?;
        let Some((dir, name)) = path.split() else {
            return Ok(Verdict::Entry(path));
        };
        if name == OPAQUE {
            return Ok(Verdict::Opaque(dir));
        }
        if name.starts_with(AUFS) {
            return Ok(Verdict::Ignore);
        }
        match name.strip_prefix(WHITEOUT) {
            Some(b"" | b"." | b"..") => Err(EntryProblem::Whiteout),
            Some(hidden) => Ok(Verdict::Whiteout(dir.join(hidden))),
            None => Ok(Verdict::Entry(path)),
        }
    }

    fn file<R: Read>(
        &mut self,
        archive: &mut Archive<R>,
        member: &Member,
        attributes: &Attributes,
    ) -> Result<Node, Failure> {
        let size = member.size;
        self.bytes = self.bytes.saturating_add(size);
        if self.bytes > self.policy.limits.unpacked_bytes {
            return Err(name_error(&member.name, EntryProblem::Size(size)).into());
        }
        let sparse = member.sparse.is_some();
        let mut content = archive.content(member);
        let object = self.sink.put(attributes, size, sparse, &mut *content)?;
        Ok(Node::File { object, size })
    }

    fn attributes(&self, member: &Member) -> Result<Attributes, EntryProblem> {
        let mut attributes = member.attributes.clone();
        if member.kind == Kind::File && attributes.mode & SETID != 0 {
            match self.policy.setuid {
                PrivilegePolicy::Keep => {}
                PrivilegePolicy::Strip => attributes.mode &= !SETID,
                PrivilegePolicy::Refuse => return Err(EntryProblem::Setuid),
            }
        }
        if attributes.xattrs.is_empty() {
            return Ok(attributes);
        }
        let mut kept = std::collections::BTreeMap::new();
        for (name, value) in std::mem::take(&mut attributes.xattrs) {
            if self.keeps(&name, &member.kind)? {
                kept.insert(name, value);
            }
        }
        let sum: usize = kept
            .iter()
            .map(|(k, v): (&String, &Bytes)| k.len() + v.0.len())
            .sum();
        if sum > XATTR_MAX {
            return Err(EntryProblem::XattrSize);
        }
        attributes.xattrs = kept;
        Ok(attributes)
    }

    fn keeps(&self, name: &str, kind: &Kind) -> Result<bool, EntryProblem> {
        let holds_user = matches!(kind, Kind::File | Kind::Directory);
        match name {
            CAPABILITY if *kind == Kind::File => match self.policy.file_capabilities {
                PrivilegePolicy::Keep => Ok(true),
                PrivilegePolicy::Strip => Ok(false),
                PrivilegePolicy::Refuse => Err(EntryProblem::FileCapability),
            },
            _ if HOST_LABELS.contains(&name) => Ok(false),
            "system.posix_acl_access" | "system.posix_acl_default" if holds_user => Ok(true),
            _ if name.starts_with("user.") && name.len() > 5 && !name.contains('\0') && holds_user => {
                Ok(true)
            }
            // trusted.overlay.* and the like change what a mounted tree means.
            _ => Err(EntryProblem::Xattr(name.to_owned())),
        }
    }

    fn link_target(&self, raw: &[u8]) -> Result<EntryPath, EntryProblem> {
        let name = || String::from_utf8_lossy(raw).into_owned();
        match EntryPath::parse(raw, &self.policy.limits) {
            Ok(path) if path.is_root() => Err(EntryProblem::LinkToDirectory(name())),
            Err(EntryProblem::Escapes) => Err(EntryProblem::LinkEscapes(name())),
            other => other,
        }
    }

    fn check_limits(&self) -> Result<(), ImportError> {
        let limits = &self.policy.limits;
        for (count, what, limit) in [
            (self.entries, "entries", limits.entries),
            (
                self.metadata,
                "bytes of names and attributes",
                limits.metadata_bytes,
            ),
        ] {
            if count > limit {
                return Err(ImportError::Limit {
                    diff_id: self.index.diff_id,
                    what,
                    limit,
                });
            }
        }
        Ok(())
    }

    fn explain(&self, error: Failure, offset: u64) -> ImportError {
        let diff_id = self.index.diff_id;
        match error {
            Failure::Archive(ArchiveError::Read(source)) => ImportError::Read { diff_id, source },
            Failure::Archive(ArchiveError::Malformed(problem)) => ImportError::Malformed {
                diff_id,
                offset,
                problem,
            },
            Failure::Archive(ArchiveError::Entry(entry)) => ImportError::Entry {
                diff_id,
                entry: Box::new(entry),
            },
            Failure::Store(error) => error.into(),
        }
    }
}

fn symlink(target: &[u8], attributes: Attributes) -> Result<Node, EntryProblem> {
    if target.is_empty() || target.len() > TARGET_MAX || target.contains(&0) {
        return Err(EntryProblem::SymlinkTarget);
    }
    let target = Bytes(target.to_vec());
    Ok(Node::Symlink { target, attributes })
}

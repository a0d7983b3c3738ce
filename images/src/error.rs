//! Errors of the store and of layer import.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::digest::Digest;
use crate::durable::DurableError;

/// The store could not do what was asked.
#[derive(Debug, Error)]
pub enum StoreError {
    /// A step on a file or directory of the store failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A durable write failed.
    #[error(transparent)]
    Durable(#[from] DurableError),
    /// A document of the store is damaged.
    #[error("{} is damaged", path.display())]
    Document {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A document of the store contradicts its own name or content.
    #[error("{} is damaged: {problem}", path.display())]
    Inconsistent {
        /// The file.
        path: PathBuf,
        /// The contradiction.
        problem: String,
    },
    /// The store was written by a newer version.
    #[error("{} says that the store needs {needs}, which this version does not know: use a newer nodectl", path.display())]
    Format {
        /// The format file.
        path: PathBuf,
        /// The version or feature that is unknown.
        needs: String,
    },
    /// An image needs a layer that was neither imported nor is in the store.
    #[error("image {image} needs layer {diff_id}, which is not in the store")]
    MissingLayer {
        /// The manifest digest of the image.
        image: Digest,
        /// The layer.
        diff_id: Digest,
    },
    /// The layers of an image do not fit onto each other.
    #[error("layer {diff_id} of image {image}: {problem}")]
    Layers {
        /// The manifest digest of the image.
        image: Digest,
        /// The layer that does not fit.
        diff_id: Digest,
        /// Why, naming the entry.
        problem: Box<EntryError>,
    },
    /// The image's manifest or config is not what its digest or the caller says.
    #[error("image {image}: {problem}")]
    Image {
        /// The manifest digest of the image.
        image: Digest,
        /// What is wrong.
        problem: String,
    },
    /// An earlier write of the same ingest failed, so nothing of it may get a final name.
    #[error("ingest {txn} cannot be committed: writing an object failed earlier")]
    Poisoned {
        /// The transaction's name.
        txn: String,
    },
    /// A transaction name that cannot be a file name.
    #[error("{0:?} is not a transaction name")]
    TransactionName(String),
}

impl StoreError {
    /// For `map_err`: an I/O error gets its action and path.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// Whether the file system ran out of space or quota.
    #[must_use]
    pub fn is_no_space(&self) -> bool {
        let kind = match self {
            Self::Io { source, .. } => Some(source.kind()),
            Self::Durable(error) => error.io_kind(),
            Self::Document { .. }
            | Self::Inconsistent { .. }
            | Self::Format { .. }
            | Self::MissingLayer { .. }
            | Self::Layers { .. }
            | Self::Image { .. }
            | Self::Poisoned { .. }
            | Self::TransactionName(_) => None,
        };
        matches!(
            kind,
            Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        )
    }
}

/// One entry of a layer that cannot be accepted.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("entry {name:?}: {problem}")]
pub struct EntryError {
    /// The entry's name as the archive has it (lossy where it is not UTF-8).
    pub name: String,
    /// What is wrong with it.
    pub problem: EntryProblem,
}

/// What can be wrong with an entry of a layer.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum EntryProblem {
    /// The name contains `..`.
    #[error("the name leaves the tree")]
    Escapes,
    /// The name contains a NUL byte.
    #[error("the name contains a NUL byte")]
    Nul,
    /// The name has a component over 255 bytes.
    #[error("a part of the name is longer than 255 bytes")]
    LongComponent,
    /// The name is longer than the policy allows.
    #[error("the name is longer than {0} bytes")]
    LongPath(usize),
    /// The name has more components than the policy allows.
    #[error("the name is nested deeper than {0} levels")]
    Deep(usize),
    /// A file other than a directory was named as the root of the tree.
    #[error("the root of the tree must be a directory")]
    Root,
    /// A `.wh.` entry that names nothing that can be hidden.
    #[error("the whiteout names nothing")]
    Whiteout,
    /// A parent in the name is not a directory.
    #[error("{0:?} is not a directory")]
    ParentNotDirectory(String),
    /// A parent in the name is a symbolic link that leaves the tree or goes in a circle.
    #[error("the symbolic link {0:?} leads out of the tree or in a circle")]
    LinkedParent(String),
    /// A hard link names something that is not there.
    #[error("the hard link's target {0:?} does not exist")]
    LinkTarget(String),
    /// A hard link names a directory.
    #[error("the hard link's target {0:?} is a directory")]
    LinkToDirectory(String),
    /// A hard link's target leaves the tree.
    #[error("the hard link's target {0:?} leaves the tree")]
    LinkEscapes(String),
    /// A symbolic link without a target, or with one over 4095 bytes or with a NUL byte.
    #[error("the symbolic link's target is empty, too long or contains a NUL byte")]
    SymlinkTarget,
    /// A device node, refused by policy.
    #[error("device nodes are refused")]
    Device,
    /// A setuid or setgid file, refused by policy.
    #[error("setuid and setgid files are refused")]
    Setuid,
    /// A file with capabilities, refused by policy.
    #[error("files with capabilities are refused")]
    FileCapability,
    /// An extended attribute outside the accepted set.
    #[error("the extended attribute {0:?} is refused")]
    Xattr(String),
    /// Extended attributes beyond what file systems hold.
    #[error("the extended attributes are larger than 64 KiB")]
    XattrSize,
    /// An entry type that no image should contain.
    #[error("the entry type {0:?} is not supported")]
    Kind(char),
    /// A header field that cannot be read.
    #[error("the header's {0} cannot be read")]
    Field(&'static str),
    /// A sparse map that contradicts itself.
    #[error("the sparse map is not consistent")]
    Sparse,
    /// The owner does not fit 32 bits or is the reserved value.
    #[error("the owner {0} is out of range")]
    Owner(u64),
    /// More than a file tree may have, with what the names imply.
    #[error("the image's file tree has too many entries or too long names")]
    TreeSize,
    /// A file size beyond the policy's limit for the layer.
    #[error("the file would unpack to {0} bytes, over the limit")]
    Size(u64),
}

/// A layer could not be imported. Nothing of it got a final name.
#[derive(Debug, Error)]
pub enum ImportError {
    /// The stream that delivers the layer failed (network, decompression).
    #[error("cannot read layer {diff_id}")]
    Read {
        /// The layer that was asked for.
        diff_id: Digest,
        /// What the reader said.
        source: io::Error,
    },
    /// The content is not the layer that was asked for.
    #[error("layer {expected} has the digest {actual} after decompression")]
    Digest {
        /// The diff_id that was asked for.
        expected: Digest,
        /// What the bytes amount to.
        actual: Digest,
    },
    /// The archive's structure is broken.
    #[error("layer {diff_id} is not a tar archive at byte {offset}: {problem}")]
    Malformed {
        /// The layer.
        diff_id: Digest,
        /// Where in the uncompressed stream.
        offset: u64,
        /// What is wrong there.
        problem: &'static str,
    },
    /// An entry is not acceptable.
    #[error("layer {diff_id}: {entry}")]
    Entry {
        /// The layer.
        diff_id: Digest,
        /// The entry and what is wrong with it.
        entry: Box<EntryError>,
    },
    /// A limit on the whole layer was passed.
    #[error("layer {diff_id} has more than {limit} {what}")]
    Limit {
        /// The layer.
        diff_id: Digest,
        /// What was counted.
        what: &'static str,
        /// The most that is allowed.
        limit: u64,
    },
    /// Writing failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The node lock could not be taken.
#[derive(Debug, Error)]
pub enum LockError {
    /// Another process holds it.
    #[error("{} is held by process {holder}", path.display())]
    Busy {
        /// The lock file.
        path: PathBuf,
        /// The holder's process id and command, as far as they are known.
        holder: String,
    },
    /// The lock file cannot be used.
    #[error("cannot {action} the lock file {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The lock file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

//! What a check can find wrong, and how it says so.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use super::object::ObjectId;
use crate::digest::Digest;
use crate::layer::EntryPath;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Finding {
    /// An image's record cannot be used. Its tree was not checked.
    Record {
        /// The image.
        image: Digest,
        /// What is wrong.
        problem: String,
    },
    /// A layer's index is missing or cannot be used. Trees of its images were not checked.
    Layer {
        /// The layer.
        diff_id: Digest,
        /// The images that need it.
        images: BTreeSet<Digest>,
        /// What is wrong.
        problem: String,
    },
    /// An object is missing or is not what its name says.
    Object {
        /// The object.
        object: ObjectId,
        /// What is wrong.
        problem: Fault,
        /// The layers that contain it; none if nothing needs it.
        layers: BTreeSet<Digest>,
        /// The files that show it, by image.
        files: BTreeMap<Digest, Vec<EntryPath>>,
    },
    /// An entry of a tree is not what the layers say.
    Tree {
        /// The image.
        image: Digest,
        /// The entry; the root if the whole tree is missing.
        path: EntryPath,
        /// What is wrong.
        problem: Fault,
    },
}

/// What can be wrong with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// It is not there.
    Missing,
    /// It should not be there.
    Extra,
    /// It is another kind of file.
    Kind,
    /// Its size is wrong.
    Size,
    /// Its content or attributes are wrong.
    Content,
    /// The kernel refuses to read it: the disk cannot, or the bytes are not those that were sealed.
    Unreadable,
    /// Its owner, mode, time or extended attributes are wrong.
    Attributes,
    /// The symbolic link points elsewhere.
    Target,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "missing",
            Self::Extra => "should not be there",
            Self::Kind => "of the wrong kind",
            Self::Size => "of the wrong size",
            Self::Content => "damaged",
            Self::Unreadable => "damaged: the kernel refuses to read it",
            Self::Attributes => "has the wrong owner, mode, time or attributes",
            Self::Target => "points elsewhere",
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record { image, problem } => write!(f, "image {image}: record: {problem}"),
            Self::Layer {
                diff_id,
                images,
                problem,
            } => {
                write!(f, "layer {diff_id}: {problem} ({} images need it)", images.len())
            }
            Self::Object {
                object,
                problem,
                files,
                ..
            } => {
                write!(f, "object {object}: {problem}")?;
                for (image, paths) in files {
                    for path in paths {
                        write!(f, "\n  image {image}: /{path}")?;
                    }
                }
                Ok(())
            }
            Self::Tree { image, path, problem } => write!(f, "image {image}: /{path}: {problem}"),
        }
    }
}

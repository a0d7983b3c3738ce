//! An OCI image layout in one uncompressed tar file: what `skopeo copy … oci-archive:` writes, and
//! a release bundle. Read in place, without unpacking: the tar is scanned once for where each blob
//! begins. What is found is checked by digest like anything from a registry.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{StreamExt, try_unfold};

use super::layout::{check_marker, parse_index};
use super::{ByteStream, Source, SourceError, blob_path, check_digest, document, index};
use crate::digest::Digest;
use crate::manifest::{Descriptor, Document, Index, MAX_DOCUMENT};
use crate::reference::Selector;

/// Bytes per read of a file.
const CHUNK: usize = 256 << 10;
/// Entries of an archive; a bundle has a few dozen.
const MAX_ENTRIES: usize = 100_000;

/// A layout in a tar file.
pub struct Archive {
    path: PathBuf,
    file: Arc<File>,
    blobs: HashMap<Digest, Extent>,
    index: Index,
}

#[derive(Clone, Copy)]
struct Extent {
    offset: u64,
    size: u64,
}

impl Archive {
    /// Opens a tar file and finds its blobs.
    ///
    /// # Errors
    /// If it is no tar file or holds no layout.
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        let file = File::open(path).map_err(SourceError::io("open", path))?;
        let place = path.display().to_string();
        let found = scan(&file, path)?;
        let small = |name: &str| -> Result<Vec<u8>, SourceError> {
            let extent = found
                .documents
                .get(Path::new(name))
                .ok_or_else(|| SourceError::NoLayout {
                    place: place.clone(),
                    reason: format!("it has no {name}"),
                })?;
            read_extent(&file, path, *extent)
        };
        check_marker(&small("oci-layout")?, &place)?;
        let index = parse_index(&small("index.json")?, &place)?;
        Ok(Archive {
            path: path.to_owned(),
            file: Arc::new(file),
            blobs: found.blobs,
            index,
        })
    }

    /// The entries of `index.json`.
    pub fn index(&self) -> &Index {
        &self.index
    }

    fn extent(&self, digest: &Digest) -> Result<Extent, SourceError> {
        self.blobs
            .get(digest)
            .copied()
            .ok_or_else(|| SourceError::NotFound {
                place: self.name(),
                what: format!("blob {digest}"),
            })
    }
}

#[derive(Default)]
struct Found {
    documents: HashMap<PathBuf, Extent>,
    blobs: HashMap<Digest, Extent>,
}

/// Where things are. Only regular files count; the first of a name wins, so that nothing that was
/// looked at can be replaced by a later entry.
fn scan(file: &File, path: &Path) -> Result<Found, SourceError> {
    let length = file.metadata().map_err(SourceError::io("inspect", path))?.len();
    let bad = |reason: String| SourceError::NoLayout {
        place: path.display().to_string(),
        reason,
    };
    let mut found = Found::default();
    let mut archive = tar::Archive::new(BufReader::new(file));
    let entries = archive
        .entries_with_seek()
        .map_err(SourceError::io("read", path))?;
    for (count, entry) in entries.enumerate() {
        if count >= MAX_ENTRIES {
            return Err(bad(format!("more than {MAX_ENTRIES} entries")));
        }
        let entry = entry.map_err(|error| bad(error.to_string()))?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let extent = Extent {
            offset: entry.raw_file_position(),
            size: entry.size(),
        };
        if extent
            .offset
            .checked_add(extent.size)
            .is_none_or(|end| end > length)
        {
            return Err(bad("it is cut off".to_owned()));
        }
        let name = entry.path().map_err(|error| bad(error.to_string()))?;
        let name: PathBuf = name.components().filter(|c| *c != Component::CurDir).collect();
        if let Some(digest) = blob_digest(&name) {
            found.blobs.entry(digest).or_insert(extent);
        } else {
            found.documents.entry(name).or_insert(extent);
        }
    }
    Ok(found)
}

fn blob_digest(name: &Path) -> Option<Digest> {
    let hex = name.strip_prefix("blobs/sha256").ok()?.to_str()?;
    Digest::from_hex(hex).ok()
}

fn read_extent(file: &File, path: &Path, extent: Extent) -> Result<Vec<u8>, SourceError> {
    if extent.size > MAX_DOCUMENT {
        return Err(SourceError::TooLarge {
            place: path.display().to_string(),
            what: "document".to_owned(),
            limit: MAX_DOCUMENT,
        });
    }
    let mut bytes = vec![0; extent.size as usize];
    file.read_exact_at(&mut bytes, extent.offset)
        .map_err(SourceError::io("read", path))?;
    Ok(bytes)
}

#[async_trait]
impl Source for Archive {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    async fn resolve(&self, selector: &Selector) -> Result<Digest, SourceError> {
        match selector {
            Selector::Digest(digest) => Ok(*digest),
            Selector::Name(_) | Selector::Only => {
                Ok(index::find(&self.index, selector, &self.name())?.digest)
            }
        }
    }

    async fn manifest(&self, digest: &Digest) -> Result<Bytes, SourceError> {
        let bytes = read_extent(&self.file, &self.path, self.extent(digest)?)?;
        check_digest(&self.name(), "manifest", digest, &Digest::of(&bytes))?;
        Ok(Bytes::from(bytes))
    }

    async fn blob(&self, blob: &Descriptor, offset: u64) -> Result<ByteStream, SourceError> {
        let extent = self.extent(&blob.digest)?;
        if extent.size != blob.size {
            return Err(SourceError::Size {
                place: self.name(),
                blob: blob.digest,
                got: extent.size,
                size: blob.size,
            });
        }
        let end = extent.offset + extent.size;
        Ok(file_range(
            Arc::clone(&self.file),
            self.path.clone(),
            extent.offset + offset,
            end,
        ))
    }

    async fn referrers(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>, SourceError> {
        referrers_in(self, &self.index, subject, artifact_type).await
    }
}

/// Streams `start..end` of a file, reading off the async threads.
pub(super) fn file_range(file: Arc<File>, path: PathBuf, start: u64, end: u64) -> ByteStream {
    try_unfold((file, path, start), move |(file, path, at)| async move {
        if at >= end {
            return Ok(None);
        }
        let reader = Arc::clone(&file);
        let read = tokio::task::spawn_blocking(move || {
            let mut bytes = vec![0; CHUNK.min((end - at) as usize)];
            reader.read_exact_at(&mut bytes, at).map(|()| bytes)
        });
        let bytes = match read.await {
            Ok(result) => result,
            Err(_) => Err(io::Error::other("the reading thread ended")),
        };
        let bytes = bytes.map_err(SourceError::io("read", &path))?;
        let at = at + bytes.len() as u64;
        Ok(Some((Bytes::from(bytes), (file, path, at))))
    })
    .boxed()
}

/// A layout keeps no list of referrers (beside the registry's fallback tag, which copies may carry):
/// every manifest it lists is looked at.
pub(super) async fn referrers_in(
    source: &dyn Source,
    index: &Index,
    subject: &Digest,
    artifact_type: Option<&str>,
) -> Result<Vec<Descriptor>, SourceError> {
    let mut found = Vec::new();
    for entry in &index.manifests {
        let (_, Document::Manifest(manifest)) = document(source, &entry.digest).await? else {
            continue;
        };
        let about = manifest.subject.as_ref().is_some_and(|s| s.digest == *subject);
        if about && artifact_type.is_none_or(|wanted| manifest.kind() == wanted) {
            let mut entry = entry.clone();
            entry.artifact_type = Some(manifest.kind().to_owned());
            found.push(entry);
        }
    }
    Ok(found)
}

/// Packs a layout directory into one file, durably. The same layout gives the same bytes: entries
/// sorted, no owners, no times.
///
/// # Errors
/// If the layout can't be read or the file can't be written.
pub fn write_archive(layout: &Path, target: &Path) -> Result<(), SourceError> {
    let directory = target
        .parent()
        .filter(|d| !d.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let temporary =
        tempfile::NamedTempFile::new_in(directory).map_err(SourceError::io("create a file in", directory))?;
    let mut names = vec![PathBuf::from("oci-layout"), PathBuf::from("index.json")];
    let blobs = layout.join("blobs/sha256");
    let listing = std::fs::read_dir(&blobs).map_err(SourceError::io("list", &blobs))?;
    let mut digests = Vec::new();
    for entry in listing {
        let entry = entry.map_err(SourceError::io("list", &blobs))?;
        digests.extend(
            entry
                .file_name()
                .to_str()
                .and_then(|name| Digest::from_hex(name).ok()),
        );
    }
    digests.sort();
    names.extend(digests.iter().map(blob_path));
    let mut builder = tar::Builder::new(io::BufWriter::with_capacity(CHUNK, temporary.as_file()));
    for name in names {
        let path = layout.join(&name);
        append(&mut builder, &path, &name).map_err(SourceError::io("pack", &path))?;
    }
    let written = builder
        .into_inner()
        .and_then(|writer| writer.into_inner().map_err(|e| e.into_error()));
    written
        .and_then(File::sync_all)
        .map_err(SourceError::io("write", target))?;
    temporary
        .persist(target)
        .map_err(|error| SourceError::io("rename to", target)(error.error))?;
    let parent = File::open(directory).map_err(SourceError::io("open", directory))?;
    parent.sync_all().map_err(SourceError::io("sync", directory))
}

fn append<W: io::Write>(builder: &mut tar::Builder<W>, path: &Path, name: &Path) -> io::Result<()> {
    let mut file = File::open(path)?;
    let mut header = tar::Header::new_ustar();
    header.set_size(file.seek(io::SeekFrom::End(0))?);
    file.rewind()?;
    header.set_mode(0o644);
    header.set_entry_type(tar::EntryType::Regular);
    let mut exact = file.by_ref().take(header.size()?);
    builder.append_data(&mut header, name, &mut exact)
}

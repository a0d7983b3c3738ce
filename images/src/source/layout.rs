//! An OCI image layout directory (image-spec `image-layout.md`) as source and sink.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::StreamExt;

use super::archive::{file_range, referrers_in};
use super::{ByteStream, Sink, Source, SourceError, blob_path, check_digest, index};
use crate::digest::{Digest, Hasher};
use crate::durable;
use crate::manifest::{Descriptor, Document, Index, MAX_DOCUMENT};
use crate::reference::Selector;

const MARKER: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// A layout directory.
pub struct Layout {
    root: PathBuf,
    /// Held while `index.json` is read, changed and written.
    writing: Mutex<()>,
}

impl Layout {
    /// Opens an existing layout.
    ///
    /// # Errors
    /// If it has no `oci-layout` of a version this crate reads.
    pub fn open(root: &Path) -> Result<Self, SourceError> {
        let marker = root.join("oci-layout");
        let text = read_bounded(&marker)?;
        check_marker(&text, &root.display().to_string())?;
        Ok(Layout {
            root: root.to_owned(),
            writing: Mutex::new(()),
        })
    }

    /// Opens a layout, creating an empty one where there is none.
    ///
    /// # Errors
    /// If the directory can't be written, or holds a layout of another version.
    pub fn create(root: &Path) -> Result<Self, SourceError> {
        let blobs = root.join("blobs/sha256");
        fs::create_dir_all(&blobs).map_err(SourceError::io("create", &blobs))?;
        let marker = root.join("oci-layout");
        if !marker.exists() {
            durable::write_file(&marker, MARKER, 0o644)?;
        }
        let layout = Layout::open(root)?;
        if !root.join("index.json").exists() {
            layout.write_index(&Index::new(Vec::new()))?;
        }
        Ok(layout)
    }

    /// The entries of `index.json`.
    ///
    /// # Errors
    /// If it can't be read or is no index.
    pub fn index(&self) -> Result<Index, SourceError> {
        parse_index(&read_bounded(&self.root.join("index.json"))?, &self.name_of())
    }

    fn write_index(&self, index: &Index) -> Result<(), SourceError> {
        let bytes = serde_json::to_vec(index).expect("an index is JSON");
        durable::write_file(&self.root.join("index.json"), &bytes, 0o644)?;
        Ok(())
    }

    fn name_of(&self) -> String {
        format!("oci:{}", self.root.display())
    }

    fn open_blob(&self, digest: &Digest) -> Result<(PathBuf, File, u64), SourceError> {
        let path = self.root.join(blob_path(digest));
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(SourceError::NotFound {
                    place: self.name_of(),
                    what: format!("blob {digest}"),
                });
            }
            Err(error) => return Err(SourceError::io("open", &path)(error)),
        };
        let length = file.metadata().map_err(SourceError::io("inspect", &path))?.len();
        Ok((path, file, length))
    }
}

/// Checks the content of `oci-layout`.
pub(super) fn check_marker(bytes: &[u8], place: &str) -> Result<(), SourceError> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Marker {
        image_layout_version: String,
    }
    let bad = |reason: String| SourceError::NoLayout {
        place: place.to_owned(),
        reason,
    };
    let marker: Marker =
        serde_json::from_slice(bytes).map_err(|error| bad(format!("oci-layout: {error}")))?;
    if marker.image_layout_version.starts_with("1.") {
        return Ok(());
    }
    Err(bad(format!(
        "version {} is not known",
        marker.image_layout_version
    )))
}

pub(super) fn parse_index(bytes: &[u8], place: &str) -> Result<Index, SourceError> {
    match Document::parse(bytes) {
        Ok(Document::Index(index)) => Ok(index),
        Ok(Document::Manifest(_)) => Err(SourceError::NoLayout {
            place: place.to_owned(),
            reason: "index.json is a manifest".to_owned(),
        }),
        Err(source) => Err(SourceError::NoLayout {
            place: place.to_owned(),
            reason: format!("index.json: {source}"),
        }),
    }
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, SourceError> {
    let file = File::open(path).map_err(SourceError::io("open", path))?;
    let mut bytes = Vec::new();
    file.take(MAX_DOCUMENT + 1)
        .read_to_end(&mut bytes)
        .map_err(SourceError::io("read", path))?;
    if bytes.len() as u64 > MAX_DOCUMENT {
        return Err(SourceError::TooLarge {
            place: path.display().to_string(),
            what: "document".to_owned(),
            limit: MAX_DOCUMENT,
        });
    }
    Ok(bytes)
}

#[async_trait]
impl Source for Layout {
    fn name(&self) -> String {
        self.name_of()
    }

    async fn resolve(&self, selector: &Selector) -> Result<Digest, SourceError> {
        match selector {
            Selector::Digest(digest) => Ok(*digest),
            Selector::Name(_) | Selector::Only => {
                Ok(index::find(&self.index()?, selector, &self.name_of())?.digest)
            }
        }
    }

    async fn manifest(&self, digest: &Digest) -> Result<Bytes, SourceError> {
        let (path, _, _) = self.open_blob(digest)?;
        let bytes = read_bounded(&path)?;
        check_digest(&self.name_of(), "manifest", digest, &Digest::of(&bytes))?;
        Ok(Bytes::from(bytes))
    }

    async fn blob(&self, blob: &Descriptor, offset: u64) -> Result<ByteStream, SourceError> {
        let (path, file, length) = self.open_blob(&blob.digest)?;
        if length != blob.size {
            return Err(SourceError::Size {
                place: self.name_of(),
                blob: blob.digest,
                got: length,
                size: blob.size,
            });
        }
        Ok(file_range(Arc::new(file), path, offset, blob.size))
    }

    async fn referrers(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>, SourceError> {
        referrers_in(self, &self.index()?, subject, artifact_type).await
    }
}

#[async_trait]
impl Sink for Layout {
    fn name(&self) -> String {
        self.name_of()
    }

    async fn has_blob(&self, blob: &Descriptor) -> Result<bool, SourceError> {
        match self.open_blob(&blob.digest) {
            Ok((_, _, length)) => Ok(length == blob.size),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn put_blob(&self, blob: &Descriptor, from: Arc<dyn Source>) -> Result<(), SourceError> {
        let target = self.root.join(blob_path(&blob.digest));
        let directory = self.root.join("blobs/sha256");
        let mut temporary = tempfile::NamedTempFile::new_in(&directory)
            .map_err(SourceError::io("create a file in", &directory))?;
        let mut hasher = Hasher::new();
        let mut stream = from.blob(blob, 0).await?;
        while let Some(chunk) = stream.next().await {
            let chunk = chunk?;
            hasher.update(&chunk);
            temporary
                .write_all(&chunk)
                .map_err(SourceError::io("write", &target))?;
        }
        check_digest(&from.name(), "blob", &blob.digest, &hasher.finish())?;
        temporary
            .as_file()
            .sync_data()
            .map_err(SourceError::io("sync", &target))?;
        publish(temporary, &target)
    }

    async fn put_manifest(&self, bytes: &[u8], name: Option<&str>) -> Result<Digest, SourceError> {
        let digest = Digest::of(bytes);
        let document = Document::parse(bytes).map_err(|source| SourceError::Document {
            place: self.name_of(),
            digest,
            source,
        })?;
        durable::write_file(&self.root.join(blob_path(&digest)), bytes, 0o644)?;
        let mut entry = Descriptor::of(document.media_type(), bytes);
        if let Document::Manifest(manifest) = &document {
            entry.artifact_type.clone_from(&manifest.artifact_type);
        }
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut index = self.index()?;
        index::put(&mut index, entry, name);
        self.write_index(&index)?;
        Ok(digest)
    }
}

fn publish(temporary: tempfile::NamedTempFile, target: &Path) -> Result<(), SourceError> {
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::Permissions::from_mode(0o644);
    temporary
        .as_file()
        .set_permissions(mode)
        .map_err(SourceError::io("set the mode of", target))?;
    temporary
        .persist(target)
        .map_err(|error| SourceError::io("rename to", target)(error.error))?;
    Ok(())
}

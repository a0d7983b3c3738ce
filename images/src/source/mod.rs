//! Places content comes from and goes to: a registry, an OCI layout directory, an archive, memory.
//! All give the same raw material; what is done with it (digests, platform, import) does not
//! depend on the place.
//!
//! ```text
//! registry.rs   a repository of a registry, read and written
//! layout.rs     an OCI image layout directory, read and written
//! archive.rs    the same in one tar file (a bundle), read in place
//! memory.rs     blobs in memory: how an artifact is put together
//! index.rs      which entry of an index.json is meant (pure)
//! copy.rs       everything that belongs to an image, from one place to another
//! ```

mod archive;
mod copy;
mod error;
mod index;
mod layout;
mod memory;
mod registry;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::stream::{BoxStream, StreamExt};

pub use archive::{Archive, write_archive};
pub use copy::{CopyReport, copy_image};
pub use error::SourceError;
pub use layout::Layout;
pub use memory::Memory;
pub use registry::RegistrySource;

use crate::digest::{Digest, Hasher};
use crate::manifest::{Descriptor, Document, Index, MAX_DOCUMENT, Platform};
use crate::reference::{Reference, Selector};
use crate::registry::{Client, RegistryConfig};

/// Bytes as they come. The first error ends the stream.
pub type ByteStream = BoxStream<'static, Result<Bytes, SourceError>>;

/// A place that content is read from. One value is one repository, layout or archive.
#[async_trait]
pub trait Source: Send + Sync {
    /// What an operator calls it; for messages.
    fn name(&self) -> String;

    /// The digest of the manifest or index that is meant.
    async fn resolve(&self, selector: &Selector) -> Result<Digest, SourceError>;

    /// The bytes of a manifest or index; they have that digest.
    async fn manifest(&self, digest: &Digest) -> Result<Bytes, SourceError>;

    /// A blob's bytes from `offset` on: at most `size - offset` of them, and an error if they end
    /// earlier. Their digest is for the reader to check, who sees all of them.
    async fn blob(&self, blob: &Descriptor, offset: u64) -> Result<ByteStream, SourceError>;

    /// The manifests that say something about `subject`; with `artifact_type`, those of one kind.
    async fn referrers(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>, SourceError>;

    /// The host and repository this is, where it is one: what trust policy goes by. Files have no
    /// name of their own that could be trusted.
    fn repository(&self) -> Option<String> {
        None
    }
}

/// A place that content is written to.
#[async_trait]
pub trait Sink: Send + Sync {
    /// What an operator calls it; for messages.
    fn name(&self) -> String;

    /// Whether the blob is there already.
    async fn has_blob(&self, blob: &Descriptor) -> Result<bool, SourceError>;

    /// Stores a blob, read from `from`. Its digest is checked before it gets its name.
    async fn put_blob(&self, blob: &Descriptor, from: Arc<dyn Source>) -> Result<(), SourceError>;

    /// Stores a manifest or index, and gives it a name (tag) if there is one.
    async fn put_manifest(&self, bytes: &[u8], name: Option<&str>) -> Result<Digest, SourceError>;
}

/// Whether `error` says that the thing is not there, as opposed to not reachable.
pub fn optional<T>(result: Result<T, SourceError>) -> Result<Option<T>, SourceError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads a small blob whole and checks it.
pub async fn read_blob(source: &dyn Source, blob: &Descriptor) -> Result<Bytes, SourceError> {
    if blob.size > MAX_DOCUMENT {
        return Err(SourceError::TooLarge {
            place: source.name(),
            what: format!("blob {}", blob.digest),
            limit: MAX_DOCUMENT,
        });
    }
    let mut stream = source.blob(blob, 0).await?;
    let mut hasher = Hasher::new();
    let mut bytes = BytesMut::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk?;
        hasher.update(&chunk);
        bytes.extend_from_slice(&chunk);
    }
    check_digest(&source.name(), "blob", &blob.digest, &hasher.finish())?;
    Ok(bytes.freeze())
}

/// Reads a manifest or index and parses it.
pub async fn document(source: &dyn Source, digest: &Digest) -> Result<(Bytes, Document), SourceError> {
    let bytes = source.manifest(digest).await?;
    let document = Document::parse(&bytes).map_err(|problem| SourceError::Document {
        place: source.name(),
        digest: *digest,
        source: problem,
    })?;
    Ok((bytes, document))
}

/// From whatever `digest` names to the manifest for `platform`: itself, or the entry of an index
/// (one level deep, as registries have them).
pub async fn for_platform(
    source: &dyn Source,
    digest: &Digest,
    platform: &Platform,
) -> Result<(Digest, Bytes, crate::manifest::Manifest), SourceError> {
    let (bytes, first) = document(source, digest).await?;
    let index: Index = match first {
        Document::Manifest(manifest) => return Ok((*digest, bytes, *manifest)),
        Document::Index(index) => index,
    };
    let entry = index.select(platform).ok_or_else(|| SourceError::Platform {
        place: source.name(),
        digest: *digest,
        wanted: platform.to_string(),
        offered: offered(&index),
    })?;
    match document(source, &entry.digest).await? {
        (bytes, Document::Manifest(manifest)) => Ok((entry.digest, bytes, *manifest)),
        (_, Document::Index(_)) => Err(SourceError::NestedIndex {
            place: source.name(),
            digest: entry.digest,
        }),
    }
}

fn offered(index: &Index) -> String {
    let platforms = index.manifests.iter().filter_map(|entry| entry.platform.as_ref());
    let shown: Vec<String> = platforms.map(Platform::to_string).collect();
    if shown.is_empty() {
        "none that is named".to_owned()
    } else {
        shown.join(", ")
    }
}

/// Compares a computed digest.
pub(crate) fn check_digest(
    place: &str,
    what: &str,
    expected: &Digest,
    actual: &Digest,
) -> Result<(), SourceError> {
    if expected == actual {
        return Ok(());
    }
    Err(SourceError::Digest {
        place: place.to_owned(),
        what: what.to_owned(),
        expected: *expected,
        actual: *actual,
    })
}

/// Opens sources by reference, each once.
pub struct Sources {
    client: Client,
    bundle: Option<Arc<dyn Source>>,
    open: Mutex<HashMap<String, Arc<dyn Source>>>,
}

impl Sources {
    /// Sources over this configuration.
    ///
    /// # Errors
    /// If the HTTP client can't be set up.
    pub fn new(config: RegistryConfig) -> Result<Self, SourceError> {
        Ok(Sources::over(Client::new(config)?))
    }

    /// Sources over a client.
    pub fn over(client: Client) -> Self {
        Sources {
            client,
            bundle: None,
            open: Mutex::new(HashMap::new()),
        }
    }

    /// The same, with everything taken out of `bundle`: for a node without a registry. References
    /// to registries are then only names.
    #[must_use]
    pub fn all_from(mut self, bundle: Arc<dyn Source>) -> Self {
        self.bundle = Some(bundle);
        self
    }

    /// The client for registries.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The source a reference leads to.
    ///
    /// # Errors
    /// If a file is missing or no layout. Registries are not asked yet.
    pub fn open(&self, reference: &Reference) -> Result<Arc<dyn Source>, SourceError> {
        if let (Some(bundle), Reference::Registry(_)) = (&self.bundle, reference) {
            return Ok(Arc::clone(bundle));
        }
        let key = match reference {
            Reference::Registry(name) => crate::reference::repository(name),
            Reference::Layout { path, .. } => format!("oci:{}", path.display()),
            Reference::Archive { path, .. } => format!("oci-archive:{}", path.display()),
        };
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(source) = open.get(&key) {
            return Ok(Arc::clone(source));
        }
        let source: Arc<dyn Source> = match reference {
            Reference::Registry(_) => Arc::new(self.repository(reference)?),
            Reference::Layout { path, .. } => Arc::new(Layout::open(path)?),
            Reference::Archive { path, .. } if path.is_dir() => Arc::new(Layout::open(path)?),
            Reference::Archive { path, .. } => Arc::new(Archive::open(path)?),
        };
        open.insert(key, Arc::clone(&source));
        Ok(source)
    }

    /// A place to write to.
    ///
    /// # Errors
    /// For an archive, which is written as a whole by [`write_archive`], and for a layout that can't
    /// be created.
    pub fn sink(&self, reference: &Reference) -> Result<Arc<dyn Sink>, SourceError> {
        match reference {
            Reference::Registry(_) => Ok(Arc::new(self.repository(reference)?)),
            Reference::Layout { path, .. } => Ok(Arc::new(Layout::create(path)?)),
            Reference::Archive { path, .. } => Err(SourceError::ReadOnly {
                place: path.display().to_string(),
            }),
        }
    }

    fn repository(&self, reference: &Reference) -> Result<RegistrySource, SourceError> {
        match reference {
            Reference::Registry(name) => {
                let repository = self.client.repository(name.registry(), name.repository())?;
                Ok(RegistrySource::new(repository))
            }
            Reference::Layout { path, .. } | Reference::Archive { path, .. } => {
                Err(SourceError::NoRegistry { path: path.clone() })
            }
        }
    }
}

/// The path of a blob inside a layout.
fn blob_path(digest: &Digest) -> PathBuf {
    PathBuf::from("blobs/sha256").join(digest.hex())
}

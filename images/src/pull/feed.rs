//! One layer from its source into a channel: what an earlier try left on disk first, the rest from
//! the source; hashed and kept for the next try on the way. The reader at the other end learns that
//! the layer is complete only after its digest is known to be right.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::decode::Chunk;
use super::error::PullError;
use crate::digest::{Digest, Hasher};
use crate::manifest::Descriptor;
use crate::progress::{Event, Progress};
use crate::source::{Source, SourceError, check_digest};
use crate::store::LayerRef;

/// Bytes between two progress events.
const STEP: u64 = 1 << 20;
const FILE_CHUNK: usize = 256 << 10;

/// What is fed, and how.
pub(super) struct Feed<'a> {
    pub source: &'a dyn Source,
    pub layer: &'a LayerRef,
    pub image: &'a str,
    pub progress: &'a dyn Progress,
    pub cancel: &'a CancellationToken,
}

/// What a feed did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fed {
    /// Bytes that came from the source.
    pub fetched: u64,
    /// Bytes that were there from an earlier try.
    pub resumed: u64,
}

impl Feed<'_> {
    /// Sends the layer's bytes. If the reader goes away, the rest is still hashed, so that damaged
    /// bytes are reported as such and not as whatever the reader stumbled over.
    pub async fn run(&self, partial: &mut Partial, chunks: mpsc::Sender<Chunk>) -> Result<Fed, PullError> {
        let result = self.bytes(partial, &chunks).await;
        let last = match &result {
            Ok(_) => Chunk::End,
            Err(error) => Chunk::Failed(io::Error::other(error.to_string())),
        };
        // The reader may have left; then nobody needs to be told.
        let _ = chunks.send(last).await;
        result
    }

    async fn bytes(&self, partial: &mut Partial, chunks: &mpsc::Sender<Chunk>) -> Result<Fed, PullError> {
        let mut hasher = Hasher::new();
        let resumed = self.replay(partial, &mut hasher, chunks).await?;
        let (blob, size) = (self.layer.blob, self.layer.size);
        self.progress.event(Event::LayerStarted { blob, size, resumed });
        let descriptor = Descriptor {
            digest: blob,
            size,
            ..Descriptor::of(&self.layer.media_type, b"")
        };
        let (mut at, mut told) = (resumed, resumed);
        if at < size {
            let opened = self.or_cancelled(self.source.blob(&descriptor, at)).await?;
            let mut stream = opened.map_err(|e| self.failed(e))?;
            while let Some(chunk) = self.or_cancelled(stream.next()).await? {
                let chunk = chunk.map_err(|e| self.failed(e))?;
                hasher.update(&chunk);
                partial.append(&chunk);
                at += chunk.len() as u64;
                let _ = chunks.send(Chunk::Bytes(chunk)).await;
                if at - told >= STEP {
                    told = at;
                    self.progress.event(Event::LayerProgress { blob, bytes: at });
                }
            }
        }
        self.check(at, &hasher.finish())?;
        Ok(Fed {
            fetched: at - resumed,
            resumed,
        })
    }

    async fn replay(
        &self,
        partial: &mut Partial,
        hasher: &mut Hasher,
        chunks: &mpsc::Sender<Chunk>,
    ) -> Result<u64, PullError> {
        let mut at = 0;
        while let Some(chunk) = partial.next(self.layer.size - at)? {
            hasher.update(&chunk);
            at += chunk.len() as u64;
            self.or_cancelled(chunks.send(Chunk::Bytes(chunk))).await?.ok();
        }
        Ok(at)
    }

    fn check(&self, got: u64, actual: &Digest) -> Result<(), PullError> {
        if got != self.layer.size {
            return Err(self.failed(SourceError::Size {
                place: self.source.name(),
                blob: self.layer.blob,
                got,
                size: self.layer.size,
            }));
        }
        check_digest(&self.source.name(), "layer", &self.layer.blob, actual).map_err(|e| self.failed(e))
    }

    fn failed(&self, source: SourceError) -> PullError {
        PullError::Source {
            image: self.image.to_owned(),
            source: Box::new(source),
        }
    }

    async fn or_cancelled<T>(&self, future: impl Future<Output = T>) -> Result<T, PullError> {
        tokio::select! {
            () = self.cancel.cancelled() => Err(PullError::Cancelled),
            value = future => Ok(value),
        }
    }
}

/// The bytes of a blob that are on disk from an earlier try, and more as they come. Not trusted:
/// they are hashed like those from the network. Nor needed: if they can't be kept, the next try
/// starts anew.
pub(super) struct Partial {
    path: PathBuf,
    file: Option<File>,
}

impl Partial {
    /// Opens or creates the file; one longer than the blob is thrown away.
    pub fn open(path: &Path, size: u64) -> Result<Self, PullError> {
        let failed = |action| {
            let path = path.to_owned();
            move |source| PullError::Partial { action, path, source }
        };
        let file = OpenOptions::new().read(true).append(true).create(true).open(path);
        let file = file.map_err(failed("open"))?;
        if file.metadata().map_err(failed("inspect"))?.len() > size {
            file.set_len(0).map_err(failed("truncate"))?;
        }
        Ok(Partial {
            path: path.to_owned(),
            file: Some(file),
        })
    }

    /// A file that is only to be thrown away.
    pub fn at(path: &Path) -> Self {
        Partial {
            path: path.to_owned(),
            file: None,
        }
    }

    /// Whether an earlier try left anything.
    pub fn has_bytes(&self) -> bool {
        let metadata = self.file.as_ref().and_then(|file| file.metadata().ok());
        metadata.is_some_and(|metadata| metadata.len() > 0)
    }

    /// Keeps nothing.
    pub fn none() -> Self {
        Partial {
            path: PathBuf::new(),
            file: None,
        }
    }

    /// The next bytes that are there, at most `rest`.
    fn next(&mut self, rest: u64) -> Result<Option<Bytes>, PullError> {
        let Some(file) = &mut self.file else {
            return Ok(None);
        };
        let mut bytes = vec![0; FILE_CHUNK.min(usize::try_from(rest).unwrap_or(FILE_CHUNK))];
        let count = file.read(&mut bytes).map_err(|source| PullError::Partial {
            action: "read",
            path: self.path.clone(),
            source,
        })?;
        bytes.truncate(count);
        Ok((count > 0).then(|| Bytes::from(bytes)))
    }

    fn append(&mut self, bytes: &[u8]) {
        let Some(file) = &mut self.file else { return };
        if let Err(error) = file.write_all(bytes) {
            tracing::warn!(path = %self.path.display(), %error, "an interrupted download will not be resumed");
            self.discard();
        }
    }

    /// Throws the bytes away, since they are wrong or no longer needed.
    pub fn discard(&mut self) {
        self.file = None;
        if let Err(error) = std::fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove a partial download");
        }
    }
}

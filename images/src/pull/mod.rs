//! Pulls images into the store: network → sha256 → inflate → sha256 → tar → objects, all at the same
//! time and with bounded buffers in between, several layers in parallel, each shared layer once.
//!
//! ```text
//! plan.rs     what is to be fetched
//! feed.rs     one layer from its source, resumable, hashed on the way
//! decode.rs   gzip, zstd or plain
//! ```

mod decode;
mod error;
mod feed;
mod plan;

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use decode::{ChunkReader, Compression};
use feed::{Fed, Feed, Partial};

pub use error::PullError;
pub use plan::{PlannedImage, PlannedLayer, PullPlan, plan};

use crate::digest::Digest;
use crate::error::ImportError;
use crate::layer::Policy;
use crate::manifest::Platform;
use crate::progress::{Event, Progress};
use crate::reference::Reference;
use crate::source::{Source, SourceError, Sources};
use crate::store::{CommitReport, Ingest, LayerRef, Locked, NewImage, Store, Verification};

/// Chunks between network and decompression. A chunk is at most a few hundred KiB.
const CHANNEL: usize = 8;

/// An image that is wanted.
#[derive(Debug, Clone)]
pub struct ImageRequest {
    /// Where it is.
    pub reference: Reference,
    /// Its manifest or index. What the reference says about tag or digest does not count.
    pub digest: Digest,
    /// Why this digest is trusted; goes into the image's record.
    pub verification: Verification,
}

/// How a pull is done.
#[derive(Clone)]
pub struct PullOptions {
    /// What images have to run on.
    pub platform: Platform,
    /// What layers may contain.
    pub policy: Policy,
    /// Layers at the same time.
    pub parallel: usize,
    /// The time for the records.
    pub now: Timestamp,
    /// Ends the pull early.
    pub cancel: CancellationToken,
    /// Hears what happens.
    pub progress: Arc<dyn Progress>,
}

/// What a pull did.
#[derive(Debug, Clone, Default)]
pub struct PullReport {
    /// The manifest for this machine of each request, in order: the key of its tree in the store.
    pub images: Vec<Digest>,
    /// Bytes that came from sources.
    pub bytes_fetched: u64,
    /// Bytes that earlier tries had left.
    pub bytes_resumed: u64,
    /// Bytes of layers that the store had already.
    pub bytes_reused: u64,
    /// Layers that were imported.
    pub layers: u64,
    /// What was committed; none if there was nothing to do.
    pub commit: Option<CommitReport>,
}

/// Pulls all images or none. Nothing in the store has its final name before everything is there,
/// checked and durable. An interrupted pull leaves partial downloads that the next one takes up; one that
/// filled the disk leaves nothing.
///
/// # Errors
/// [`PullError`]; the store is unchanged then.
pub async fn pull(
    store: &Store,
    lock: &Locked,
    txn: &str,
    sources: &Sources,
    images: &[ImageRequest],
    options: &PullOptions,
) -> Result<PullReport, PullError> {
    let planning = plan(store, sources, images, &options.platform);
    let plan = tokio::select! {
        () = options.cancel.cancelled() => return Err(PullError::Cancelled),
        plan = planning => plan?,
    };
    let missing = plan.images.iter().filter(|image| !image.present).count() as u64;
    options.progress.event(Event::Planned {
        images: missing,
        layers: plan.layers.len() as u64,
        bytes: plan.bytes_to_fetch,
    });
    let mut report = PullReport {
        images: plan.images.iter().map(|image| image.manifest).collect(),
        bytes_reused: plan.bytes_present,
        layers: plan.layers.len() as u64,
        ..PullReport::default()
    };
    if missing == 0 {
        return Ok(report);
    }
    let ingest = Arc::new(store.begin(lock, txn)?);
    let blobs = plan.layers.iter().map(|planned| &planned.layer.blob);
    let downloads: Vec<PathBuf> = blobs.map(|blob| ingest.download_path(blob)).collect();
    let ended = fetch_and_finish(ingest, plan, &downloads, options, &mut report).await;
    if ended.as_ref().is_err_and(PullError::is_no_space) {
        discard(&downloads);
    }
    ended.map(|()| report)
}

async fn fetch_and_finish(
    ingest: Arc<Ingest>,
    plan: PullPlan,
    downloads: &[PathBuf],
    options: &PullOptions,
    report: &mut PullReport,
) -> Result<(), PullError> {
    for fed in fetch_layers(&ingest, plan.layers, options).await? {
        report.bytes_fetched += fed.fetched;
        report.bytes_resumed += fed.resumed;
    }
    let images = plan.images.into_iter().filter(|image| !image.present).collect();
    let (options, downloads) = (options.clone(), downloads.to_owned());
    let commit = tokio::task::spawn_blocking(move || finish(ingest, images, &downloads, &options));
    report.commit = Some(commit.await.map_err(|_| PullError::Worker)??);
    Ok(())
}

fn discard(downloads: &[PathBuf]) {
    for path in downloads {
        Partial::at(path).discard();
    }
}

/// All layers, at most `parallel` at a time. The first failure ends the others, and they are waited
/// for: nothing writes into the store after this returns.
async fn fetch_layers(
    ingest: &Arc<Ingest>,
    layers: Vec<PlannedLayer>,
    options: &PullOptions,
) -> Result<Vec<Fed>, PullError> {
    let slots = Arc::new(Semaphore::new(options.parallel.max(1)));
    let stop = options.cancel.child_token();
    let mut tasks = JoinSet::new();
    for planned in layers {
        let (slots, ingest, mut options) = (Arc::clone(&slots), Arc::clone(ingest), options.clone());
        options.cancel = stop.clone();
        tasks.spawn(async move {
            let slot = tokio::select! {
                () = options.cancel.cancelled() => return Err(PullError::Cancelled),
                slot = slots.acquire() => slot,
            };
            let result = fetch_layer(&ingest, &planned, &options).await;
            drop(slot);
            result
        });
    }
    let (mut done, mut failure) = (Vec::new(), None);
    while let Some(joined) = tasks.join_next().await {
        match joined.unwrap_or(Err(PullError::Worker)) {
            Ok(fed) => done.push(fed),
            Err(error) => {
                // What the others say after the stop is only an echo of the first failure.
                failure.get_or_insert(error);
                stop.cancel();
            }
        }
    }
    failure.map_or(Ok(done), Err)
}

/// One layer. If bytes that an earlier try left turn out wrong, once more without them.
async fn fetch_layer(
    ingest: &Arc<Ingest>,
    planned: &PlannedLayer,
    options: &PullOptions,
) -> Result<Fed, PullError> {
    loop {
        let path = ingest.download_path(&planned.layer.blob);
        let mut partial = Partial::open(&path, planned.layer.size)?;
        let resumed = partial.has_bytes();
        let result = attempt(ingest, planned, options, &mut partial).await;
        match result {
            Err(ref error) if is_refused_content(error) => {
                partial.discard();
                return result;
            }
            Err(ref error) if is_wrong_content(error) => {
                partial.discard();
                if !resumed {
                    return result;
                }
                tracing::warn!(blob = %planned.layer.blob, "an earlier partial download was damaged, fetching it again");
            }
            Ok(_) => {
                options.progress.event(Event::LayerDone {
                    blob: planned.layer.blob,
                });
                return result;
            }
            Err(_) => return result,
        }
    }
}

async fn attempt(
    ingest: &Arc<Ingest>,
    planned: &PlannedLayer,
    options: &PullOptions,
    partial: &mut Partial,
) -> Result<Fed, PullError> {
    let (sender, receiver) = mpsc::channel(CHANNEL);
    let (importer, mut policy) = (Arc::clone(ingest), options.policy);
    policy.limits = policy.limits.for_compressed(planned.layer.size);
    let (compression, diff_id) = (planned.compression, planned.layer.diff_id);
    let import = tokio::task::spawn_blocking(move || {
        let read = |source| ImportError::Read { diff_id, source };
        let tar = compression.reader(ChunkReader::new(receiver)).map_err(read)?;
        importer.layer(tar, &diff_id, &policy).map(drop)
    });
    // Stops the transfer of a layer that is refused for what it contains.
    let refused = options.cancel.child_token();
    let feed = Feed {
        source: planned.source.as_ref(),
        layer: &planned.layer,
        image: &planned.image,
        progress: options.progress.as_ref(),
        cancel: &refused,
    };
    let import = async {
        let imported = import.await;
        if let Ok(Err(error)) = &imported
            && !may_be_damage(error)
        {
            refused.cancel();
        }
        imported
    };
    let (fed, imported) = tokio::join!(feed.run(partial, sender), import);
    let imported = imported.map_err(|_| PullError::Worker)?;
    let failed = |source| PullError::Import {
        image: planned.image.clone(),
        blob: planned.layer.blob,
        source: Box::new(source),
    };
    match (fed, imported) {
        (Ok(fed), Ok(())) => Ok(fed),
        (Ok(_), Err(error)) => Err(failed(error)),
        (Err(PullError::Cancelled), Err(error)) if !options.cancel.is_cancelled() => Err(failed(error)),
        (Err(error), Ok(()) | Err(_)) => Err(error),
    }
}

/// Whether an import may have failed because the bytes are damaged: then their digest decides what
/// to report.
fn may_be_damage(error: &ImportError) -> bool {
    match error {
        ImportError::Read { .. } | ImportError::Digest { .. } | ImportError::Malformed { .. } => true,
        ImportError::Entry { .. } | ImportError::Limit { .. } | ImportError::Store(_) => false,
    }
}

/// Whether the bytes are what was asked for and not acceptable: the next pull gets the same ones.
fn is_refused_content(error: &PullError) -> bool {
    matches!(error, PullError::Import { source, .. } if !matches!(**source, ImportError::Store(_)))
}

/// Whether the bytes themselves were wrong, so that keeping them would be wrong too.
fn is_wrong_content(error: &PullError) -> bool {
    matches!(error, PullError::Source { source, .. } if matches!(**source, SourceError::Digest { .. }))
}

/// Builds the trees and makes everything durable.
fn finish(
    ingest: Arc<Ingest>,
    images: Vec<PlannedImage>,
    downloads: &[PathBuf],
    options: &PullOptions,
) -> Result<CommitReport, PullError> {
    for image in images {
        if options.cancel.is_cancelled() {
            return Err(PullError::Cancelled);
        }
        let manifest = image.manifest;
        ingest.image(NewImage {
            manifest,
            manifest_bytes: image.manifest_bytes.into(),
            config_bytes: image.config_bytes.into(),
            layers: image.layers,
            reference: describe(&image.request),
            verification: image.request.verification,
            pulled: options.now,
        })?;
        options.progress.event(Event::ImageDone { manifest });
    }
    options.progress.event(Event::Committing);
    // Before the barrier, which would otherwise write them to disk first.
    discard(downloads);
    let ingest = Arc::into_inner(ingest).ok_or(PullError::Worker)?;
    Ok(ingest.commit()?)
}

fn describe(request: &ImageRequest) -> String {
    request.reference.to_string()
}

/// One layer of an image that is in the store, uncompressed, for its repair. Reads block; the bytes
/// come through `runtime`. The reader fails at the end if they were not the layer's.
///
/// # Errors
/// If the layer's media type is not supported.
pub fn layer_reader(
    runtime: &tokio::runtime::Handle,
    source: Arc<dyn Source>,
    layer: &LayerRef,
) -> Result<Box<dyn Read + Send>, PullError> {
    let image = source.name();
    let compression: Compression = plan::compression(&image, layer)?;
    let (sender, receiver) = mpsc::channel(CHANNEL);
    let (layer, name) = (layer.clone(), image.clone());
    let (diff_id, blob) = (layer.diff_id, layer.blob);
    runtime.spawn(async move {
        let feed = Feed {
            source: source.as_ref(),
            layer: &layer,
            image: &image,
            progress: &crate::progress::Silent,
            cancel: &CancellationToken::new(),
        };
        let (reader, mut nothing) = (sender.clone(), Partial::none());
        tokio::select! {
            // The reader hears of a failure through the channel.
            _ = feed.run(&mut nothing, sender) => {}
            // It has had enough: nothing more is fetched.
            () = reader.closed() => {}
        }
    });
    let read = |source| ImportError::Read { diff_id, source };
    let reader = compression.reader(ChunkReader::new(receiver)).map_err(read);
    reader.map_err(|source| PullError::Import {
        image: name,
        blob,
        source: Box::new(source),
    })
}

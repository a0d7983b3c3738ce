//! What a pull will do. Reads manifests and configurations; writes nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::decode::Compression;
use super::error::PullError;
use super::{ImageRequest, describe};
use crate::digest::Digest;
use crate::manifest::{ConfigFacts, Manifest, Platform};
use crate::source::{Source, SourceError, Sources, for_platform, read_blob};
use crate::store::{LayerRef, Store};

/// Most layers of an image; container engines make 127 at most.
const MAX_LAYERS: usize = 512;

/// What a pull has to do.
pub struct PullPlan {
    /// The images, in the order asked for.
    pub images: Vec<PlannedImage>,
    /// The layers to fetch, each once, however many images share it.
    pub layers: Vec<PlannedLayer>,
    /// Compressed bytes of these layers. A partial download of an earlier try is not subtracted.
    pub bytes_to_fetch: u64,
    /// Compressed bytes of the layers that are in the store already.
    pub bytes_present: u64,
}

/// One image of a plan.
pub struct PlannedImage {
    /// What was asked for.
    pub request: ImageRequest,
    /// The digest of the manifest for this machine.
    pub manifest: Digest,
    /// Whether the store has the image.
    pub present: bool,
    /// Its layers, lowest first.
    pub layers: Vec<LayerRef>,
    pub(super) manifest_bytes: Bytes,
    pub(super) config_bytes: Bytes,
}

/// One layer of a plan.
pub struct PlannedLayer {
    /// The layer.
    pub layer: LayerRef,
    /// The first image that needs it.
    pub image: String,
    pub(super) source: Arc<dyn Source>,
    pub(super) compression: Compression,
}

/// Works out what a pull of `images` has to fetch.
///
/// # Errors
/// If a manifest or configuration can't be had or used; see [`PullError`].
pub async fn plan(
    store: &Store,
    sources: &Sources,
    images: &[ImageRequest],
    platform: &Platform,
) -> Result<PullPlan, PullError> {
    let mut plan = PullPlan {
        images: Vec::new(),
        layers: Vec::new(),
        bytes_to_fetch: 0,
        bytes_present: 0,
    };
    let mut seen = BTreeSet::new();
    for request in images {
        let image = request.reference.to_string();
        let failed = |source: SourceError| PullError::Source {
            image: image.clone(),
            source: Box::new(source),
        };
        let source = sources.open(&request.reference).map_err(failed)?;
        let planned = image_plan(store, source.as_ref(), request, platform).await?;
        for layer in &planned.layers {
            if !seen.insert(layer.diff_id) {
                continue;
            }
            if planned.present || store.has_layer(&layer.diff_id)? {
                plan.bytes_present += layer.size;
                continue;
            }
            plan.bytes_to_fetch += layer.size;
            plan.layers.push(PlannedLayer {
                layer: layer.clone(),
                image: image.clone(),
                source: Arc::clone(&source),
                compression: compression(&image, layer)?,
            });
        }
        plan.images.push(planned);
    }
    Ok(plan)
}

async fn image_plan(
    store: &Store,
    source: &dyn Source,
    request: &ImageRequest,
    platform: &Platform,
) -> Result<PlannedImage, PullError> {
    let failed = |source: SourceError| PullError::Source {
        image: describe(request),
        source: Box::new(source),
    };
    let (manifest, manifest_bytes, parsed) = for_platform(source, &request.digest, platform)
        .await
        .map_err(failed)?;
    let config_bytes = read_blob(source, &parsed.config).await.map_err(failed)?;
    let layers = layers(&parsed, &config_bytes, platform).map_err(|problem| PullError::Image {
        image: describe(request),
        problem,
    })?;
    let present = store.image(&manifest)?.is_some();
    Ok(PlannedImage {
        request: request.clone(),
        manifest,
        present,
        layers,
        manifest_bytes,
        config_bytes,
    })
}

/// Pairs the manifest's blobs with the configuration's diff_ids.
fn layers(manifest: &Manifest, config: &[u8], host: &Platform) -> Result<Vec<LayerRef>, String> {
    let config: ConfigFacts = serde_json::from_slice(config)
        .map_err(|error| format!("its configuration is not one of an image ({error})"))?;
    if config.os != host.os || config.architecture != host.architecture {
        return Err(format!(
            "it is for {}/{}, this is {host}",
            config.os, config.architecture
        ));
    }
    let (blobs, ids) = (manifest.layers.len(), config.rootfs.diff_ids.len());
    if blobs > MAX_LAYERS {
        return Err(format!("it has {blobs} layers, more than {MAX_LAYERS}"));
    }
    if blobs != ids {
        return Err(format!(
            "its manifest has {blobs} layers, its configuration {ids}"
        ));
    }
    let pairs = manifest.layers.iter().zip(config.rootfs.diff_ids);
    let layers = pairs.map(|(blob, diff_id)| LayerRef {
        blob: blob.digest,
        size: blob.size,
        media_type: blob.media_type.clone(),
        diff_id,
    });
    Ok(layers.collect())
}

pub(super) fn compression(image: &str, layer: &LayerRef) -> Result<Compression, PullError> {
    Compression::of(&layer.media_type).ok_or_else(|| PullError::LayerType {
        image: image.to_owned(),
        blob: layer.blob,
        media_type: layer.media_type.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{CONFIG, Descriptor, MANIFEST};

    fn manifest(layers: usize) -> Manifest {
        let layer = |n: usize| Descriptor::of("application/vnd.oci.image.layer.v1.tar", &[n as u8]);
        Manifest {
            schema_version: 2,
            media_type: Some(MANIFEST.to_owned()),
            artifact_type: None,
            config: Descriptor::of(CONFIG, b"{}"),
            layers: (0..layers).map(layer).collect(),
            subject: None,
            annotations: std::collections::BTreeMap::new(),
        }
    }

    fn config(os: &str, architecture: &str, layers: usize) -> String {
        let ids: Vec<Digest> = (0..layers).map(|n| Digest::of(&[n as u8, 1])).collect();
        serde_json::json!({
            "os": os, "architecture": architecture,
            "rootfs": {"type": "layers", "diff_ids": ids},
        })
        .to_string()
    }

    #[test]
    fn manifest_and_configuration_must_agree() {
        let host = Platform {
            architecture: "amd64".to_owned(),
            os: "linux".to_owned(),
            variant: None,
        };
        let table = [
            (2, config("linux", "amd64", 2), None),
            (
                513,
                config("linux", "amd64", 513),
                Some("it has 513 layers, more than 512"),
            ),
            (0, config("linux", "amd64", 0), None),
            (
                2,
                config("linux", "amd64", 3),
                Some("its manifest has 2 layers, its configuration 3"),
            ),
            (
                1,
                config("linux", "arm64", 1),
                Some("it is for linux/arm64, this is linux/amd64"),
            ),
            (1, config("windows", "amd64", 1), Some("it is for windows/amd64")),
            (
                1,
                "{}".to_owned(),
                Some("its configuration is not one of an image"),
            ),
            (
                1,
                config("linux", "amd64", 1).replace("sha256", "sha512"),
                Some("not one of an image"),
            ),
        ];
        for (count, config, expected) in table {
            match (layers(&manifest(count), config.as_bytes(), &host), expected) {
                (Ok(layers), None) => assert_eq!(layers.len(), count),
                (Err(problem), Some(expected)) => assert!(problem.contains(expected), "{problem}"),
                (result, _) => panic!("{config}: {result:?}"),
            }
        }
    }
}

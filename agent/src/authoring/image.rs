//! Pushing and inspecting images.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use node_images::artifact::{NewArtifact, NewLayer, push_artifact};
use node_images::digest::Digest;
use node_images::manifest::{Descriptor, Platform};
use node_images::reference::Reference;
use node_images::source::{Source, copy_image, for_platform, read_blob};
use oci_spec::image::ImageConfiguration;

use super::places::parse;
use super::{ImageInspected, LayerInfo, Places, Pushed, trouble};
use crate::error::{AgentError, Kind, Result};

/// Type of a bill of materials.
const SPDX: &str = "application/spdx+json";

/// Copies the image of a layout or archive to a registry, and attaches the bill of materials that the build put beside
/// the layout.
///
/// # Errors
///
/// When a place can't be read or written, or bytes are not what their digest says.
pub async fn push(places: &Places, from: &str, to: &str) -> Result<Pushed> {
    let (from, to) = (parse(from)?, parse(to)?);
    let failed = || trouble::place("can't push the image");
    let source = places.sources.open(&from).map_err(failed())?;
    let digest = source.resolve(&from.selector()).await.map_err(failed())?;
    let sink = places.sources.sink(&to).map_err(failed())?;
    let report = copy_image(&source, &digest, sink.as_ref(), Some(&tag_of(&to)))
        .await
        .map_err(failed())?;
    let sbom = match sbom_beside(&from)? {
        Some(bytes) => {
            let artifact = bill(&source, &digest, bytes).await.map_err(failed())?;
            Some(
                push_artifact(sink.as_ref(), &artifact, None)
                    .await
                    .map_err(failed())?
                    .digest,
            )
        }
        None => None,
    };
    Ok(Pushed {
        reference: to.to_string(),
        digest,
        blobs: report.blobs,
        bytes: report.bytes,
        present: report.present,
        sbom,
    })
}

async fn bill(
    source: &Arc<dyn Source>,
    image: &Digest,
    bytes: Vec<u8>,
) -> std::result::Result<NewArtifact, node_images::source::SourceError> {
    let manifest = source.manifest(image).await?;
    Ok(NewArtifact {
        artifact_type: SPDX.to_owned(),
        layers: vec![NewLayer::new(SPDX, Bytes::from(bytes))],
        subject: Some(Descriptor::of(node_images::manifest::MANIFEST, &manifest)),
        ..NewArtifact::default()
    })
}

/// The bill of materials that `image build` wrote beside a layout.
fn sbom_beside(from: &Reference) -> Result<Option<Vec<u8>>> {
    let (Reference::Layout { path, .. } | Reference::Archive { path, .. }) = from else {
        return Ok(None);
    };
    read_if_there(&node_images::build::sbom_path(path))
}

fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(AgentError::io("read", path, error)),
    }
}

/// The name that content gets where it is pushed to.
pub(super) fn tag_of(reference: &Reference) -> String {
    match reference {
        Reference::Registry(name) => name.tag().unwrap_or("latest").to_owned(),
        Reference::Layout { name, .. } | Reference::Archive { name, .. } => {
            name.clone().unwrap_or_else(|| "latest".to_owned())
        }
    }
}

/// Says what an image is, without fetching its layers.
///
/// # Errors
///
/// When the place can't be read or holds no image for this machine.
pub async fn inspect(places: &Places, reference: &str) -> Result<ImageInspected> {
    let reference = parse(reference)?;
    let failed = || trouble::place("can't inspect the image");
    let source = places.sources.open(&reference).map_err(failed())?;
    let top = source.resolve(&reference.selector()).await.map_err(failed())?;
    let host = Platform::host();
    let (digest, _, manifest) = for_platform(source.as_ref(), &top, &host)
        .await
        .map_err(failed())?;
    let bytes = read_blob(source.as_ref(), &manifest.config)
        .await
        .map_err(failed())?;
    let config: ImageConfiguration = serde_json::from_slice(&bytes).map_err(|error| {
        AgentError::new(Kind::Verification, "not the configuration of an image").because(error)
    })?;
    let referrers = source.referrers(&digest, None).await.map_err(failed())?;
    let labels = config
        .config()
        .as_ref()
        .and_then(|config| config.labels().clone())
        .unwrap_or_default();
    Ok(ImageInspected {
        reference: reference.to_string(),
        digest,
        platform: format!("{}/{}", config.os(), config.architecture()),
        created: config.created().clone(),
        size: manifest.layers.iter().map(|layer| layer.size).sum::<u64>() + manifest.config.size,
        layers: manifest.layers.iter().map(layer_info).collect(),
        labels: labels.into_iter().collect(),
        referrers: referrers.iter().map(kind_by_digest).collect::<BTreeMap<_, _>>(),
    })
}

fn layer_info(layer: &Descriptor) -> LayerInfo {
    LayerInfo {
        digest: layer.digest,
        size: layer.size,
        media_type: layer.media_type.clone(),
    }
}

fn kind_by_digest(entry: &Descriptor) -> (String, String) {
    let kind = entry.artifact_type.as_deref().unwrap_or(&entry.media_type);
    (entry.digest.to_string(), kind.to_owned())
}

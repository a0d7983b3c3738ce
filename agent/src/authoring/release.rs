//! Building, pushing, signing, verifying and inspecting releases.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use node_images::artifact::{Artifact, NewArtifact, NewLayer, RELEASE_TYPE, fetch_artifact, push_artifact};
use node_images::digest::Digest;
use node_images::manifest::Platform;
use node_images::reference::Reference;
use node_images::source::{Source, for_platform, read_blob};
use node_images::verify::{self, Authority, PrivateKey, Trust};
use oci_spec::image::ImageConfiguration;

use super::image::tag_of;
use super::places::parse;
use super::{Places, Pushed, ReleaseBuilt, ReleaseInspected, ReleaseVerified, Signed, trouble};
use crate::error::{AgentError, Kind, Result};
use crate::release::{ImageBinding, ImageSource, MEDIA_TYPE, ReleaseDefinition, ReleaseDocument};

/// Labels with this prefix say what the way back has to know about an image.
const LABEL_PREFIX: &str = "org.nodectl.";

/// A release to be built.
#[derive(Debug, Clone)]
pub struct ReleaseRequest {
    /// Release definition file.
    pub definition: PathBuf,
    /// OCI layout directory to write to.
    pub output: PathBuf,
    /// Version instead of the definition's.
    pub version: Option<String>,
    /// Where to take an image's digest from, by name, instead of what the definition says.
    pub images: BTreeMap<String, String>,
}

/// Binds every image of a release definition to its digest and writes the release into a layout.
///
/// # Errors
///
/// When the definition is wrong, an image can't be found, or the layout can't be written.
pub async fn build(places: &Places, request: &ReleaseRequest) -> Result<ReleaseBuilt> {
    let mut definition = ReleaseDefinition::load(&request.definition)?;
    if let Some(version) = &request.version {
        definition.version.clone_from(version);
    }
    if let Some(unknown) = request
        .images
        .keys()
        .find(|name| !definition.images.contains_key(*name))
    {
        return Err(AgentError::new(
            Kind::Usage,
            format!("the release has no image {unknown}"),
        ));
    }
    let base = request.definition.parent().unwrap_or(Path::new("."));
    let mut bindings = BTreeMap::new();
    for (name, source) in &definition.images {
        let reference = match request.images.get(name) {
            Some(text) => parse(text)?,
            None => declared(base, name, source)?,
        };
        bindings.insert(
            name.clone(),
            bind(places, name, &source.repository, &reference).await?,
        );
    }
    let document = definition.bind(base, bindings)?;
    let digest = write(&document, &request.output).await?;
    Ok(ReleaseBuilt {
        name: document.name.clone(),
        version: document.version.clone(),
        layout: request.output.clone(),
        digest,
        services: document.services.keys().cloned().collect(),
        images: document
            .images
            .iter()
            .map(|(name, image)| (name.clone(), image.digest))
            .collect(),
    })
}

/// Where the definition says that an image is.
fn declared(base: &Path, name: &str, source: &ImageSource) -> Result<Reference> {
    if let Some(layout) = &source.layout {
        return Ok(Reference::Layout {
            path: base.join(layout),
            name: source.tag.clone(),
        });
    }
    let missing = || {
        AgentError::config(format!("nothing says where to take image {name} from")).hint(format!(
            "give --image {name}=oci:DIRECTORY or --image {name}=HOST/NAME:TAG"
        ))
    };
    let tag = source.tag.as_ref().ok_or_else(missing)?;
    format!("{}:{tag}", source.repository)
        .parse()
        .map_err(|error| missing().because(error))
}

async fn bind(places: &Places, name: &str, repository: &str, from: &Reference) -> Result<ImageBinding> {
    let failed = || trouble::place(format!("can't find image {name}"));
    let source = places.sources.open(from).map_err(failed())?;
    let top = source.resolve(&from.selector()).await.map_err(failed())?;
    let (digest, bytes, manifest) = for_platform(source.as_ref(), &top, &Platform::host())
        .await
        .map_err(failed())?;
    let config = read_blob(source.as_ref(), &manifest.config)
        .await
        .map_err(failed())?;
    let config: ImageConfiguration = serde_json::from_slice(&config).map_err(|error| {
        AgentError::verification(format!("image {name} has no image configuration")).because(error)
    })?;
    let labels = config
        .config()
        .as_ref()
        .and_then(|config| config.labels().clone())
        .unwrap_or_default();
    Ok(ImageBinding {
        repository: repository.to_owned(),
        digest,
        size: bytes.len() as u64,
        labels: labels
            .into_iter()
            .filter(|(key, _)| key.starts_with(LABEL_PREFIX))
            .collect(),
    })
}

async fn write(document: &ReleaseDocument, output: &Path) -> Result<Digest> {
    let bytes = document
        .to_bytes()
        .map_err(|error| AgentError::other("can't write the release document").because(error))?;
    let artifact = NewArtifact {
        artifact_type: RELEASE_TYPE.to_owned(),
        layers: vec![NewLayer::new(MEDIA_TYPE, bytes)],
        ..NewArtifact::default()
    };
    let failed = || trouble::place(format!("can't write the release to {}", output.display()));
    let layout = node_images::source::Layout::create(output).map_err(failed())?;
    let name = format!("{}:{}", document.name, document.version);
    Ok(push_artifact(&layout, &artifact, Some(&name))
        .await
        .map_err(failed())?
        .digest)
}

/// Copies a release with its signatures to where nodes find it.
///
/// # Errors
///
/// When a place can't be read or written.
pub async fn push(places: &Places, from: &str, to: &str) -> Result<Pushed> {
    let (from, to) = (parse(from)?, parse(to)?);
    let failed = || trouble::place("can't push the release");
    let (source, artifact) = open(places, &from).await?;
    let sink = places.sources.sink(&to).map_err(failed())?;
    let report = verify::copy_signed(&source, &artifact.digest, sink.as_ref(), &tag_of(&to))
        .await
        .map_err(failed())?;
    Ok(Pushed {
        reference: to.to_string(),
        digest: artifact.digest,
        blobs: report.blobs,
        bytes: report.bytes,
        present: report.present,
        sbom: None,
    })
}

/// Signs a release where it is.
///
/// `identity` is the repository that the signature speaks of; it has to be given where the release is in a file.
///
/// # Errors
///
/// When the key can't be used, or the place can't be read or written.
pub async fn sign(places: &Places, reference: &str, key: &Path, identity: Option<&str>) -> Result<Signed> {
    let reference = parse(reference)?;
    let (source, artifact) = open(places, &reference).await?;
    let repository = identity
        .map(str::to_owned)
        .or_else(|| reference.repository())
        .ok_or_else(|| {
            AgentError::new(
                Kind::Usage,
                "a release in a file has no name that could be signed",
            )
            .hint("give the repository it will be pushed to: --as HOST/NAME")
        })?;
    let pem = std::fs::read(key).map_err(|error| AgentError::io("read", key, error))?;
    let bad_key = |error| AgentError::config(format!("can't sign with {}", key.display())).because(error);
    let key = PrivateKey::from_pem(&pem).map_err(bad_key)?;
    let failed = || trouble::place("can't store the signature");
    let sink = places.sources.sink(&reference).map_err(failed())?;
    verify::sign(
        source.as_ref(),
        sink.as_ref(),
        &repository,
        &artifact.digest,
        &key,
        jiff::Timestamp::now(),
    )
    .await
    .map_err(|error| AgentError::from_leaf(Kind::Unavailable, "can't sign the release", error))?;
    Ok(Signed {
        reference: reference.to_string(),
        digest: artifact.digest,
        repository,
        key: key.public().map_err(bad_key)?.fingerprint(),
    })
}

/// Checks a release against the trust policy of this machine.
///
/// # Errors
///
/// When the signatures do not hold, or the place can't be read.
pub async fn verify(places: &Places, trust: &Path, reference: &str) -> Result<ReleaseVerified> {
    let trust = Trust::load(trust).map_err(|error| AgentError::config("bad trust policy").because(error))?;
    let reference = parse(reference)?;
    let (source, artifact) = open(places, &reference).await?;
    let refused = |error| {
        AgentError::from_leaf(
            Kind::Verification,
            format!("{reference} is not trusted here"),
            error,
        )
        .hint("policy and keys are in the trust directory of the configuration")
    };
    let verified = verify::verify(&trust, source.as_ref(), artifact)
        .await
        .map_err(refused)?;
    let (signed_by, signed, unchecked) = match verified.authority().clone() {
        Authority::Signed { keys, time, .. } => (keys, time, None),
        Authority::Unchecked { rule } => (Vec::new(), None, Some(rule)),
    };
    let document = document_of(verified.get())?;
    Ok(ReleaseVerified {
        reference: reference.to_string(),
        digest: verified.get().digest,
        name: document.name,
        version: document.version,
        signed_by,
        signed,
        unchecked,
    })
}

/// Says what a release is, without asking who vouches for it.
///
/// # Errors
///
/// When the place can't be read or holds no release.
pub async fn inspect(places: &Places, reference: &str) -> Result<ReleaseInspected> {
    let reference = parse(reference)?;
    let (_, artifact) = open(places, &reference).await?;
    Ok(ReleaseInspected {
        reference: reference.to_string(),
        digest: artifact.digest,
        release: document_of(&artifact)?,
    })
}

/// The release that a reference leads to, and where it is.
pub(super) async fn open(places: &Places, reference: &Reference) -> Result<(Arc<dyn Source>, Artifact)> {
    let failed = || trouble::place(format!("can't read release {reference}"));
    let source = places.sources.open(reference).map_err(failed())?;
    let digest = source.resolve(&reference.selector()).await.map_err(failed())?;
    let artifact = fetch_artifact(source.as_ref(), &digest).await.map_err(failed())?;
    Ok((source, artifact))
}

/// The document of a release artifact.
pub(super) fn document_of(artifact: &Artifact) -> Result<ReleaseDocument> {
    let kind = artifact.manifest.kind();
    let bytes = artifact
        .layer(MEDIA_TYPE)
        .ok_or_else(|| AgentError::verification(format!("{} is no release but {kind}", artifact.digest)))?;
    ReleaseDocument::accept(bytes).map_err(|error| {
        AgentError::verification(format!("release {} can't be used", artifact.digest)).because(error)
    })
}

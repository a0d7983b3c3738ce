//! Classic signatures, as `cosign sign --key` stores them up to version 2 (cosign `specs/SIGNATURE_SPEC.md`): a
//! manifest under the tag `sha256-<hex>.sig` of the same repository; each layer is a payload
//! ("simple signing") and carries the signature over its bytes as an annotation.

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::claim::{Claim, Signature, TIMESTAMP, decode, noted_time, repository_of};
use super::key::{KeyError, PrivateKey};
use crate::artifact::{NewArtifact, NewLayer, push_artifact};
use crate::digest::Digest;
use crate::manifest::{CONFIG, Document};
use crate::reference::Selector;
use crate::source::{Sink, Source, SourceError, document, optional, read_blob};

/// Media type of a payload.
pub const SIGNATURE_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const PAYLOAD_TYPE: &str = "cosign container image signature";
/// Signatures looked at; more make verification slow without making it truer.
const MAX_SIGNATURES: usize = 32;
const MAX_PAYLOAD: u64 = 64 << 10;

/// What a signature is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    /// What the signer vouches for.
    pub critical: Critical,
    /// What else the signer noted, among it the time.
    #[serde(default)]
    pub optional: Option<serde_json::Map<String, serde_json::Value>>,
}

/// The part of a payload that counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Critical {
    /// Under which name.
    pub identity: Identity,
    /// Which content.
    pub image: Image,
    /// Always `cosign container image signature`.
    #[serde(rename = "type")]
    pub kind: String,
}

/// `critical.identity`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The repository, perhaps with a tag.
    #[serde(rename = "docker-reference")]
    pub docker_reference: String,
}

/// `critical.image`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// The manifest's digest.
    #[serde(rename = "docker-manifest-digest")]
    pub docker_manifest_digest: Digest,
}

impl Payload {
    /// Vouches for a manifest in a repository.
    pub fn new(repository: &str, digest: Digest) -> Self {
        Payload {
            critical: Critical {
                identity: Identity {
                    docker_reference: repository.to_owned(),
                },
                image: Image {
                    docker_manifest_digest: digest,
                },
                kind: PAYLOAD_TYPE.to_owned(),
            },
            optional: None,
        }
    }

    /// The same, with the time of signing.
    #[must_use]
    pub fn signed_at(mut self, time: Timestamp) -> Self {
        let creator = concat!("nodectl ", env!("CARGO_PKG_VERSION"));
        let noted = self.optional.get_or_insert_default();
        noted.insert("creator".to_owned(), creator.into());
        noted.insert(TIMESTAMP.to_owned(), time.as_second().into());
        self
    }

    /// Parses payload bytes. The error is the reason in words.
    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let payload: Payload =
            serde_json::from_slice(bytes).map_err(|error| format!("unreadable payload ({error})"))?;
        if payload.critical.kind != PAYLOAD_TYPE {
            return Err(format!("payload of type `{}`", payload.critical.kind));
        }
        Ok(payload)
    }

    fn claim(&self) -> Result<Claim, String> {
        Ok(Claim {
            digest: self.critical.image.docker_manifest_digest,
            repository: Some(repository_of(&self.critical.identity.docker_reference).to_owned()),
            time: noted_time(self.optional.as_ref())?,
        })
    }
}

/// A payload and what claims to be a signature over it, in base64.
pub(super) fn signature(payload: Bytes, signature: &str) -> Signature {
    Signature {
        signature: decode(signature),
        claim: Payload::parse(&payload).and_then(|payload| payload.claim()),
        message: payload,
    }
}

/// The tag the signatures of `digest` are stored under.
pub fn signature_tag(digest: &Digest) -> String {
    format!("sha256-{}.sig", digest.hex())
}

/// All signatures of a digest; none if there is no signature manifest.
pub(super) async fn signatures(source: &dyn Source, digest: &Digest) -> Result<Vec<Signature>, SourceError> {
    let tag = Selector::Name(signature_tag(digest));
    let Some(found) = optional(source.resolve(&tag).await)? else {
        return Ok(Vec::new());
    };
    let (_, document) = document(source, &found).await?;
    let Document::Manifest(manifest) = document else {
        return Ok(Vec::new());
    };
    let mut signatures = Vec::new();
    for layer in manifest
        .layers
        .iter()
        .filter(|l| l.media_type == SIGNATURE_TYPE)
        .take(MAX_SIGNATURES)
    {
        if layer.size > MAX_PAYLOAD {
            continue;
        }
        let Some(text) = layer.annotations.get(SIGNATURE) else {
            continue;
        };
        let payload = read_blob(source, layer).await?;
        signatures.push(signature(payload, text));
    }
    Ok(signatures)
}

/// Why something could not be signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The key failed.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The place failed.
    #[error(transparent)]
    Source(#[from] SourceError),
}

/// Signs a digest as `repository`, as of `time`, and stores the signature beside those that are there. An
/// earlier signature of the same key for the same repository and digest gives way.
///
/// # Errors
/// If the key does not work, or the place can't be read or written.
pub async fn sign(
    source: &dyn Source,
    sink: &dyn Sink,
    repository: &str,
    digest: &Digest,
    key: &PrivateKey,
    time: Timestamp,
) -> Result<(), SignError> {
    let tag = signature_tag(digest);
    let mut layers = present(source, &tag).await?;
    let payload = Payload::new(repository, *digest).signed_at(time);
    let bytes = serde_json::to_vec(&payload).expect("a payload is JSON");
    let mut layer = NewLayer::new(SIGNATURE_TYPE, bytes);
    let signature = openssl::base64::encode_block(&key.sign(&layer.bytes)?);
    layer.annotations.insert(SIGNATURE.to_owned(), signature);
    let public = key.public()?;
    layers.retain(|old| {
        let made = old.annotations.get(SIGNATURE).and_then(|text| decode(text));
        let same = Payload::parse(&old.bytes).is_ok_and(|old| old.critical == payload.critical);
        !same || !made.is_some_and(|made| public.verifies(&old.bytes, &made))
    });
    layers.push(layer);
    let diff_ids: Vec<Digest> = layers.iter().map(|layer| Digest::of(&layer.bytes)).collect();
    let never = "0001-01-01T00:00:00Z";
    let config = json!({
        "architecture": "", "created": never, "history": [{"created": never}], "os": "",
        "rootfs": {"type": "layers", "diff_ids": diff_ids}, "config": {},
    });
    let artifact = NewArtifact {
        config: Some((CONFIG.to_owned(), config.to_string().into())),
        layers,
        ..NewArtifact::default()
    };
    push_artifact(sink, &artifact, Some(&tag)).await?;
    Ok(())
}

async fn present(source: &dyn Source, tag: &str) -> Result<Vec<NewLayer>, SourceError> {
    let selector = Selector::Name(tag.to_owned());
    let Some(found) = optional(source.resolve(&selector).await)? else {
        return Ok(Vec::new());
    };
    let artifact = crate::artifact::fetch_artifact(source, &found).await?;
    let layers = artifact.layers.into_iter().map(|(descriptor, bytes)| NewLayer {
        media_type: descriptor.media_type,
        bytes,
        annotations: descriptor.annotations,
    });
    Ok(layers.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_payload_is_what_cosign_writes() {
        let digest = Digest::of(b"x");
        let text = serde_json::to_string(&Payload::new("q.example/a", digest)).expect("json");
        let expected = format!(
            r#"{{"critical":{{"identity":{{"docker-reference":"q.example/a"}},"image":{{"docker-manifest-digest":"{digest}"}},"type":"cosign container image signature"}},"optional":null}}"#
        );
        assert_eq!(text, expected);
        assert!(Payload::parse(text.as_bytes()).is_ok());
        let other = text.replace(PAYLOAD_TYPE, "atomic container signature");
        assert!(Payload::parse(other.as_bytes()).is_err());
    }
}

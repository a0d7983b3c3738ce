//! Signatures as `cosign sign --key` stores them since version 3: a Sigstore bundle (sigstore/protobuf-specs,
//! `sigstore_bundle.proto`, version 0.3) in a manifest that refers to what is signed. The bundle holds a DSSE envelope
//! (secure-systems-lab/dsse, `envelope.md`) around an in-toto statement (in-toto/attestation, `spec/v1/statement.md`).
//!
//! Such a statement speaks of a digest and of no repository, unless the signer notes one:
//! `cosign sign --key KEY -a docker-reference=HOST/NAME HOST/NAME@sha256:…`.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::claim::{Claim, Signature, decode, noted_time, repository_of};
use crate::digest::Digest;
use crate::manifest::{Document, EMPTY, Manifest};
use crate::source::{Source, SourceError, document, optional, read_blob};

/// Type of a bundle, and of the manifest that holds it.
pub const BUNDLE_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const STATEMENT_TYPE: &str = "application/vnd.in-toto+json";
const STATEMENT: &str = "https://in-toto.io/Statement/v1";
/// What `cosign sign` states. Other predicates are attestations: they say something else about the same digest.
const PREDICATE: &str = "https://sigstore.dev/cosign/sign/v1";
/// Annotation of the manifest: the predicate, for whoever does not want to read the bundle.
const PREDICATE_NOTE: &str = "dev.sigstore.bundle.predicateType";
/// The signer's note of the repository, under the name it has in classic payloads.
const REPOSITORY: &str = "docker-reference";
/// Referrers looked at; more make verification slow without making it truer.
const MAX_REFERRERS: usize = 64;
const MAX_BUNDLE: u64 = 64 << 10;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    media_type: String,
    dsse_envelope: Option<Envelope>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Deserialize)]
struct EnvelopeSignature {
    sig: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Subject>,
    predicate_type: String,
}

#[derive(Deserialize)]
struct Subject {
    digest: BTreeMap<String, String>,
    annotations: Option<Map<String, Value>>,
}

/// All bundles over a digest; none if nothing refers to it.
pub(super) async fn signatures(source: &dyn Source, digest: &Digest) -> Result<Vec<Signature>, SourceError> {
    let mut signatures = Vec::new();
    for (_, manifest) in bundles(source, digest).await? {
        for layer in manifest.layers.iter().filter(|l| l.media_type == BUNDLE_TYPE) {
            if layer.size <= MAX_BUNDLE {
                signatures.push(signature(&read_blob(source, layer).await?));
            }
        }
    }
    Ok(signatures)
}

/// The manifests that hold `cosign sign`'s bundles over a digest. Where the registry keeps no list of referrers, cosign
/// keeps one, in which each is of the type of its empty configuration: only the manifest tells what it is.
pub(super) async fn bundles(
    source: &dyn Source,
    digest: &Digest,
) -> Result<Vec<(Digest, Manifest)>, SourceError> {
    let listed = source.referrers(digest, None).await?;
    let may_be = listed
        .iter()
        .filter(|entry| matches!(entry.artifact_type.as_deref(), None | Some(EMPTY | BUNDLE_TYPE)));
    let mut found = Vec::new();
    for entry in may_be.take(MAX_REFERRERS) {
        // A list may name what has been removed.
        let Some((_, Document::Manifest(manifest))) = optional(document(source, &entry.digest).await)? else {
            continue;
        };
        let noted = manifest.annotations.get(PREDICATE_NOTE);
        if manifest.kind() == BUNDLE_TYPE && noted.is_none_or(|noted| noted == PREDICATE) {
            found.push((entry.digest, *manifest));
        }
    }
    Ok(found)
}

/// A bundle as a signature. What is no bundle is one that says nothing.
pub(super) fn signature(bundle: &[u8]) -> Signature {
    match envelope(bundle) {
        Err(reason) => Signature {
            message: Bytes::new(),
            signature: None,
            claim: Err(reason),
        },
        Ok((payload, signature)) => Signature {
            message: encoded(&payload).into(),
            signature: decode(&signature),
            claim: claim(&payload),
        },
    }
}

/// Payload and signature of a bundle. The error is the reason in words.
fn envelope(bundle: &[u8]) -> Result<(Vec<u8>, String), String> {
    let bundle: Bundle =
        serde_json::from_slice(bundle).map_err(|error| format!("unreadable bundle ({error})"))?;
    if bundle.media_type != BUNDLE_TYPE {
        return Err(format!("bundle of type `{}`", bundle.media_type));
    }
    let envelope = bundle.dsse_envelope.ok_or("a bundle without a statement")?;
    if envelope.payload_type != STATEMENT_TYPE {
        return Err(format!("payload of type `{}`", envelope.payload_type));
    }
    let payload = decode(&envelope.payload).ok_or("a payload that is not base64")?;
    let [signature] = <[EnvelopeSignature; 1]>::try_from(envelope.signatures)
        .map_err(|all| format!("a bundle with {} signatures", all.len()))?;
    Ok((payload, signature.sig))
}

/// What a DSSE signature is over: the pre-authentication encoding (DSSE `protocol.md`).
fn encoded(payload: &[u8]) -> Vec<u8> {
    let head = format!(
        "DSSEv1 {} {STATEMENT_TYPE} {} ",
        STATEMENT_TYPE.len(),
        payload.len()
    );
    [head.as_bytes(), payload].concat()
}

fn claim(payload: &[u8]) -> Result<Claim, String> {
    let statement: Statement =
        serde_json::from_slice(payload).map_err(|error| format!("unreadable statement ({error})"))?;
    if statement.kind != STATEMENT || statement.predicate_type != PREDICATE {
        let Statement {
            kind, predicate_type, ..
        } = statement;
        return Err(format!(
            "a statement of type `{kind}` that says `{predicate_type}`"
        ));
    }
    let [subject] = <[Subject; 1]>::try_from(statement.subject)
        .map_err(|all| format!("a statement about {} things", all.len()))?;
    let digest = subject.digest.get("sha256").map(String::as_str);
    let digest = digest.and_then(|hex| Digest::from_hex(hex).ok());
    let notes = subject.annotations.as_ref();
    let repository = match notes.and_then(|notes| notes.get(REPOSITORY)) {
        None => None,
        Some(Value::String(reference)) => Some(repository_of(reference).to_owned()),
        Some(other) => return Err(format!("its {REPOSITORY} {other} is no name")),
    };
    Ok(Claim {
        digest: digest.ok_or("a statement about no sha256")?,
        repository,
        time: noted_time(notes)?,
    })
}

#[cfg(test)]
#[path = "bundle_tests.rs"]
pub(super) mod tests;

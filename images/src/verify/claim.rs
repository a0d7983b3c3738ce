//! What somebody claims to have signed, in whatever form it is stored.

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::digest::Digest;

/// Where a signer notes when it signed, in seconds since 1970 (containers-signature(5), "optional"): a number or, from
/// `cosign sign -a`, text.
pub(super) const TIMESTAMP: &str = "timestamp";

/// What claims to be a signature. Nothing is checked yet.
#[derive(Debug, Clone)]
pub(super) struct Signature {
    /// The bytes it is over.
    pub message: Bytes,
    /// Decoded; none if it was no base64.
    pub signature: Option<Vec<u8>>,
    /// What these bytes say. The error is the reason in words.
    pub claim: Result<Claim, String>,
}

/// What a signer vouches for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    /// Which content.
    pub digest: Digest,
    /// Under which name, without tag and digest. Not every form has to say.
    pub repository: Option<String>,
    /// When, if the signer noted it.
    pub time: Option<Timestamp>,
}

/// The time among a signer's notes. The error is the reason in words.
pub(super) fn noted_time(notes: Option<&Map<String, Value>>) -> Result<Option<Timestamp>, String> {
    let Some(noted) = notes.and_then(|notes| notes.get(TIMESTAMP)) else {
        return Ok(None);
    };
    let seconds = noted
        .as_i64()
        .or_else(|| noted.as_str().and_then(|text| text.parse().ok()));
    let time = seconds.and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.map(Some)
        .ok_or_else(|| format!("its timestamp {noted} is no number of seconds"))
}

/// The repository of a reference, without tag and digest.
pub(super) fn repository_of(reference: &str) -> &str {
    let name = reference.split_once('@').map_or(reference, |(name, _)| name);
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
}

/// Base64 without surprises: `decode_block` pads with zero bytes, which are cut off here.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    let text = text.trim();
    let mut bytes = openssl::base64::decode_block(text).ok()?;
    let padding = text.bytes().rev().take_while(|byte| *byte == b'=').count().min(2);
    let full = text.len() / 4 * 3;
    bytes.truncate(full.saturating_sub(padding));
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_signing_is_a_number_or_its_text() {
        let time: Timestamp = "2026-11-21T12:00:00Z".parse().expect("a time");
        let noted = |value: Value| noted_time(Some(&[(TIMESTAMP.to_owned(), value)].into_iter().collect()));
        assert_eq!(noted(time.as_second().into()), Ok(Some(time)));
        assert_eq!(noted(time.as_second().to_string().into()), Ok(Some(time)));
        for bad in ["yesterday".into(), 1.5.into(), Value::Null, i64::MAX.into()] {
            assert!(noted(bad).is_err());
        }
        assert_eq!(noted_time(None), Ok(None));
        assert_eq!(noted_time(Some(&Map::new())), Ok(None));
    }

    #[test]
    fn the_repository_is_named_without_tag_and_digest() {
        for (reference, expected) in [
            ("q.example/a", "q.example/a"),
            ("q.example/a:1", "q.example/a"),
            ("q.example:5000/a", "q.example:5000/a"),
            ("q.example:5000/a:1@sha256:ab", "q.example:5000/a"),
        ] {
            assert_eq!(repository_of(reference), expected);
        }
    }

    #[test]
    fn base64_of_every_length_comes_back() {
        for length in 0..20 {
            let bytes = vec![0u8; length];
            let text = openssl::base64::encode_block(&bytes);
            assert_eq!(decode(&text), Some(bytes), "{length}");
        }
        assert_eq!(decode("***"), None);
    }
}

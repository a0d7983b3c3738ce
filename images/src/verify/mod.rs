//! Who vouches for a digest. Only [`verify`] makes a [`Verified`] value.
//!
//! ```text
//! policy.rs   which keys for which repository; nothing is trusted by default
//! judge.rs    the weighing of signatures against it (pure)
//! key.rs      ed25519 and ECDSA P-256 keys
//! claim.rs    what somebody claims to have signed
//! cosign.rs   how classic signatures are stored, and what they say
//! bundle.rs   the same of Sigstore bundles
//! ```

mod bundle;
mod claim;
mod cosign;
mod judge;
mod key;
mod policy;

pub use bundle::BUNDLE_TYPE;
pub use cosign::{Payload, SIGNATURE_TYPE, SignError, sign, signature_tag};
pub use key::{KeyError, KeyKind, PrivateKey, PublicKey};
pub use policy::{PolicyError, Requirement, Rule, Trust};

use std::sync::Arc;

use crate::artifact::Artifact;
use crate::digest::Digest;
use crate::reference::Selector;
use crate::source::{CopyReport, Sink, Source, SourceError, copy_image, optional};

/// A value somebody vouches for, and who.
#[derive(Debug, Clone)]
pub struct Verified<T> {
    value: T,
    authority: Authority,
}

/// Why a value is accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authority {
    /// Enough trusted keys have signed.
    Signed {
        /// The repository the signatures name.
        repository: String,
        /// The keys' file names, sorted.
        keys: Vec<String>,
        /// As of when they vouch for it: the time at or after which as many keys as the policy wants have
        /// signed. None where too few of them noted one.
        time: Option<jiff::Timestamp>,
    },
    /// The policy spells out that nothing is checked here.
    Unchecked {
        /// The rule that says so.
        rule: String,
    },
}

impl<T> Verified<T> {
    /// The value.
    pub fn get(&self) -> &T {
        &self.value
    }

    /// Who vouches for it.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The value without its proof.
    pub fn into_inner(self) -> T {
        self.value
    }
}

/// Why a digest is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// No rule covers the place: default deny.
    #[error("nothing in the trust policy covers {place}")]
    NotCovered {
        /// Repository or file.
        place: String,
    },
    /// There is no signature at all.
    #[error("{digest} from {place} is not signed")]
    Unsigned {
        /// Repository or file.
        place: String,
        /// What is not signed.
        digest: Digest,
    },
    /// There are signatures, but none that counts.
    #[error("{digest} from {place} has no trusted signature: {}", reasons.join("; "))]
    Untrusted {
        /// Repository or file.
        place: String,
        /// What is signed.
        digest: Digest,
        /// What is wrong with each signature.
        reasons: Vec<String>,
    },
    /// Fewer trusted keys have signed than the policy asks for.
    #[error("{digest} from {place} is signed by {} of {needed} required keys ({})", have.len(), have.join(", "))]
    TooFew {
        /// Repository or file.
        place: String,
        /// What is signed.
        digest: Digest,
        /// The keys that have signed.
        have: Vec<String>,
        /// How many have to.
        needed: usize,
    },
    /// The signatures can't be read.
    #[error("cannot read the signatures of {digest}")]
    Source {
        /// What may be signed.
        digest: Digest,
        /// Why.
        source: Box<SourceError>,
    },
}

/// Checks the signatures of an artifact against the policy.
///
/// For a repository of a registry the rule is the one that covers its name. A file has no name that
/// could be trusted, so there the name inside the *signed* payload counts: it must be one that a
/// rule covers and whose key has made the signature.
///
/// # Errors
/// [`VerifyError`] says what is missing.
pub async fn verify(
    trust: &Trust,
    source: &dyn Source,
    artifact: Artifact,
) -> Result<Verified<Artifact>, VerifyError> {
    let authority = vouched_for(trust, source, &artifact.digest).await?;
    Ok(Verified {
        value: artifact,
        authority,
    })
}

/// Checks the signatures of a digest, for example of an image that is used on its own.
///
/// # Errors
/// [`VerifyError`] says what is missing.
pub async fn verify_digest(
    trust: &Trust,
    source: &dyn Source,
    digest: Digest,
) -> Result<Verified<Digest>, VerifyError> {
    let authority = vouched_for(trust, source, &digest).await?;
    Ok(Verified {
        value: digest,
        authority,
    })
}

async fn vouched_for(trust: &Trust, source: &dyn Source, digest: &Digest) -> Result<Authority, VerifyError> {
    let place = source
        .repository()
        .unwrap_or_else(|| format!("file:{}", file_of(source)));
    let rule = trust.rule_for(&place);
    if let Some(Rule {
        name,
        require: Requirement::Nothing,
        ..
    }) = rule
    {
        tracing::warn!(
            place,
            rule = name,
            "accepted without a signature, as the trust policy says"
        );
        return Ok(Authority::Unchecked { rule: name.clone() });
    }
    if rule.is_none() && source.repository().is_some() {
        return Err(VerifyError::NotCovered { place });
    }
    let unread = |source| VerifyError::Source {
        digest: *digest,
        source: Box::new(source),
    };
    let fixed = source.repository();
    let now = jiff::Timestamp::now();
    let judge = |signatures: &[_]| judge::judge(trust, &place, fixed.as_deref(), digest, signatures, now);
    let mut signatures = cosign::signatures(source, digest).await.map_err(unread)?;
    // Who is vouched for by these needs no list of referrers.
    if let Ok(authority) = judge(&signatures) {
        return Ok(authority);
    }
    signatures.extend(bundle::signatures(source, digest).await.map_err(unread)?);
    if signatures.is_empty() {
        return Err(VerifyError::Unsigned {
            place,
            digest: *digest,
        });
    }
    judge(&signatures)
}

/// Copies what `digest` names, and before it the signatures that are stored with it, in whatever form; `name` is what it
/// is called there.
///
/// # Errors
/// The first failure ends the copy, as in [`copy_image`].
pub async fn copy_signed(
    from: &Arc<dyn Source>,
    digest: &Digest,
    to: &dyn Sink,
    name: &str,
) -> Result<CopyReport, SourceError> {
    let tag = signature_tag(digest);
    if let Some(signatures) = optional(from.resolve(&Selector::Name(tag.clone())).await)? {
        copy_image(from, &signatures, to, Some(&tag)).await?;
    }
    for (bundle, _) in bundle::bundles(from.as_ref(), digest).await? {
        copy_image(from, &bundle, to, None).await?;
    }
    copy_image(from, digest, to, Some(name)).await
}

fn file_of(source: &dyn Source) -> String {
    let name = source.name();
    name.strip_prefix("oci:").unwrap_or(&name).to_owned()
}

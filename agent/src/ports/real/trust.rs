//! What the trust policy amounts to, as documents say it.

use std::collections::BTreeSet;

use node_images::verify::{Authority, Requirement, Trust};

use crate::api::{SignedBy, TrustStatus};
use crate::error::Result;

/// Who vouches for a release; none where the policy wants nobody to.
pub(super) fn signed_by(authority: &Authority) -> Option<SignedBy> {
    match authority.clone() {
        Authority::Signed {
            repository,
            keys,
            time,
        } => Some(SignedBy {
            repository,
            keys,
            time,
        }),
        Authority::Unchecked { .. } => None,
    }
}

/// How strictly releases are checked. A policy that can't be used accepts nothing.
pub(super) fn status(policy: Result<Trust>) -> TrustStatus {
    let policy = match policy {
        Ok(policy) => policy,
        Err(e) => {
            return TrustStatus {
                signatures_required: true,
                keys: Vec::new(),
                warnings: vec![e.chain()],
            };
        }
    };
    let mut keys = BTreeSet::new();
    let mut warnings: Vec<String> = policy
        .insecure_rules()
        .map(|rule| format!("releases from {rule} are taken without a signature"))
        .collect();
    let signatures_required = warnings.is_empty();
    for rule in policy.rules() {
        let Requirement::Signatures { keys: named, needed } = &rule.require else {
            continue;
        };
        let (revoked, usable): (Vec<_>, Vec<_>) = named.iter().partition(|key| policy.is_revoked(key));
        if usable.len() < needed.get() {
            warnings.push(format!(
                "nothing from {} can be trusted: it wants {needed} signatures, and {} revoked",
                rule.name,
                revoked.len()
            ));
        }
        keys.extend(usable.into_iter().cloned());
    }
    TrustStatus {
        signatures_required,
        keys: keys.into_iter().collect(),
        warnings,
    }
}

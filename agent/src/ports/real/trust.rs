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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use node_images::verify::{KeyKind, PrivateKey};

    use super::*;
    use crate::error::AgentError;

    fn status_with(directory: &Path, policy: &str) -> TrustStatus {
        std::fs::write(directory.join("policy.toml"), policy).unwrap();
        let bad = |e| AgentError::config("bad trust policy").because(e);
        status(Trust::load(directory).map_err(bad))
    }

    /// Policy, whether signatures are required, keys that count, and what each warning has to say.
    type Row = (
        &'static str,
        bool,
        &'static [&'static str],
        &'static [&'static str],
    );

    #[test]
    fn what_weakens_the_checks_is_told() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["one.pub", "two.pub"] {
            let key = PrivateKey::generate(KeyKind::Ed25519).unwrap();
            let pem = key.public().unwrap().to_pem().unwrap();
            std::fs::write(directory.path().join(name), pem).unwrap();
        }
        let table: [Row; 6] = [
            (
                "[[repository]]\nname = \"q.example\"\nkeys = [\"one.pub\", \"two.pub\"]\n",
                true,
                &["one.pub", "two.pub"],
                &[],
            ),
            (
                "[[repository]]\nname = \"127.0.0.1:5000\"\ninsecure = \"accept-unsigned\"\n",
                false,
                &[],
                &["releases from 127.0.0.1:5000 are taken without a signature"],
            ),
            (
                "[[repository]]\nname = \"q.example\"\nkeys = [\"one.pub\"]\n\
                 [[repository]]\nname = \"*\"\ninsecure = \"accept-unsigned\"\n\
                 [[repository]]\nname = \"file:/root\"\ninsecure = \"accept-unsigned\"\n",
                false,
                &["one.pub"],
                &["releases from * are taken", "releases from file:/root are taken"],
            ),
            (
                "revoked = [\"one.pub\"]\n[[repository]]\nname = \"q.example\"\nkeys = [\"one.pub\", \"two.pub\"]\n",
                true,
                &["two.pub"],
                &[],
            ),
            (
                "revoked = [\"one.pub\"]\n\
                 [[repository]]\nname = \"q.example\"\nkeys = [\"one.pub\", \"two.pub\"]\nsignatures = 2\n",
                true,
                &["two.pub"],
                &["nothing from q.example can be trusted: it wants 2 signatures, and 1 revoked"],
            ),
            (
                "[[repository]]\nname = \"q.example\"\n",
                true,
                &[],
                &["bad trust policy"],
            ),
        ];
        for (policy, required, keys, warnings) in table {
            let status = status_with(directory.path(), policy);
            assert_eq!(status.signatures_required, required, "{policy}");
            assert_eq!(status.keys, keys, "{policy}");
            assert_eq!(status.warnings.len(), warnings.len(), "{policy}: {status:?}");
            for warning in warnings {
                let told = status.warnings.iter().any(|told| told.contains(warning));
                assert!(told, "{policy}: {status:?}");
            }
        }
    }
}

//! What cosign itself has written verifies: `cosign/registry.json` is what version 3.1.1 left in a registry.

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use node_images::digest::Digest;
use node_images::reference::Reference;
use node_images::registry::RegistryConfig;
use node_images::source::{Sink, Source, write_archive};
use node_images::verify::{
    Authority, BUNDLE_TYPE, Trust, Verified, VerifyError, copy_signed, signature_tag, verify_digest,
};
use serde::Deserialize;
use support::image::layout;
use support::liar::{Answer, Asked, Liar};
use support::registry::Registry;
use support::sources;

/// The repository that was signed.
const SIGNED: &str = "127.0.0.1:5055/compute/release";

#[derive(Deserialize)]
struct Recorded {
    subject: Digest,
    /// By digest or tag.
    manifests: BTreeMap<String, String>,
    blobs: Vec<String>,
}

/// How a registry tells what refers to a manifest.
#[derive(Debug, Clone, Copy)]
enum Listed {
    /// By a tag that cosign keeps.
    ByTag,
    /// By itself, with the types that the manifests have.
    ByRegistry,
}

impl Recorded {
    fn read() -> Self {
        serde_json::from_str(include_str!("cosign/registry.json")).expect("a recorded registry")
    }

    /// Without the classic signature.
    fn bundles_only(mut self) -> Self {
        let tag = signature_tag(&self.subject);
        self.manifests.remove(&tag).expect("it was there");
        self
    }

    fn serve(self, listed: Listed) -> Liar {
        Liar::start(move |asked| self.answer(asked, listed))
    }

    fn by_digest(&self, digest: &str) -> Option<&String> {
        let mut all = self.manifests.values().chain(&self.blobs);
        all.find(|text| Digest::of(text.as_bytes()).to_string() == digest)
    }

    fn answer(&self, asked: &Asked, listed: Listed) -> Answer {
        let name = asked.path.rsplit('/').next().unwrap_or_default();
        let list = format!("sha256-{}", self.subject.hex());
        let text = match listed {
            Listed::ByRegistry if asked.path.contains("/referrers/") => {
                // As the registry would read them in the manifests.
                let list = self.manifests[&list].replace("application/vnd.oci.empty.v1+json", BUNDLE_TYPE);
                return Answer::ok(list);
            }
            Listed::ByRegistry if name == list => None,
            _ if asked.path.contains("/referrers/") => None,
            _ => self.manifests.get(name).or_else(|| self.by_digest(name)),
        };
        text.map_or_else(|| Answer::status(404), |text| Answer::ok(text.clone()))
    }
}

/// A policy with one rule for everything, for the name that was signed.
fn trust(directory: &Path, host: &str, keys: &[&str], more: &str) -> Trust {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cosign");
    for key in ["ec.pub", "ed25519.pub"] {
        std::fs::copy(fixtures.join(key), directory.join(key)).expect("a key");
    }
    let policy = format!(
        "[[repository]]\nname = \"{host}/mirror\"\nidentity = \"{SIGNED}\"\nkeys = {keys:?}\nsignatures = {}\n{more}",
        keys.len()
    );
    Trust::parse(&policy, directory).expect("a policy")
}

async fn verified(liar: &Liar, keys: &[&str], more: &str) -> Result<Verified<Digest>, VerifyError> {
    let directory = tempfile::tempdir().expect("a directory");
    let trust = trust(directory.path(), &liar.host, keys, more);
    let (sources, _) = sources(RegistryConfig::default());
    let reference: Reference = format!("{}/mirror:1", liar.host).parse().expect("a reference");
    let source = sources.open(&reference).expect("a source");
    verify_digest(&trust, source.as_ref(), Recorded::read().subject).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cosign_3_has_signed_verifies() {
    for listed in [Listed::ByTag, Listed::ByRegistry] {
        let liar = Recorded::read().serve(listed);
        let accepted = verified(&liar, &["ec.pub"], "").await.expect("a bundle");
        let Authority::Signed { repository, time, .. } = accepted.authority() else {
            panic!("{accepted:?}");
        };
        assert_eq!(repository, SIGNED);
        assert_eq!(
            time.map(jiff::Timestamp::as_second),
            Some(1_796_000_000),
            "{listed:?}"
        );
        verified(&liar, &["ed25519.pub"], "")
            .await
            .expect("a classic signature");
        verified(&liar, &["ec.pub", "ed25519.pub"], "")
            .await
            .expect("one of each kind");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_without_a_name_counts_where_the_rule_says_so() {
    for listed in [Listed::ByTag, Listed::ByRegistry] {
        let liar = Recorded::read().bundles_only().serve(listed);
        let error = verified(&liar, &["ed25519.pub"], "").await.expect_err("no name");
        assert!(
            error.to_string().contains("does not say `unnamed = true`"),
            "{error}"
        );
        verified(&liar, &["ed25519.pub"], "unnamed = true")
            .await
            .expect("the rule says so");
    }
}

/// An attestation is by the same key, in the same form and about the same digest, and says something else. The list names
/// signatures, too, which are gone.
#[tokio::test(flavor = "multi_thread")]
async fn an_attestation_is_no_signature() {
    for listed in [Listed::ByTag, Listed::ByRegistry] {
        let mut recorded = Recorded::read().bundles_only();
        recorded
            .manifests
            .retain(|_, text| !text.contains("https://sigstore.dev/cosign/sign/v1"));
        let liar = recorded.serve(listed);
        let error = verified(&liar, &["ec.pub"], "unnamed = true")
            .await
            .expect_err("attested");
        assert!(matches!(error, VerifyError::Unsigned { .. }), "{error}");
    }
}

/// To another registry and into a file, as a release is pushed and bundled.
#[tokio::test(flavor = "multi_thread")]
async fn bundles_go_along_with_a_copy() {
    let liar = Recorded::read().bundles_only().serve(Listed::ByTag);
    let registry = Registry::start();
    let (sources, _) = sources(RegistryConfig::default());
    let parse = |text: &str| -> Reference { text.parse().expect("a reference") };
    let from = sources
        .open(&parse(&format!("{}/mirror:1", liar.host)))
        .expect("a source");
    let subject = Recorded::read().subject;
    let there = parse(&format!("{}/mirror:1", registry.host));
    let sink = sources.sink(&there).expect("a sink");
    let directory = tempfile::tempdir().expect("a directory");
    let file = layout(&directory.path().join("layout"));
    for to in [sink.as_ref(), file.as_ref() as &dyn Sink] {
        copy_signed(&from, &subject, to, "1").await.expect("copied");
    }
    let trusted = trust(directory.path(), &registry.host, &["ec.pub"], "");
    let copy = sources.open(&there).expect("a source");
    verify_digest(&trusted, copy.as_ref(), subject)
        .await
        .expect("in the registry");
    let packed = directory.path().join("packed.tar");
    write_archive(&directory.path().join("layout"), &packed).expect("packed");
    let archive: Arc<dyn Source> = sources
        .open(&parse(&packed.display().to_string()))
        .expect("opens");
    verify_digest(&trusted, archive.as_ref(), subject)
        .await
        .expect("in the file");
}

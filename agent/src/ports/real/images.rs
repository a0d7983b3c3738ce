//! The store, and the registries that fill it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use node_images::artifact::fetch_artifact;
use node_images::digest::Digest;
use node_images::layer::{Policy, PrivilegePolicy};
use node_images::manifest::Platform;
use node_images::progress::Event;
use node_images::pull::{self, ImageRequest, PullOptions, PullReport};
use node_images::reference::Reference;
use node_images::source::Sources;
use node_images::store::{Content, FsckOptions, Holders, Locked, Store, Verification};
use node_images::verify::{Trust, verify};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::trouble;
use crate::api::{FsckReport, ReleaseInfo, TrustStatus};
use crate::config::{Settings, Treatment};
use crate::deployment::ImageFacts;
use crate::error::{AgentError, Kind, Result};
use crate::ports::{Images, Progress, PullCost, StoreGc, TrustedRelease};
use crate::release::{MEDIA_TYPE, ReleaseDocument, locate};
use crate::root::Roots;

/// Compressed layers grow by up to about this factor when they are unpacked: many small files, in whole blocks.
const UNPACKED: u64 = 5;

/// The same where they are sealed: a seal takes one block of a small file, and two of others.
const UNPACKED_SEALED: u64 = 7;

/// The store, and the registries that fill it.
pub(super) struct StoreAndRegistries {
    store: OnceLock<Store>,
    roots: Roots,
}

impl StoreAndRegistries {
    /// Nothing is opened before the first call.
    pub fn new(roots: &Roots) -> Self {
        StoreAndRegistries {
            store: OnceLock::new(),
            roots: roots.clone(),
        }
    }

    /// The store; made if there is none.
    fn store(&self) -> Result<&Store> {
        if let Some(store) = self.store.get() {
            return Ok(store);
        }
        let opened = Store::open(&self.roots.store())
            .map_err(|e| AgentError::from_leaf(Kind::Other, "can't open the image store", e))?;
        Ok(self.store.get_or_init(|| opened))
    }

    /// The store if there is one: a question must not make it.
    fn store_if_there(&self) -> Result<Option<&Store>> {
        let path = self.roots.store();
        match path.try_exists() {
            Ok(true) => self.store().map(Some),
            Ok(false) => Ok(None),
            Err(e) => Err(AgentError::io("look for", &path, e)),
        }
    }

    fn trust_policy(&self) -> Result<Trust> {
        Trust::load(&self.roots.trust()).map_err(|e| {
            AgentError::config("the trust policy can't be used")
                .because(e)
                .hint(format!(
                    "put policy.toml and public keys into {}",
                    self.roots.trust().display()
                ))
        })
    }

    /// Sources for a release and its images: a bundle holds both.
    fn sources(&self, settings: &Settings, reference: &Reference) -> Result<Sources> {
        let failed = |e| trouble::source("can't set up the registry client", &e);
        let sources = Sources::new(settings.registries.client()).map_err(failed)?;
        match reference {
            Reference::Registry(_) => Ok(sources),
            Reference::Layout { .. } | Reference::Archive { .. } => {
                let bundle = sources
                    .open(reference)
                    .map_err(|e| trouble::source(format!("can't open {reference}"), &e))?;
                Ok(sources.all_from(bundle))
            }
        }
    }

    fn requests(&self, release: &TrustedRelease, names: &BTreeSet<&str>) -> Result<Vec<ImageRequest>> {
        let place = parse(&release.info.reference)?;
        let digest = Digest::parse(&release.info.digest)
            .map_err(|e| AgentError::verification("the release has no usable digest").because(e))?;
        let chosen = release
            .document
            .images
            .iter()
            .filter(|(name, _)| names.contains(name.as_str()));
        chosen
            .map(|(_, binding)| {
                Ok(ImageRequest {
                    reference: image_reference(&place, &binding.repository, &binding.digest)?,
                    digest: binding.digest,
                    verification: Verification::Release { release: digest },
                })
            })
            .collect()
    }
}

fn parse(text: &str) -> Result<Reference> {
    text.parse()
        .map_err(|e| AgentError::new(Kind::Usage, format!("{text:?} is not a reference")).because(e))
}

/// Where an image of a release is. In a bundle everything is found by digest; the name is only a name.
fn image_reference(release: &Reference, repository: &str, digest: &Digest) -> Result<Reference> {
    match locate::image(release, repository, digest) {
        Ok(Some(reference)) => Ok(reference),
        Ok(None) => parse(&format!("localhost/{repository}@{digest}")),
        Err(e) => {
            Err(AgentError::verification(format!("the release names an image {repository:?}")).because(e))
        }
    }
}

fn layer_policy(settings: &Settings) -> Policy {
    let treatment = |t: Option<Treatment>| match t {
        None => PrivilegePolicy::default(),
        Some(Treatment::Keep) => PrivilegePolicy::Keep,
        Some(Treatment::Strip) => PrivilegePolicy::Strip,
        Some(Treatment::Refuse) => PrivilegePolicy::Refuse,
    };
    Policy {
        setuid: treatment(settings.policy.setuid),
        file_capabilities: treatment(settings.policy.file_capabilities),
        limits: settings.policy.limits.unwrap_or_default(),
        ..Policy::default()
    }
}

#[async_trait]
impl Images for StoreAndRegistries {
    async fn release(&self, settings: &Settings, reference: &str) -> Result<TrustedRelease> {
        let parsed = parse(reference)?;
        let trust = self.trust_policy()?;
        let sources = self.sources(settings, &parsed)?;
        let failed = |e| trouble::source(format!("can't fetch release {reference}"), &e);
        let source = sources.open(&parsed).map_err(failed)?;
        let digest = source.resolve(&parsed.selector()).await.map_err(failed)?;
        let artifact = fetch_artifact(source.as_ref(), &digest).await.map_err(failed)?;
        let verified = verify(&trust, source.as_ref(), artifact)
            .await
            .map_err(|e| trouble::verify(reference, e))?;
        let signed = super::trust::signed_by(verified.authority());
        if signed.is_none() {
            tracing::warn!(
                reference,
                "the trust policy accepts this release without a signature"
            );
        }
        let artifact = verified.into_inner();
        let broken =
            || AgentError::verification(format!("{reference} is not a release that this version can use"));
        let bytes = artifact
            .layer(MEDIA_TYPE)
            .ok_or_else(|| broken().because(format!("it has no layer of type {MEDIA_TYPE}")))?;
        let document = ReleaseDocument::accept(bytes).map_err(|e| broken().because(e))?;
        let info = ReleaseInfo {
            reference: reference.to_owned(),
            digest: digest.to_string(),
            name: document.name.clone(),
            version: document.version.clone(),
            signed,
        };
        Ok(TrustedRelease {
            info,
            document,
            bytes: bytes.to_vec(),
        })
    }

    async fn cost(
        &self,
        settings: &Settings,
        release: &TrustedRelease,
        names: &BTreeSet<&str>,
    ) -> Result<PullCost> {
        let requests = self.requests(release, names)?;
        let mut missing = Vec::new();
        for request in requests {
            if self.facts(&request.digest)?.is_none() {
                missing.push(request);
            }
        }
        if missing.is_empty() {
            return Ok(PullCost::default());
        }
        let sources = self.sources(settings, &parse(&release.info.reference)?)?;
        let store = self.store()?;
        let plan = pull::plan(store, &sources, &missing, &Platform::host())
            .await
            .map_err(trouble::pull)?;
        let growth = if store.seals() { UNPACKED_SEALED } else { UNPACKED };
        Ok(PullCost {
            fetch: plan.bytes_to_fetch,
            store: plan.bytes_to_fetch.saturating_mul(growth),
        })
    }

    async fn pull(
        &self,
        lock: &Locked,
        settings: &Settings,
        release: &TrustedRelease,
        names: &BTreeSet<&str>,
        progress: Progress<'_>,
    ) -> Result<()> {
        let mut missing = Vec::new();
        for request in self.requests(release, names)? {
            if self.facts(&request.digest)?.is_none() {
                missing.push(request);
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let sources = self.sources(settings, &parse(&release.info.reference)?)?;
        let (sender, mut events) = mpsc::unbounded_channel();
        let options = PullOptions {
            platform: Platform::host(),
            policy: layer_policy(settings),
            parallel: usize::from(settings.registries.client().parallel),
            now: jiff::Timestamp::now(),
            cancel: CancellationToken::new(),
            progress: Arc::new(move |event: Event| {
                // Nobody listens any more once the pull is over.
                let _ = sender.send(event);
            }),
        };
        let pulling = pull::pull(self.store()?, lock, "pull", &sources, &missing, &options);
        tokio::pin!(pulling);
        let mut meter = super::meter::Meter::default();
        let report = loop {
            tokio::select! {
                report = &mut pulling => break report.map_err(trouble::pull)?,
                Some(event) = events.recv() => meter.hear(&event, progress),
            }
        };
        check_keys(&missing, &report)
    }

    fn facts(&self, manifest: &Digest) -> Result<Option<ImageFacts>> {
        let failed = |e| AgentError::from_leaf(Kind::Other, format!("can't read image {manifest}"), e);
        let Some(store) = self.store_if_there()? else {
            return Ok(None);
        };
        let Some(record) = store.image(manifest).map_err(failed)? else {
            return Ok(None);
        };
        let tree = store.tree_path(manifest);
        if !tree.is_dir() {
            return Ok(None);
        }
        let config = record.config().map_err(|e| {
            AgentError::other(format!("the configuration of image {manifest} is damaged")).because(e)
        })?;
        Ok(Some(ImageFacts {
            manifest: *manifest,
            config,
            passwd: text_in(&tree, "etc/passwd")?,
            group: text_in(&tree, "etc/group")?,
            tree,
        }))
    }

    fn in_use(&self) -> Result<Holders> {
        let Some(store) = self.store_if_there()? else {
            return Ok(Holders::new());
        };
        store
            .roots_in_use()
            .map_err(|e| AgentError::from_leaf(Kind::Other, "can't find out which images are in use", e))
    }

    async fn gc(&self, lock: &Locked, keep: &BTreeSet<Digest>, dry_run: bool) -> Result<StoreGc> {
        let report = self
            .store()?
            .gc(lock, keep, dry_run)
            .map_err(|e| AgentError::from_leaf(Kind::Other, "can't collect garbage", e))?;
        Ok(StoreGc {
            images: report.images.into_iter().collect(),
            objects: report.objects,
            bytes: report.bytes,
        })
    }

    async fn fsck(
        &self,
        settings: &Settings,
        content: Content,
        repair: Option<&Locked>,
    ) -> Result<FsckReport> {
        let failed = |e| AgentError::from_leaf(Kind::Other, "can't check the image store", e);
        let Some(store) = self.store_if_there()? else {
            return Ok(FsckReport::default());
        };
        let found = store.fsck(FsckOptions { content }).map_err(failed)?;
        let Some(lock) = repair else {
            return Ok(super::mend::report(&found, &found));
        };
        let left = if found.findings.is_empty() {
            found.clone()
        } else {
            let sources = self.sources(settings, &parse("localhost/none")?)?;
            super::mend::mend(store, lock, &found, &layer_policy(settings), &sources)?
        };
        let mut report = super::mend::report(&found, &left);
        report.sealed = store
            .seal_rest(lock, &left)
            .map_err(|e| AgentError::from_leaf(Kind::Other, "can't seal the image store", e))?;
        Ok(report)
    }

    fn seals(&self) -> Result<Option<bool>> {
        Ok(self.store_if_there()?.map(Store::seals))
    }

    fn trust(&self) -> TrustStatus {
        super::trust::status(self.trust_policy())
    }
}

/// A file of an image, read without following links out of it; empty if the image has none.
fn text_in(tree: &Path, name: &str) -> Result<String> {
    let path = tree.join(name);
    match std::fs::symlink_metadata(&path) {
        Ok(meta) if meta.is_file() => {
            std::fs::read_to_string(&path).map_err(|e| AgentError::io("read", &path, e))
        }
        Ok(_) => Err(AgentError::verification(format!(
            "{} is not a regular file",
            path.display()
        ))),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(e) => Err(AgentError::io("read", &path, e)),
    }
}

/// A release has to bind the manifest itself, since everything on the node goes by it.
fn check_keys(requests: &[ImageRequest], report: &PullReport) -> Result<()> {
    for (request, manifest) in requests.iter().zip(&report.images) {
        if request.digest != *manifest {
            let text = format!(
                "the release binds {} by an index, not by its manifest {manifest}",
                request.reference
            );
            return Err(AgentError::verification(text));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_of_a_bundle_have_a_name_too() {
        let digest = Digest::of(b"x");
        for (release, expected) in [
            ("r.example:5000/a/rel:1", "r.example:5000/a/nova"),
            ("/tmp/bundle.tar", "localhost/nova"),
        ] {
            let got = image_reference(&release.parse().unwrap(), "nova", &digest).unwrap();
            assert_eq!(got.to_string(), format!("{expected}@{digest}"));
        }
    }

    #[test]
    fn asking_on_a_host_where_nothing_is_installed_makes_no_store() {
        let base = tempfile::tempdir().unwrap();
        let images = StoreAndRegistries::new(&Roots::under(base.path()));
        assert!(images.facts(&Digest::of(b"x")).unwrap().is_none());
        assert!(images.in_use().unwrap().is_empty());
        assert_eq!(std::fs::read_dir(base.path()).unwrap().count(), 0);
        images.store().unwrap();
        assert!(images.roots.store().is_dir());
    }
}

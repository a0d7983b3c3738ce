//! Repair of the store, and its findings as the operator sees them.

use std::collections::BTreeSet;
use std::io;

use node_images::digest::Digest;
use node_images::layer::Policy;
use node_images::pull::layer_reader;
use node_images::reference::Reference;
use node_images::source::Sources;
use node_images::store::{Finding, FsckReport as Found, LayerRef, Locked, Store};

use crate::api::{FsckFinding, FsckReport};
use crate::error::{AgentError, Kind, Result};

/// Fetches back what is broken; what a check finds afterwards.
pub(super) fn mend(
    store: &Store,
    lock: &Locked,
    found: &Found,
    policy: &Policy,
    sources: &Sources,
) -> Result<Found> {
    let failed = |e| AgentError::from_leaf(Kind::Other, "can't read the image store", e);
    let images = store.images().map_err(failed)?;
    let runtime = tokio::runtime::Handle::current();
    let mut fetch = |layer: &LayerRef| {
        let holder = images
            .iter()
            .find(|image| image.layers.iter().any(|l| l.diff_id == layer.diff_id));
        let text = holder.map(|image| image.reference.clone()).unwrap_or_default();
        let reference: Reference = text.parse().map_err(io::Error::other)?;
        let source = sources.open(&reference).map_err(io::Error::other)?;
        layer_reader(&runtime, source, layer).map_err(io::Error::other)
    };
    let repaired = tokio::task::block_in_place(|| store.repair(lock, found, policy, &mut fetch))
        .map_err(|e| AgentError::from_leaf(Kind::Unavailable, "can't repair the image store", e))?;
    Ok(repaired.remaining)
}

/// The findings as the operator sees them.
pub(super) fn report(found: &Found, left: &Found) -> FsckReport {
    let findings = found.findings.iter().map(|finding| {
        let text = finding.to_string();
        let (subject, problem) = text.split_once(": ").unwrap_or(("store", &text));
        FsckFinding {
            subject: subject.to_owned(),
            problem: problem.to_owned(),
            images: images_of(finding).iter().map(ToString::to_string).collect(),
            services: Vec::new(),
            repaired: !left.findings.contains(finding),
        }
    });
    FsckReport {
        objects: found.objects,
        bytes: found.bytes,
        sealed: found.sealed,
        findings: findings.collect(),
    }
}

fn images_of(finding: &Finding) -> BTreeSet<Digest> {
    match finding {
        Finding::Record { image, .. } | Finding::Tree { image, .. } => BTreeSet::from([*image]),
        Finding::Layer { images, .. } => images.clone(),
        Finding::Object { files, .. } => files.keys().copied().collect(),
    }
}

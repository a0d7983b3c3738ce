//! What the registry tests share: a real registry, a lying one, images and a store.
#![allow(dead_code, reason = "each test binary uses its part of it")]

pub mod image;
pub mod liar;
pub mod registry;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use node_images::layer::Policy;
use node_images::manifest::Platform;
use node_images::progress::{Event, Silent};
use node_images::pull::{ImageRequest, PullOptions};
use node_images::registry::{AuthFiles, Client, Patience, Pauses, RegistryConfig, RetryPolicy};
use node_images::source::Sources;
use node_images::store::{Locked, Store, Verification};
use tokio_util::sync::CancellationToken;

/// A store in a directory of its own, with the lock held.
pub struct Node {
    pub store: Store,
    pub lock: Locked,
    pub directory: tempfile::TempDir,
}

impl Node {
    pub fn new() -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "this test unpacks images and needs to run as root"
        );
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open(&directory.path().join("store")).expect("a store");
        let lock = Locked::acquire(&directory.path().join("lock")).expect("the lock");
        Node {
            store,
            lock,
            directory,
        }
    }

    /// All files with names in the store: what a failed pull must not change.
    pub fn named(&self) -> Vec<String> {
        let root = self.directory.path().join("store");
        let mut names = Vec::new();
        for part in ["objects", "trees", "images", "layers"] {
            walk(&root.join(part), &mut names);
        }
        names.sort();
        names
    }

    /// The partial downloads and their sizes.
    pub fn partials(&self) -> Vec<u64> {
        let blobs = self.directory.path().join("store/tmp/blobs");
        let entries = std::fs::read_dir(blobs).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| entry.metadata().ok())
            .map(|m| m.len())
            .collect()
    }
}

fn walk(path: &Path, names: &mut Vec<String>) {
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), names);
        } else {
            names.push(entry.path().display().to_string());
        }
    }
}

/// Pauses that take no time and are written down.
#[derive(Default)]
pub struct NoPauses(pub Mutex<Vec<Duration>>);

#[async_trait::async_trait]
impl Pauses for NoPauses {
    fn random(&self) -> f64 {
        1.0
    }

    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::UNIX_EPOCH
    }

    async fn pause(&self, length: Duration) {
        self.0.lock().expect("unpoisoned").push(length);
    }
}

/// Sources without credentials and without real pauses.
pub fn sources(config: RegistryConfig) -> (Sources, Arc<NoPauses>) {
    with_auth(config, AuthFiles::default())
}

pub fn with_auth(config: RegistryConfig, auth: AuthFiles) -> (Sources, Arc<NoPauses>) {
    with_patience(config, auth, Patience::default())
}

pub fn with_patience(
    config: RegistryConfig,
    auth: AuthFiles,
    patience: Patience,
) -> (Sources, Arc<NoPauses>) {
    let pauses = Arc::new(NoPauses::default());
    let policy = RetryPolicy {
        retries: 3,
        patience,
        ..RetryPolicy::default()
    };
    let waits: Arc<dyn Pauses> = Arc::clone(&pauses) as Arc<dyn Pauses>;
    let client = Client::with(config, auth, policy, waits).expect("a client");
    (Sources::over(client), pauses)
}

pub fn options() -> PullOptions {
    PullOptions {
        platform: Platform::host(),
        policy: Policy::default(),
        parallel: 3,
        now: jiff::Timestamp::UNIX_EPOCH,
        cancel: CancellationToken::new(),
        progress: Arc::new(Silent),
    }
}

/// Options that write down what happens.
pub fn listening() -> (PullOptions, Arc<Mutex<Vec<Event>>>) {
    let events = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&events);
    let progress = move |event| sink.lock().expect("unpoisoned").push(event);
    (
        PullOptions {
            progress: Arc::new(progress),
            ..options()
        },
        events,
    )
}

pub fn request(reference: &str, digest: node_images::digest::Digest) -> ImageRequest {
    ImageRequest {
        reference: reference.parse().expect("a reference"),
        digest,
        verification: Verification::Digest,
    }
}

/// The whole chain of causes on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

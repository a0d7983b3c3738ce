//! The seams between the engine and the world. The real ones are in `ports/real`, fakes in the tests.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use node_images::digest::Digest;
use node_images::store::{Content, Holders, Locked};
use node_runtime::launch::Running;

use crate::api::{FsckReport, ReleaseInfo, TrustStatus};
use crate::config::Settings;
use crate::definition::{Gate, Requires, Scope, When};
use crate::deployment::ImageFacts;
use crate::error::Result;
use crate::facts::Facts;
use crate::release::ReleaseDocument;
use crate::wayback::Guest;

pub mod real;

/// A release whose signature has been checked, or that the configuration accepts without one.
#[derive(Debug, Clone, PartialEq)]
pub struct TrustedRelease {
    /// What it is.
    pub info: ReleaseInfo,
    /// The release.
    pub document: ReleaseDocument,
    /// The document, byte for byte as it was signed.
    pub bytes: Vec<u8>,
}

/// What fetching images would cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PullCost {
    /// Bytes over the network.
    pub fetch: u64,
    /// Bytes the store grows by, at most.
    pub store: u64,
}

/// What a garbage collection of the store removed, or would remove.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreGc {
    /// Images.
    pub images: Vec<Digest>,
    /// Objects.
    pub objects: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Tells how far a transfer is: item, bytes done, bytes in all.
pub type Progress<'a> = &'a (dyn Fn(&str, u64, Option<u64>) + Send + Sync);

/// Releases, images and the store.
#[async_trait]
pub trait Images: Send + Sync {
    /// Fetches a release and checks its signature.
    async fn release(&self, settings: &Settings, reference: &str) -> Result<TrustedRelease>;
    /// What fetching these images of a release would cost. Writes nothing.
    async fn cost(
        &self,
        settings: &Settings,
        release: &TrustedRelease,
        names: &BTreeSet<&str>,
    ) -> Result<PullCost>;
    /// Fetches these images of a release. When it returns they are whole and durable.
    async fn pull(
        &self,
        lock: &Locked,
        settings: &Settings,
        release: &TrustedRelease,
        names: &BTreeSet<&str>,
        progress: Progress<'_>,
    ) -> Result<()>;
    /// An image of the store; `None` if it is not there, whole.
    fn facts(&self, manifest: &Digest) -> Result<Option<ImageFacts>>;
    /// Images that living processes have mounted, and these processes.
    fn in_use(&self) -> Result<Holders>;
    /// Removes what neither `keep` nor a living process needs.
    async fn gc(&self, lock: &Locked, keep: &BTreeSet<Digest>, dry_run: bool) -> Result<StoreGc>;
    /// Checks the store, reading so much of its content, and repairs it if the lock is given.
    async fn fsck(
        &self,
        settings: &Settings,
        content: Content,
        repair: Option<&Locked>,
    ) -> Result<FsckReport>;
    /// Whether the file system of the store has fs-verity; `None` if there is no store.
    fn seals(&self) -> Result<Option<bool>>;
    /// How strictly releases are checked.
    fn trust(&self) -> TrustStatus;
}

/// What a unit is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitState {
    /// Whether systemd knows it.
    pub loaded: bool,
    /// Whether it is up and ready.
    pub active: bool,
    /// Whether it is on its way up or down.
    pub changing: Changing,
    /// Whether it ended with an error.
    pub failed: bool,
    /// Its main process.
    pub main_pid: Option<u32>,
    /// How often systemd restarted it by itself since it was started.
    pub restarts: u32,
    /// What systemd says about how it ended.
    pub result: String,
    /// When it became active, in microseconds since the epoch.
    pub active_since_usec: Option<u64>,
    /// What a stop does to its processes besides the main one (`KillMode=`, systemd.kill(5)).
    pub kill_mode: String,
}

/// Whether a unit is between two states.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Changing {
    /// It is not.
    #[default]
    No,
    /// On its way up.
    Up,
    /// On its way down.
    Down,
}

/// The service manager.
#[async_trait]
pub trait Units: Send + Sync {
    /// Makes it read all units anew.
    async fn daemon_reload(&self) -> Result<()>;
    /// Starts a unit and waits for the job; the inner error says how the job ended.
    async fn start(&self, unit: &str, deadline: Duration) -> Result<std::result::Result<(), String>>;
    /// Queues the start of a unit and does not wait: for a unit that is ordered after the caller.
    async fn enqueue_start(&self, unit: &str) -> Result<()>;
    /// Stops and starts a unit in one job, which goes on when the caller is gone, and waits for it; the inner error
    /// says how the job ended.
    async fn restart(&self, unit: &str, deadline: Duration) -> Result<std::result::Result<(), String>>;
    /// Stops a unit and waits for the job; the inner error says how the job ended.
    async fn stop(&self, unit: &str, deadline: Duration) -> Result<std::result::Result<(), String>>;
    /// Forgets earlier failures, so that a start limit does not stand in the way.
    async fn reset_failed(&self, unit: &str) -> Result<()>;
    /// What a unit is doing.
    async fn state(&self, unit: &str) -> Result<UnitState>;
    /// The last lines of a unit's journal. Best effort: empty if there are none to be had.
    async fn journal(&self, unit: &str, lines: u32) -> Vec<String>;
}

/// Asks gates once.
#[async_trait]
pub trait Probes: Send + Sync {
    /// The outer error means that the question could not be asked; the inner one is the answer no.
    async fn ask(&self, service: &str, gate: &Gate, when: When) -> Result<std::result::Result<(), No>>;
    /// What a program in the service's container prints. The inner error says why it did not end well.
    async fn run(
        &self,
        service: &str,
        command: &[String],
        timeout: Duration,
    ) -> Result<std::result::Result<String, No>>;
}

/// An answer that is no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct No {
    /// Why, for people.
    pub why: String,
    /// Whose trouble that is.
    pub whose: Scope,
}

/// What a host lacks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lacking {
    /// Things a service can't do without, for people.
    pub required: Vec<String>,
    /// Things it can do without, for people.
    pub optional: Vec<String>,
}

/// The host.
#[async_trait]
pub trait Host: Send + Sync {
    /// What it knows about itself.
    fn facts(&self) -> Result<Facts>;
    /// Identity of this boot.
    fn boot_id(&self) -> Result<String>;
    /// Bytes that can still be written below this path.
    fn free_space(&self, path: &std::path::Path) -> Result<u64>;
    /// Which of these requirements it does not meet.
    async fn lacking(&self, requires: &Requires) -> Result<Lacking>;
    /// The guests that run, for people.
    fn guests(&self) -> Result<Vec<String>>;
    /// Which guests run, and on what machine types.
    fn machines(&self) -> Result<Vec<Guest>>;
    /// What these processes are, for people, guests first. Those that ended meanwhile are left out.
    fn processes(&self, pids: &BTreeSet<u32>) -> Vec<String>;
    /// What was started from what.
    fn running(&self) -> Result<Vec<Running>>;
}

/// Time.
#[async_trait]
pub trait Clock: Send + Sync {
    /// The time of day. May jump.
    fn now(&self) -> jiff::Timestamp;
    /// Time since this boot. Never jumps.
    fn monotonic(&self) -> Duration;
    /// Waits.
    async fn sleep(&self, time: Duration);
}

/// All seams together.
#[derive(Clone)]
pub struct Ports {
    /// Releases, images and the store.
    pub images: Arc<dyn Images>,
    /// The service manager.
    pub units: Arc<dyn Units>,
    /// Gates.
    pub probes: Arc<dyn Probes>,
    /// The host.
    pub host: Arc<dyn Host>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Ports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ports")
    }
}

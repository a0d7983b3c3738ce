//! What an operation would do.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::deployment::Seq;

/// How far an update of a service reaches beyond the service itself.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Disruption {
    /// Nobody notices.
    None,
    /// Only the service's own clients wait for the restart.
    #[default]
    Restart,
    /// Guests depend on it: its gates look at them before and after.
    GuestAware,
    /// The data path depends on it: its gates look at bridges and flows before and after.
    DataplaneAware,
    /// Changes only when nothing uses it any more.
    WhenDrained,
}

impl std::fmt::Display for Disruption {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Disruption::None => "none",
            Disruption::Restart => "restart",
            Disruption::GuestAware => "guest-aware",
            Disruption::DataplaneAware => "dataplane-aware",
            Disruption::WhenDrained => "when-drained",
        })
    }
}

/// What happens to a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// It is not running and will be started.
    Start,
    /// It runs something else and will be stopped and started.
    Restart,
    /// It keeps running untouched.
    Keep,
    /// It changes, but guests need it as it is: it keeps running untouched until none does.
    Pending,
    /// The new set no longer has it: it is stopped and its unit goes away.
    Retire,
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Action::Start => "start",
            Action::Restart => "restart",
            Action::Keep => "keep",
            Action::Pending => "pending",
            Action::Retire => "retire",
        })
    }
}

/// A release as people refer to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReleaseInfo {
    /// Where it came from, as the operator wrote it.
    pub reference: String,
    /// Digest of its manifest, `sha256:…`.
    pub digest: String,
    /// Name of the release.
    pub name: String,
    /// Version of the release.
    pub version: String,
    /// Who vouches for it; absent where the trust policy wants no signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<SignedBy>,
}

/// Who vouches for a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SignedBy {
    /// The repository that the signatures name.
    pub repository: String,
    /// The keys, by their files in the trust directory.
    pub keys: Vec<String>,
    /// When as many of them as the policy wants had signed; absent if they did not say.
    #[schemars(with = "Option<String>")]
    pub time: Option<jiff::Timestamp>,
}

/// One service in a plan, in the order in which it is brought up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedService {
    /// Name of the service.
    pub name: String,
    /// What happens to it.
    pub action: Action,
    /// Why, for people: `image`, `files/…`, `unit`, `not running` and so on.
    pub reason: String,
    /// How far that reaches.
    pub disruption: Disruption,
}

/// One gate that will be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedGate {
    /// Name of the service.
    pub service: String,
    /// Name of the gate.
    pub gate: String,
    /// When it is asked: `pre-start`, `pre-stop`, `post-start`, `probation`.
    pub when: Vec<String>,
}

/// One guest that runs, whatever is done below it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedGuest {
    /// Its name, as libvirt gave it to QEMU.
    pub name: String,
    /// Its machine type; absent if QEMU's command line does not have it.
    pub machine: Option<String>,
    /// Version of the QEMU that it runs in, as the image says that it was started from; absent if none does.
    pub qemu: Option<String>,
}

/// Whether the node can return to what it runs now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WayBack {
    /// Whether a rollback will be possible afterwards.
    pub open: bool,
    /// Why not, or what to know about it.
    pub notes: Vec<String>,
}

/// What a transaction would do, found out without changing anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Plan {
    /// The release the node would run.
    pub release: ReleaseInfo,
    /// The deployment the node runs now; absent on an empty node.
    pub from: Option<Seq>,
    /// The deployment it would run: an existing one, or the number a new one would get.
    pub to: Seq,
    /// Whether nothing at all would change.
    pub nothing_to_do: bool,
    /// Bytes that would come over the network.
    pub bytes_to_fetch: u64,
    /// Bytes the store would grow by, at most.
    pub bytes_to_store: u64,
    /// Every service of the old and the new set, in start order, retired ones last.
    pub services: Vec<PlannedService>,
    /// Gates of the services that change, and all probation gates.
    pub gates: Vec<PlannedGate>,
    /// Length of the probation in seconds.
    pub probation_sec: u32,
    /// The guests that run.
    #[serde(default)]
    pub guests: Vec<PlannedGuest>,
    /// Why it would be refused without `--force`: guests or nova would be worse off. Empty if nothing stands
    /// against it.
    #[serde(default)]
    pub refused: Vec<String>,
    /// Whether the way back stays open.
    pub way_back: WayBack,
    /// What the operator should know before saying yes.
    pub warnings: Vec<String>,
}

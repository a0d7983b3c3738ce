//! The container section of a service definition: how one service runs as a system container.
//! Everything here is as the release author wrote it; names of users are resolved against the
//! image only when a bundle is rendered.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::devices::Device;
use super::mounts::Mount;
use super::seccomp::Seccomp;
use super::values::{Capability, Limit, Mode};

/// How one service runs. The root file system is always read-only and the mount namespace always
/// private; all other sharing with the host has to be asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Container {
    /// What is executed and as whom.
    #[serde(default)]
    pub process: Process,
    /// Namespaces shared with the host; those not named are private to the service.
    #[serde(default)]
    pub share: BTreeSet<HostNamespace>,
    /// Host directories and files, and tmpfs, made visible inside; later ones cover earlier ones.
    #[serde(default)]
    pub mounts: Vec<Mount>,
    /// Device nodes made in the private `/dev`.
    #[serde(default)]
    pub devices: Vec<Device>,
    /// Capabilities of capabilities(7) the service and all it executes are bound by, each with the
    /// reason why. Root has them at once; another user only through setuid programs (sudo), unless
    /// `process.ambient` names them.
    #[serde(default)]
    pub capabilities: BTreeMap<Capability, String>,
    /// System call filter.
    #[serde(default)]
    pub seccomp: Seccomp,
    /// Kernel parameters of the service's private namespaces, for example `net.ipv4.ip_forward`.
    #[serde(default)]
    pub sysctl: BTreeMap<String, String>,
    /// Host directories made before the mounts if they are missing.
    #[serde(default)]
    pub directories: Vec<Directory>,
    /// Resource limits.
    #[serde(default)]
    pub limits: Limits,
}

/// The process of a service. What is absent comes from the image's configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// Command with its arguments; empty means the image's entrypoint and command.
    #[serde(default)]
    pub args: Vec<String>,
    /// Environment on top of the image's.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Working directory; absent means the image's, or `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<PathBuf>,
    /// `root`, `nova`, `64060`, `nova:nova` or `0:0`, looked up in the image's own passwd and
    /// group; absent means the image's, or root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Supplementary groups in addition to those the image's group file gives the user.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Capabilities that a user other than root has at once; each has to be among `capabilities`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub ambient: BTreeSet<Capability>,
    /// Whether execve(2) can give no new privileges (sudo and setuid programs then do not work).
    #[serde(default)]
    pub no_new_privileges: bool,
    /// File mode creation mask; absent means 0022.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub umask: Option<Mode>,
}

/// A namespace of the host that a service may run in. The mount namespace is never shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HostNamespace {
    /// Network interfaces, ports and abstract sockets.
    Network,
    /// Process ids; the service is not pid 1 then and its children outlive it if its unit lets them.
    Pid,
    /// System V IPC and POSIX message queues.
    Ipc,
    /// Host name.
    Uts,
    /// View of the cgroup hierarchy.
    Cgroup,
}

/// A host directory that is made if it is missing. Owner and mode of one that exists are left
/// alone: they belong to the state in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Directory {
    /// Absolute path on the host; missing parents are made with mode 0755 for root.
    pub path: PathBuf,
    /// Owner by the image's passwd, or a number; root if absent.
    #[serde(default = "root")]
    pub user: String,
    /// Group by the image's group file, or a number; root if absent.
    #[serde(default = "root")]
    pub group: String,
    /// Mode, 0755 if absent.
    #[serde(default = "mode_0755")]
    pub mode: Mode,
}

fn root() -> String {
    "root".to_owned()
}

fn mode_0755() -> Mode {
    Mode::new(0o755)
}

/// Resource limits of setrlimit(2) in the units of that call, and the OOM score adjustment. What
/// is absent stays as systemd set it for the unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// RLIMIT_NOFILE, highest file descriptor plus one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nofile: Option<Limit>,
    /// RLIMIT_MEMLOCK in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memlock: Option<Limit>,
    /// RLIMIT_NPROC, processes of the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nproc: Option<Limit>,
    /// RLIMIT_CORE in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub core: Option<Limit>,
    /// RLIMIT_STACK in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stack: Option<Limit>,
    /// /proc/PID/oom_score_adj, -1000 to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1000, max = 1000))]
    pub oom_score_adj: Option<i32>,
}

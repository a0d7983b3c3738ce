//! Where the test surroundings keep their things, and what they are called. Nothing is ever written elsewhere.
//!
//! All surroundings of one *instance* (network, registry, machines, cloud) are apart from those of another, down to
//! the addresses; so tests never meet the node that a demo has left running.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

static INSTANCE: OnceLock<&str> = OnceLock::new();

/// Chooses the instance of this process; the first choice holds.
pub fn choose_instance(name: &'static str) {
    INSTANCE.get_or_init(|| name);
}

/// The instance of this process: `nodectl` unless another was chosen.
pub fn instance() -> &'static str {
    INSTANCE.get_or_init(|| "nodectl")
}

/// What is running now: records and sockets. Gone with a reboot, like the things it describes.
pub fn run() -> PathBuf {
    Path::new("/run").join(format!("{}-testnode", instance()))
}

/// The disks of machines and of the registry: large, on a real file system, removed by `down`.
pub fn work() -> PathBuf {
    Path::new("/var/tmp").join(format!("{}-testnode", instance()))
}

/// The cache directory: `$NODECTL_CACHE`, or /var/cache/nodectl. All instances share it.
pub fn cache() -> PathBuf {
    std::env::var_os("NODECTL_CACHE")
        .filter(|value| !value.is_empty())
        .map_or_else(|| PathBuf::from("/var/cache/nodectl"), PathBuf::from)
}

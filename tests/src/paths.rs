//! Where the test surroundings keep their things, and what they are called. Nothing is ever written elsewhere.
//!
//! All surroundings of one *instance* (network, registry, machines, cloud) are apart from those of another, down to
//! the addresses; so tests never meet the node that a demo has left running.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

static INSTANCE: OnceLock<String> = OnceLock::new();

/// Where the run directories of all instances are.
const RUN: &str = "/run";

const SUFFIX: &str = "-testnode";

/// Chooses the instance of this process; the first choice holds.
pub fn choose_instance(name: &str) {
    INSTANCE.get_or_init(|| name.to_owned());
}

/// The instance of this process: `nodectl` unless another was chosen.
pub fn instance() -> &'static str {
    INSTANCE.get_or_init(|| "nodectl".to_owned())
}

/// The instances that have something on this host.
///
/// # Errors
/// /run cannot be listed.
pub fn instances() -> std::io::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(RUN)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        found.extend(name.strip_suffix(SUFFIX).map(str::to_owned));
    }
    found.sort();
    Ok(found)
}

/// What is running now: records and sockets. Gone with a reboot, like the things it describes.
pub fn run() -> PathBuf {
    Path::new(RUN).join(format!("{}{SUFFIX}", instance()))
}

/// The disks of machines and of the registry: large, on a real file system, removed by `down`.
pub fn work() -> PathBuf {
    Path::new("/var/tmp").join(format!("{}{SUFFIX}", instance()))
}

/// The cache directory: `$NODECTL_CACHE`, or /var/cache/nodectl. All instances share it.
pub fn cache() -> PathBuf {
    std::env::var_os("NODECTL_CACHE")
        .filter(|value| !value.is_empty())
        .map_or_else(|| PathBuf::from("/var/cache/nodectl"), PathBuf::from)
}

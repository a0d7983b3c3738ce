//! Where the test surroundings keep their things. Nothing is ever written elsewhere on the host.

use std::path::PathBuf;

/// What is running now: records, sockets, process ids. Gone with a reboot, like the things it describes.
pub const RUN: &str = "/run/nodectl-testnode";

/// The disks of machines and of the registry: large, on a real file system, removed by `down`.
pub const WORK: &str = "/var/tmp/nodectl-testnode";

/// The cache directory: `$NODECTL_CACHE`, or /var/cache/nodectl.
pub fn cache() -> PathBuf {
    std::env::var_os("NODECTL_CACHE")
        .filter(|value| !value.is_empty())
        .map_or_else(|| PathBuf::from("/var/cache/nodectl"), PathBuf::from)
}

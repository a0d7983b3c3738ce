//! Limits that the service inherits from node-run. A host or container that may not raise them gets
//! a warning instead of a service that does not start.

use nix::errno::Errno;
use nix::sys::resource::{Resource, setrlimit};

use crate::spec::container::Limits;

/// Applies the limits to this process.
pub(super) fn apply(limits: &Limits) {
    let resources = [
        ("nofile", Resource::RLIMIT_NOFILE, limits.nofile),
        ("memlock", Resource::RLIMIT_MEMLOCK, limits.memlock),
        ("nproc", Resource::RLIMIT_NPROC, limits.nproc),
        ("core", Resource::RLIMIT_CORE, limits.core),
        ("stack", Resource::RLIMIT_STACK, limits.stack),
    ];
    for (name, resource, limit) in resources {
        let Some(limit) = limit else { continue };
        match setrlimit(resource, limit.soft, limit.hard) {
            Ok(()) => {}
            Err(Errno::EPERM) => warn(name, "not permitted here"),
            Err(e) => warn(name, e.desc()),
        }
    }
    if let Some(adjust) = limits.oom_score_adj
        && let Err(e) = std::fs::write("/proc/self/oom_score_adj", adjust.to_string())
    {
        warn("oom_score_adj", &e.to_string());
    }
}

fn warn(limit: &str, why: &str) {
    tracing::warn!("limit {limit} stays as it is: {why}");
}

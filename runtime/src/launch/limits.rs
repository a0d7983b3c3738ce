//! Limits that the service inherits from node-run. A host or container that may not raise them gets
//! a warning instead of a service that does not start.

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

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
            Err(Errno::EPERM) => up_to_hard_limit(name, resource, limit.soft),
            Err(e) => warn(name, e.desc()),
        }
    }
    if let Some(adjust) = limits.oom_score_adj
        && let Err(e) = std::fs::write("/proc/self/oom_score_adj", adjust.to_string())
    {
        warn("oom_score_adj", &e.to_string());
    }
}

/// Without CAP_SYS_RESOURCE the soft limit can still go as far as the hard one.
fn up_to_hard_limit(name: &str, resource: Resource, soft: u64) {
    let applied = getrlimit(resource).and_then(|(_, hard)| {
        let most = soft.min(hard);
        setrlimit(resource, most, hard).map(|()| most)
    });
    match applied {
        Ok(most) if most == soft => {}
        Ok(most) => tracing::warn!("limit {name} is {most}: raising it further is not permitted here"),
        Err(e) => warn(name, e.desc()),
    }
}

fn warn(limit: &str, why: &str) {
    tracing::warn!("limit {limit} stays as it is: {why}");
}

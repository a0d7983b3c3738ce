//! The real ports: the store and registries, systemd, the host.

mod clock;
mod guests;
mod host;
mod images;
mod mend;
mod meter;
mod probes;
mod trouble;
mod trust;
mod units;

use std::sync::Arc;

use super::Ports;
use crate::root::Roots;

/// What of the host is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Early boot: no bus runs yet, only systemd's private socket is there.
    Boot,
    /// Everything.
    Up,
}

/// The ports of this host.
/// Nothing is opened before the first call.
pub fn ports(roots: &Roots, stage: Stage) -> Ports {
    let units = Arc::new(units::Systemd1::new(stage));
    Ports {
        images: Arc::new(images::StoreAndRegistries::new(roots)),
        probes: Arc::new(probes::Prober::new(roots, units.clone())),
        units,
        host: Arc::new(host::ThisHost::new(roots)),
        clock: Arc::new(clock::SystemClock),
    }
}

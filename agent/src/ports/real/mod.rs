//! The real ports: the store and registries, systemd, the host.

mod clock;
mod host;
mod images;
mod mend;
mod meter;
mod probes;
mod trouble;
mod units;

use std::sync::Arc;

use super::Ports;
use crate::error::Result;
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
///
/// # Errors
/// The store can't be opened.
pub fn ports(roots: &Roots, stage: Stage) -> Result<Ports> {
    let units = Arc::new(units::Systemd1::new(stage));
    Ok(Ports {
        images: Arc::new(images::StoreAndRegistries::open(roots)?),
        probes: Arc::new(probes::Prober::new(roots, units.clone())),
        units,
        host: Arc::new(host::ThisHost::new(roots)),
        clock: Arc::new(clock::SystemClock::new()),
    })
}

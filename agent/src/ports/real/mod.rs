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

/// The ports of this host.
///
/// # Errors
/// The store can't be opened.
pub fn ports(roots: &Roots) -> Result<Ports> {
    let units = Arc::new(units::Systemd1::new());
    Ok(Ports {
        images: Arc::new(images::StoreAndRegistries::open(roots)?),
        probes: Arc::new(probes::Prober::new(roots, units.clone())),
        units,
        host: Arc::new(host::ThisHost::new(roots)),
        clock: Arc::new(clock::SystemClock::new()),
    })
}

//! Capabilities of a service.

use std::collections::{BTreeMap, HashSet};

use oci_spec::runtime::{Capability as OciCapability, LinuxCapabilities, LinuxCapabilitiesBuilder};

use super::values::Capability;
use super::{SpecError, oci};

/// The five sets of capabilities(7). Root keeps its capabilities through execve(2) by itself; any
/// other user needs them ambient.
pub(super) fn render(
    capabilities: &BTreeMap<Capability, String>,
    uid: u32,
) -> Result<LinuxCapabilities, SpecError> {
    let set = capabilities
        .keys()
        .map(convert)
        .collect::<Result<HashSet<_>, _>>()?;
    let kept = if uid == 0 { HashSet::new() } else { set.clone() };
    LinuxCapabilitiesBuilder::default()
        .bounding(set.clone())
        .effective(set.clone())
        .permitted(set)
        .inheritable(kept.clone())
        .ambient(kept)
        .build()
        .map_err(oci("capabilities"))
}

fn convert(capability: &Capability) -> Result<OciCapability, SpecError> {
    let value = serde_json::Value::String(capability.name().to_owned());
    serde_json::from_value(value).map_err(|_| {
        SpecError::invalid(
            "capabilities",
            format!("{capability} is not known to the OCI types"),
        )
    })
}

/// Whether a service has this capability (by its full name).
pub(super) fn has(capabilities: &BTreeMap<Capability, String>, name: &str) -> bool {
    capabilities.keys().any(|capability| capability.name() == name)
}

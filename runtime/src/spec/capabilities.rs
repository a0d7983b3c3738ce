//! Capabilities of a service.

use std::collections::{BTreeMap, HashSet};

use oci_spec::runtime::{Capability as OciCapability, LinuxCapabilities, LinuxCapabilitiesBuilder};

use super::container::Container;
use super::values::Capability;
use super::{SpecError, oci};

/// The five sets of capabilities(7). Root keeps what the bounding set allows through execve(2);
/// any other user only what is ambient.
pub(super) fn render(container: &Container, uid: u32) -> Result<LinuxCapabilities, SpecError> {
    let ambient = &container.process.ambient;
    if let Some(stray) = ambient
        .iter()
        .find(|cap| !container.capabilities.contains_key(cap))
    {
        let reason = format!("{stray} is not among the service's capabilities");
        return Err(SpecError::invalid("process.ambient", reason));
    }
    let bounding = container
        .capabilities
        .keys()
        .map(convert)
        .collect::<Result<HashSet<_>, _>>()?;
    let ambient = ambient.iter().map(convert).collect::<Result<HashSet<_>, _>>()?;
    let held = if uid == 0 {
        bounding.clone()
    } else {
        ambient.clone()
    };
    LinuxCapabilitiesBuilder::default()
        .bounding(bounding)
        .effective(held.clone())
        .permitted(held)
        .inheritable(ambient.clone())
        .ambient(ambient)
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

/// The OCI form as the set that goes to the kernel.
pub(crate) fn kernel_set<'a>(of: impl IntoIterator<Item = &'a OciCapability>) -> caps::CapsHashSet {
    let name = |capability: &OciCapability| serde_json::to_value(capability).ok();
    of.into_iter()
        .filter_map(|capability| name(capability)?.as_str()?.parse::<caps::Capability>().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_capability_of_the_kernel_survives_the_conversions() {
        for capability in caps::all() {
            let own = Capability::try_from(capability.to_string()).unwrap();
            assert_eq!(kernel_set(&[convert(&own).unwrap()]), [capability].into());
        }
    }
}

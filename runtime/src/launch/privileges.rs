//! Capabilities of a service that this host withholds even from root, as a nested container does. The
//! service is started without them and its journal says so, as with limits: what it really needs them
//! for then fails by name, and the rest works.

use std::collections::HashSet;

use caps::{CapSet, CapsHashSet};
use oci_spec::runtime::{Capability, LinuxCapabilities, Spec};

use super::StartError;
use crate::spec::capabilities::kernel_set;

/// Takes out of the configuration what this process could not give.
pub(super) fn fit(spec: &mut Spec) -> Result<(), StartError> {
    let Some(mut wanted) = spec.process().as_ref().and_then(|p| p.capabilities().clone()) else {
        return Ok(());
    };
    let held = caps::read(None, CapSet::Permitted)
        .map_err(|e| StartError::call("read capabilities")(std::io::Error::other(e.to_string())))?;
    for capability in withhold(&mut wanted, &held) {
        tracing::warn!("runs without {capability}: this host does not give it");
    }
    if let Some(process) = spec.process_mut() {
        process.set_capabilities(Some(wanted));
    }
    Ok(())
}

/// Reduces all sets to what is held; the answer is what was lost from the bounding set, by name.
fn withhold(wanted: &mut LinuxCapabilities, held: &CapsHashSet) -> Vec<String> {
    let given = |set: &Option<HashSet<Capability>>| {
        set.as_ref().map(|set| {
            set.iter()
                .copied()
                .filter(|c| kernel_set([c]).is_subset(held))
                .collect()
        })
    };
    let all = wanted.bounding().clone().unwrap_or_default();
    let mut lost: Vec<String> = kernel_set(&all)
        .difference(held)
        .map(ToString::to_string)
        .collect();
    lost.sort_unstable();
    wanted.set_bounding(given(wanted.bounding()));
    wanted.set_effective(given(wanted.effective()));
    wanted.set_permitted(given(wanted.permitted()));
    wanted.set_inheritable(given(wanted.inheritable()));
    wanted.set_ambient(given(wanted.ambient()));
    lost
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_held_is_taken_out_of_every_set() {
        let both: HashSet<_> = [Capability::Chown, Capability::SysResource].into();
        let mut wanted = LinuxCapabilities::default();
        wanted
            .set_bounding(Some(both.clone()))
            .set_effective(Some(both.clone()))
            .set_ambient(Some(both));
        let held: CapsHashSet = [caps::Capability::CAP_CHOWN, caps::Capability::CAP_KILL].into();
        assert_eq!(withhold(&mut wanted, &held), ["CAP_SYS_RESOURCE"]);
        let chown: HashSet<_> = [Capability::Chown].into();
        assert_eq!(wanted.bounding(), &Some(chown.clone()));
        assert_eq!(wanted.effective(), &Some(chown.clone()));
        assert_eq!(wanted.ambient(), &Some(chown));
        assert_eq!(withhold(&mut wanted, &held), Vec::<String>::new());
    }
}

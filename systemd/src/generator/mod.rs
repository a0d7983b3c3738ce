//! What the boot-time generator emits (systemd.generator(7)).
//!
//! systemd runs the generator at boot and at each daemon-reload, before it reads unit files. It copies
//! the units of the current deployment into the generator directory, so that a boot needs neither the
//! daemon nor D-Bus and always sees one whole deployment. Copies, never links: a link would let
//! `systemctl enable` pin one deployment's file in /etc for ever.
//!
//! [`plan`] decides over plain data; [`host`] reads that data, [`write`] carries the plan out.
//! A generator must never stop the boot: what is damaged is reported and left out.

pub mod host;
mod install_section;
pub mod write;

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    name::UnitName,
    render::{RECOVER_SERVICE, SERVICES_TARGET},
};
use install_section::Install;

/// Reloads and starts the services once the state directory is mounted. Part of the installation.
pub const LATE_MOUNT_SERVICE: &str = "nodectl-late-mount.service";

/// Where the units of the installation are.
const INSTALLED: &str = "/usr/lib/systemd/system";

/// Shuts the guests down before what they need. Part of the installation.
const GUESTS_SERVICE: &str = "nodectl-guests.service";

/// The target that libvirt orders the scopes of guests before (virsystemd.c). It is no part of the installation, since
/// a libvirt of the host's own brings one of that name.
const GUESTS_TARGET: &str = "virt-guest-shutdown.target";

const GUESTS_TARGET_TEXT: &str = "# Written by nodectl\n[Unit]\nDescription=Guests are shut down before this stops\n\
                                  Documentation=man:nodectl(1)\n";

/// The target that starts what must run at boot whatever the services say.
const BOOT_TARGET: &str = "multi-user.target";

/// One unit file as found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitSource {
    /// Its file name.
    pub name: UnitName,
    /// Its text.
    pub text: String,
}

/// All that decides what is emitted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inputs {
    /// The operator said `nodectl.disable` on the kernel command line.
    pub disabled: bool,
    /// Units of the current deployment; `None` if there is none or its file system is not mounted yet.
    pub current: Option<Vec<UnitSource>>,
    /// Units that the current deployment no longer has, of services that still run.
    pub retired: Vec<UnitSource>,
    /// A transaction was open when the node last went down, or is open now.
    pub transaction_open: bool,
    /// There are deployments and none is current: something was lost.
    pub adrift: bool,
}

/// One thing to put into the generator directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Emit {
    /// A file with this text.
    File(String),
    /// A symbolic link to this path.
    Link(String),
}

/// Everything to put into the generator directory, by path below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// By path below the generator directory.
    pub entries: BTreeMap<String, Emit>,
    /// What was left out, for people.
    pub messages: Vec<String>,
}

impl Plan {
    /// Adds a unit file; false if there is one of that name already.
    fn file(&mut self, unit: &UnitSource) -> bool {
        let name = unit.name.to_string();
        if self.entries.contains_key(&name) {
            return false;
        }
        self.entries.insert(name, Emit::File(unit.text.clone()));
        true
    }

    fn wants(&mut self, target: &str, unit: &str, to: String) {
        self.entries
            .insert(format!("{target}.wants/{unit}"), Emit::Link(to));
    }

    fn wants_installed(&mut self, target: &str, unit: &str) {
        self.wants(target, unit, format!("{INSTALLED}/{unit}"));
    }
}

/// Decides what the generator emits.
#[must_use]
pub fn plan(inputs: &Inputs) -> Plan {
    let mut plan = Plan::default();
    if inputs.disabled {
        return plan;
    }
    let mut targets = BTreeSet::from([BOOT_TARGET.to_owned(), SERVICES_TARGET.to_owned()]);
    match &inputs.current {
        Some(units) => {
            targets.extend(emit_current(&mut plan, units));
            if !units.is_empty() {
                plan.wants_installed(BOOT_TARGET, SERVICES_TARGET);
            }
        }
        None => plan.wants_installed(BOOT_TARGET, LATE_MOUNT_SERVICE),
    }
    for unit in &inputs.retired {
        // Without links: it is there to be stopped, not to be started at the next boot.
        plan.file(unit);
    }
    let units = inputs.current.iter().flatten().chain(&inputs.retired);
    if units.into_iter().any(|unit| unit.text.contains(GUESTS_SERVICE)) {
        plan.entries.insert(
            GUESTS_TARGET.to_owned(),
            Emit::File(GUESTS_TARGET_TEXT.to_owned()),
        );
    }
    if inputs.transaction_open || inputs.adrift {
        for target in &targets {
            plan.wants_installed(target, RECOVER_SERVICE);
        }
    }
    plan
}

/// Emits the units, then their links; returns the targets that start any of them.
fn emit_current(plan: &mut Plan, units: &[UnitSource]) -> BTreeSet<String> {
    for unit in units {
        plan.file(unit);
    }
    let mut targets = BTreeSet::new();
    for unit in units {
        let install = Install::parse(&unit.text);
        for word in &install.refused {
            plan.messages.push(format!(
                "{}: [Install] names {word:?}, which is no unit",
                unit.name
            ));
        }
        for alias in &install.alias {
            emit_alias(plan, alias, &unit.name);
        }
        for target in &install.wanted_by {
            plan.wants(target.as_str(), unit.name.as_str(), format!("../{}", unit.name));
            targets.insert(target.to_string());
        }
        if !install.wanted_by.is_empty() {
            plan.wants(SERVICES_TARGET, unit.name.as_str(), format!("../{}", unit.name));
        }
    }
    targets
}

/// An alias is a link beside the unit; a unit or an earlier alias of that name wins.
fn emit_alias(plan: &mut Plan, alias: &UnitName, unit: &UnitName) {
    if alias == unit {
        return;
    }
    if plan.entries.contains_key(alias.as_str()) {
        plan.messages.push(format!(
            "{unit}: the alias {alias} is the name of another unit, left out"
        ));
        return;
    }
    plan.entries
        .insert(alias.to_string(), Emit::Link(unit.to_string()));
}

#[cfg(test)]
mod tests;

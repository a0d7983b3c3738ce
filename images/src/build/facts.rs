//! What an image must say about itself so that the way back can be judged without starting it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Label with nova's service version, by which a control plane tells releases apart.
pub const NOVA_SERVICE_VERSION: &str = "org.nodectl.nova.service-version";
/// Label with the oldest nova service version that nova-compute starts beside (`OLDEST_SUPPORTED_SERVICE_VERSION`).
pub const NOVA_OLDEST_VERSION: &str = "org.nodectl.nova.oldest-service-version";
/// Label with the version of Open vSwitch's database schema.
pub const OVS_SCHEMA_VERSION: &str = "org.nodectl.ovs.schema-version";
/// Label with the machine types that QEMU can run, separated by commas.
pub const QEMU_MACHINES: &str = "org.nodectl.qemu.machine-types";
/// Prefix of the labels with the version of each package that the definition asks for.
pub const PACKAGE: &str = "org.nodectl.package.";

/// Path of nova's service object in a root.
pub const NOVA_SERVICE: &str = "/usr/lib/python3/dist-packages/nova/objects/service.py";
/// Path of Open vSwitch's database schema in a root.
pub const OVS_SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";

/// The facts, each where the image has the program that it is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// `SERVICE_VERSION` of nova.
    pub nova_service_version: Option<u32>,
    /// `OLDEST_SUPPORTED_SERVICE_VERSION` of nova, as a number.
    pub nova_oldest_version: Option<u32>,
    /// `version` of the schema `Open_vSwitch`.
    pub ovs_schema_version: Option<String>,
    /// Machine types of QEMU for the image's own architecture.
    pub qemu_machines: Vec<String>,
}

impl Facts {
    /// As labels.
    #[must_use]
    pub fn labels(&self) -> BTreeMap<String, String> {
        let nova = self
            .nova_service_version
            .map(|v| (NOVA_SERVICE_VERSION, v.to_string()));
        let oldest = self
            .nova_oldest_version
            .map(|v| (NOVA_OLDEST_VERSION, v.to_string()));
        let ovs = self.ovs_schema_version.clone().map(|v| (OVS_SCHEMA_VERSION, v));
        let qemu = (!self.qemu_machines.is_empty()).then(|| (QEMU_MACHINES, self.qemu_machines.join(",")));
        let all = nova.into_iter().chain(oldest).chain(ovs).chain(qemu);
        all.map(|(key, value)| (key.to_owned(), value)).collect()
    }
}

/// `SERVICE_VERSION` from the text of nova's `objects/service.py`.
#[must_use]
pub fn nova_service_version(text: &str) -> Option<u32> {
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix("SERVICE_VERSION = "))?;
    value.trim().parse().ok()
}

/// The number that `SERVICE_VERSION_ALIASES` gives to `OLDEST_SUPPORTED_SERVICE_VERSION` in that text.
#[must_use]
pub fn nova_oldest_version(text: &str) -> Option<u32> {
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("OLDEST_SUPPORTED_SERVICE_VERSION = "))?
        .trim();
    let aliases = text
        .split_once("\nSERVICE_VERSION_ALIASES = {")?
        .1
        .split_once('}')?
        .0;
    let number = aliases.split(',').find_map(|pair| {
        let (alias, number) = pair.split_once(':')?;
        (alias.trim() == name).then_some(number)
    })?;
    number.trim().parse().ok()
}

/// `version` from the text of `vswitch.ovsschema`.
#[must_use]
pub fn ovs_schema_version(text: &str) -> Option<String> {
    let schema: serde_json::Value = serde_json::from_str(text).ok()?;
    Some(schema.get("version")?.as_str()?.to_owned())
}

/// Names from the output of `qemu-system-… -machine help`, without the one that runs nothing.
#[must_use]
pub fn qemu_machines(text: &str) -> Vec<String> {
    let rows = text.lines().filter(|line| !line.ends_with(':'));
    let names = rows.filter_map(|line| line.split_whitespace().next());
    names
        .filter(|name| *name != "none")
        .map(ToOwned::to_owned)
        .collect()
}

/// QEMU's name of Debian's architecture.
#[must_use]
pub fn qemu_architecture(debian: &str) -> &str {
    match debian {
        "amd64" => "x86_64",
        "arm64" => "aarch64",
        "ppc64el" => "ppc64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_come_from_what_the_components_ship() {
        let service = "# c\nSERVICE_VERSION = 64\n\nSERVICE_VERSION_HISTORY = (\n";
        assert_eq!(nova_service_version(service), Some(64));
        assert_eq!(nova_service_version("SERVICE_VERSION_HISTORY = ("), None);
        let aliases = "OLDEST_SUPPORTED_SERVICE_VERSION = 'Yoga'\nSERVICE_VERSION_ALIASES = {\n    'Xena': 57,\n    \
                       'Yoga': 61,\n}\n";
        assert_eq!(nova_oldest_version(aliases), Some(61));
        assert_eq!(nova_oldest_version(&aliases.replace("'Yoga':", "'Zed':")), None);
        let schema = r#"{"name": "Open_vSwitch", "version": "8.3.1", "tables": {}}"#;
        assert_eq!(ovs_schema_version(schema).as_deref(), Some("8.3.1"));
        let help = "Supported machines are:\nmicrovm              microvm (i386)\n\
                    pc                   Standard PC (alias of pc-i440fx-7.2)\nnone                 empty machine\n";
        assert_eq!(qemu_machines(help), ["microvm", "pc"]);
    }

    #[test]
    fn only_known_facts_become_labels() {
        assert!(Facts::default().labels().is_empty());
        let facts = Facts {
            nova_service_version: Some(64),
            nova_oldest_version: Some(61),
            ovs_schema_version: None,
            qemu_machines: vec!["pc".to_owned(), "q35".to_owned()],
        };
        let labels = facts.labels();
        assert_eq!(labels[NOVA_SERVICE_VERSION], "64");
        assert_eq!(labels[QEMU_MACHINES], "pc,q35");
        assert_eq!(labels[NOVA_OLDEST_VERSION], "61");
        assert_eq!(labels.len(), 3);
    }
}

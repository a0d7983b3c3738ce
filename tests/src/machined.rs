//! A node whose systemd-machined is away: neither running nor to be activated, as where the package is missing.

use anyhow::Result;

use crate::node::Node;

const ACTIVATION: &str = "/usr/share/dbus-1/system-services/org.freedesktop.machine1.service";
const AWAY: &str = "/root/machine1.service";

/// Takes machined away. libvirtd remembers whether there was one until its next start.
///
/// # Errors
/// systemd or the bus refuses it.
pub fn take_away(node: &Node) -> Result<()> {
    node.run(["mv", ACTIVATION, AWAY])?;
    node.run(["systemctl", "mask", "--runtime", "--now", "systemd-machined"])?;
    reload_bus(node)
}

/// Brings it back; libvirtd does not notice until its next start.
///
/// # Errors
/// As [`take_away`].
pub fn bring_back(node: &Node) -> Result<()> {
    node.run(["mv", AWAY, ACTIVATION])?;
    node.run(["systemctl", "unmask", "--runtime", "systemd-machined"])?;
    reload_bus(node)?;
    node.run(["systemctl", "start", "systemd-machined"]).map(drop)
}

fn reload_bus(node: &Node) -> Result<()> {
    let bus = "org.freedesktop.DBus";
    node.run(["busctl", "call", bus, "/", bus, "ReloadConfig"])
        .map(drop)
}

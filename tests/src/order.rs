//! In which order a node's systemd stopped and started things around a reboot.

use anyhow::{Context, Result, ensure};

use crate::node::Node;

/// Where the network of Debian's ifupdown stands among other units, and cloud-init, for which `sysinit.target` waits.
const STAND_INS: [(&str, &str); 2] = [
    (
        "networking.service",
        "DefaultDependencies=no\nAfter=local-fs.target network-pre.target\nBefore=network.target\n\
         Wants=network.target",
    ),
    (
        "cloud-init.service",
        "DefaultDependencies=no\nAfter=networking.service\nBefore=sysinit.target",
    ),
];

/// At the end of the boot before this one, what is named stopped for the last time in this order. The names are parts of what
/// systemd said.
///
/// # Errors
/// Another order, or one of them is not in the journal.
pub fn stopped_in_order(node: &Node, order: &[&str]) -> Result<()> {
    let journal = said_by_systemd(node, "--boot=-1", 400)?;
    let lines: Vec<&str> = journal.lines().filter(|line| line.starts_with("Stopp")).collect();
    let place = |what: &&str| {
        let found = lines.iter().rposition(|line| line.contains(what));
        found.with_context(|| format!("no {what:?} in:\n{}", lines.join("\n")))
    };
    let places: Vec<usize> = order.iter().map(place).collect::<Result<_>>()?;
    ensure!(places.is_sorted(), "another order:\n{}", lines.join("\n"));
    Ok(())
}

/// From the next boot on, an address is configured on an interface by systemd-networkd, ifupdown has something to do,
/// and cloud-init waits for it.
///
/// # Errors
/// A file can't be written, or systemd refuses it.
pub fn network_on(node: &Node, interface: &str, address: &str) -> Result<()> {
    let network = format!(
        "[Match]\nName={interface}\n[Network]\nAddress={address}\nLinkLocalAddressing=no\n\
         ConfigureWithoutCarrier=yes\n"
    );
    node.write("/etc/systemd/network/50-test.network", network)?;
    for (unit, ordering) in STAND_INS {
        let text = format!(
            "[Unit]\n{ordering}\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n\
             [Install]\nWantedBy=multi-user.target\n"
        );
        node.write(&format!("/etc/systemd/system/{unit}"), text)?;
        node.run(["systemctl", "enable", unit])?;
    }
    node.run(["systemctl", "enable", "systemd-networkd"]).map(drop)
}

/// In this boot a switch was up before whatever configures the network on top of it, the address is there, and systemd
/// had to break no ordering cycle.
///
/// # Errors
/// One of them is not so.
pub fn network_after(node: &Node, switch: &str, interface: &str, address: &str) -> Result<()> {
    let cycles = said_by_systemd(node, "--boot=0", 5000)?;
    let cycles: Vec<&str> = cycles.lines().filter(|l| l.contains("ordering cycle")).collect();
    ensure!(cycles.is_empty(), "{cycles:?}");
    let up = moment(node, switch, "ActiveEnterTimestampMonotonic")?;
    for unit in ["systemd-networkd", "networking", "cloud-init"] {
        let began = moment(node, unit, "InactiveExitTimestampMonotonic")?;
        ensure!(
            up < began,
            "{unit} began at {began} us, {switch} was up at {up} us"
        );
    }
    let wait = "/lib/systemd/systemd-networkd-wait-online";
    node.run([wait, &format!("--interface={interface}"), "--timeout=60"])?;
    let there = node.run(["ip", "-brief", "-4", "address", "show", "dev", interface])?;
    ensure!(there.contains(address), "{interface} has {there}");
    Ok(())
}

/// When something happened to a unit, in microseconds of the kernel's clock.
fn moment(node: &Node, unit: &str, what: &str) -> Result<u64> {
    let said = node.run(["systemctl", "show", "--value", "--property", what, unit])?;
    let moment = said
        .trim()
        .parse()
        .with_context(|| format!("{what} of {unit}: {said:?}"))?;
    ensure!(moment > 0, "{unit} was never started in this boot");
    Ok(moment)
}

fn said_by_systemd(node: &Node, boot: &str, lines: u32) -> Result<String> {
    let lines = format!("--lines={lines}");
    node.run(["journalctl", boot, "--output=cat", "--identifier=systemd", &lines])
}

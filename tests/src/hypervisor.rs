//! A node on a kernel of its own with the real libvirt and Open vSwitch, from images, and without a cloud: where it
//! shows what becomes of guests and of traffic.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;

use crate::node::{Kind, Name, Node, Setup};
use crate::nodectl;
use crate::progress::Progress;
use crate::publish::{Image, Publisher, trust_policy};
use crate::registry;

/// What it runs, in the order in which it starts.
pub const SERVICES: [&str; 4] = ["ovsdb-server", "ovs-vswitchd", "virtlogd", "libvirtd"];

/// What its releases consist of.
const IMAGES: [Image; 3] = [
    Image::first("openvswitch"),
    Image::first("libvirt"),
    Image::first("nova-compute"),
];

/// Images and releases in the lab's registry, and who signs them. `stage` is what `make install DESTDIR=` has installed.
///
/// # Errors
/// An image cannot be built, or the registry refuses one.
pub fn publisher(stage: &Path, progress: &Progress) -> Result<Publisher> {
    registry::up()?;
    let publisher = Publisher::of(stage, &IMAGES)?;
    publisher.build_images(progress)?;
    publisher.push_images(progress)?;
    Ok(publisher)
}

/// On which kind of machine a test is to run: `$NODECTL_E2E_KIND`, `uml` or `vm`; user-mode-linux if it says nothing.
///
/// # Panics
/// It is neither.
pub fn kind() -> Kind {
    match std::env::var("NODECTL_E2E_KIND").as_deref() {
        Ok("vm") => Kind::Vm,
        Ok("uml") | Err(_) => Kind::Uml,
        Ok(other) => panic!("NODECTL_E2E_KIND is {other:?}, neither uml nor vm"),
    }
}

/// A node that has booted and knows whom to trust; nothing is installed on it yet.
///
/// # Errors
/// It does not boot, or a file cannot be written.
pub fn boot(name: &Name, kind: Kind, stage: &Path, publisher: &Publisher) -> Result<Node> {
    let node = Node::up(name, &Setup::node_on(kind)?.install(stage))?;
    configure(&node, &SERVICES, publisher)?;
    Ok(node)
}

/// The node runs these services of a release; what a cloud would tell it is made up.
///
/// # Errors
/// A file cannot be written.
pub fn configure(node: &Node, services: &[&str], publisher: &Publisher) -> Result<()> {
    let mut text = format!(
        "services = {services:?}\n\n[registries]\ninsecure_http = [\"{}\"]\n\n[parameters]\nmy_ip = \"{}\"\n",
        registry::from_nodes(),
        node.address()
    );
    for name in ["keystone_url", "glance_url"] {
        writeln!(text, "{name} = \"http://192.0.2.1\"")?;
    }
    node.write("/etc/nodectl/node.toml", text)?;
    node.write("/etc/nodectl/trust/policy.toml", trust_policy())?;
    node.write("/etc/nodectl/trust/release.pub", publisher.public_key()?)
}

/// Upgrades and tells what nodectl reports meanwhile; returns what it printed.
///
/// # Errors
/// The exit code is not 0.
pub fn upgrade(node: &Node, release: &str, progress: &Progress) -> Result<String> {
    nodectl::telling(node, &["upgrade", release], progress)?.expect(0)
}

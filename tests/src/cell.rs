//! A compute node that is the only one of its cell, with releases that differ in what its cell thinks of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cloud::{Cloud, Service};
use crate::control_plane::{self, Pending};
use crate::guests::virsh;
use crate::node::{Name, Node, Setup};
use crate::paths;
use crate::progress::Progress;
use crate::publish::{Image, Publisher};
use crate::story::Story;
use crate::{compute, configuration, moves};

/// The node's name, and its host name in the cloud.
pub const NODE: &str = "node1";

/// nova's service object in an image.
const SERVICE: &str = "usr/lib/python3/dist-packages/nova/objects/service.py";

/// Release and image tag of a nova-compute that is one service version older than Debian's.
const OLDER: u32 = 4;

/// Release of another libvirt.
const LIBVIRT: &str = "5";

/// The node, its cloud, and where it can be moved.
#[derive(Debug)]
pub struct Lab {
    /// On release `older` at first; it drains its compute service.
    pub node: Node,
    /// Its cloud.
    pub cloud: Cloud,
    /// The releases.
    pub releases: Releases,
}

/// References of releases, as the node uses them.
#[derive(Debug)]
pub struct Releases {
    /// Version 4: nova-compute has a service version that is one below that of all others.
    pub older: String,
    /// Version 1.
    pub newer: String,
    /// Version 3: nova-compute ends at once.
    pub broken: String,
    /// Version 5: as version 1, with another image of libvirt.
    pub libvirt: String,
}

/// Everything up, the node on the release with the older nova-compute.
///
/// # Errors
/// A step failed; the error begins with its number and name.
pub fn lab(story: &mut Story, stage: &Path) -> Result<Lab> {
    let pending = Pending::begin();
    compute::registry_serves(story)?;
    let measure = [Image::first("ceilometer"), Image::first("exporters")];
    let publisher = Publisher::with(stage, &measure)?;
    let releases = publish(story, &publisher)?;
    let name = Name::parse(NODE)?;
    let node = compute::node_boots(story, &name, &Setup::node()?.install(stage))?;
    let cloud = compute::control_plane_serves(story, pending)?;
    configuration::node_is_configured(&node, &cloud.access()?, &publisher)?;
    node.run([
        "sh",
        "-c",
        "printf '\\n[drain]\\nnova = true\\n' >>/etc/nodectl/node.toml",
    ])?;
    compute::guests_are_not_waited_for(&node)?;
    moves::empty_node_upgrades(story, &node, &releases.older)?;
    compute::cloud_sees_compute(story, &cloud, &name)?;
    Ok(Lab {
        node,
        cloud,
        releases,
    })
}

/// In this order: a node does not go to a release that was signed before the one that it runs.
fn publish(story: &mut Story, publisher: &Publisher) -> Result<Releases> {
    story.step(
        "releases with an older, a newer and a broken nova-compute, and with another libvirt",
        |progress| {
            publisher.build_images(progress)?;
            publisher.push_images(progress)?;
            let older = "nova-compute-older";
            publisher.define_image(older, &older_nova(older, &control_plane::layers(progress)?)?)?;
            publisher.build_image(older, progress)?;
            publisher.push_image(older, "nova-compute", &OLDER.to_string())?;
            Ok(Releases {
                older: publisher.publish_release(OLDER)?,
                newer: publisher.publish_release(1)?,
                broken: publisher.publish_release(3)?,
                libvirt: another_libvirt(publisher, progress)?,
            })
        },
    )
}

/// The same files and one package more.
fn another_libvirt(publisher: &Publisher, progress: &Progress) -> Result<String> {
    let name = "libvirt-2";
    let text = format!(
        "format = 1\nname = \"{name}\"\ndescription = \"build 2\"\nbase = \"libvirt\"\npackages = [\"sysfsutils\"]\n"
    );
    publisher.define_image(name, &text)?;
    publisher.build_image(name, progress)?;
    publisher.push_image(name, "libvirt", "2")?;
    let definition = paths::work().join("publish/releases/compute.toml");
    let images = [
        ("openvswitch", "1"),
        ("libvirt", "2"),
        ("nova-compute", "1"),
        ("neutron", "1"),
        ("ceilometer", "1"),
        ("exporters", "1"),
    ];
    publisher.publish(&definition, LIBVIRT, &images)
}

/// Definition of an image whose nova says that it is older than it is.
fn older_nova(name: &str, layers: &[PathBuf]) -> Result<String> {
    let path = layers
        .iter()
        .map(|layer| layer.join(SERVICE))
        .find(|path| path.exists());
    let path = path.context("the control plane has no nova")?;
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let line = text.lines().find(|line| line.starts_with("SERVICE_VERSION = "));
    let line = line.context("nova has no SERVICE_VERSION")?;
    let version: u32 = line.trim_start_matches("SERVICE_VERSION = ").parse()?;
    // Longer than before: Python takes a compiled file for current by the time and the size of its source.
    let older = text.replacen(line, &format!("# older\nSERVICE_VERSION = {}", version - 1), 1);
    Ok(format!(
        "format = 1\nname = \"{name}\"\ndescription = \"an older nova-compute\"\nbase = \"nova-compute\"\n\
         [[files]]\npath = \"/{SERVICE}\"\nmode = \"0644\"\ncontent = {}\n",
        serde_json::to_string(&older)?
    ))
}

impl Lab {
    /// nova-compute of the node in nova's eyes.
    ///
    /// # Errors
    /// nova has none.
    pub fn service(&self) -> Result<Service> {
        let services = self.cloud.services()?;
        services
            .into_iter()
            .find(|service| service.binary == "nova-compute" && service.host == NODE)
            .context("nova has no record of nova-compute on the node")
    }

    /// The guests in the process table: their names and QEMU's process ids.
    ///
    /// # Errors
    /// A process of QEMU has no name of a guest.
    pub fn guests(&self) -> Result<BTreeMap<String, u32>> {
        let found = self
            .node
            .attempt(["pgrep", "-a", "-f", "^/usr/bin/qemu-system-"])?;
        let guest = |line: &str| {
            let (pid, words) = line.split_once(' ')?;
            let name = words.split_once("guest=")?.1.split_once(',')?.0;
            Some((name.to_owned(), pid.parse().ok()?))
        };
        String::from_utf8_lossy(&found.stdout)
            .lines()
            .map(|line| guest(line).with_context(|| format!("no guest: {line}")))
            .collect()
    }

    /// The names of the guests that libvirt calls running, sorted.
    ///
    /// # Errors
    /// virsh fails.
    pub fn virsh_list(&self) -> Result<Vec<String>> {
        let listed = virsh(&self.node, &["list", "--state-running", "--name"])?;
        let mut names: Vec<String> = listed.split_whitespace().map(str::to_owned).collect();
        names.sort();
        Ok(names)
    }

    /// libvirt's names of the instances that nova calls active, sorted.
    ///
    /// # Errors
    /// nova-api does not answer.
    pub fn nova_list(&self) -> Result<Vec<String>> {
        let servers = self.cloud.servers()?;
        let active = servers.into_iter().filter(|server| server.status == "ACTIVE");
        let mut names: Vec<String> = active.filter_map(|server| server.domain).collect();
        names.sort();
        Ok(names)
    }

    /// How often systemd has started a service anew by itself.
    ///
    /// # Errors
    /// There is no such unit.
    pub fn restarts(&self, service: &str) -> Result<u32> {
        let shown = self
            .node
            .run(["systemctl", "show", "--value", "--property=NRestarts", service])?;
        shown
            .trim()
            .parse()
            .with_context(|| format!("restarts of {service}: {shown:?}"))
    }
}

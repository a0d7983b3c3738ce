//! The releases that the guests outlive, from the definitions of this repository.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::paths;
use crate::progress::Progress;
use crate::publish::Publisher;

/// Releases that differ in libvirt's image alone.
const OF_LIBVIRT: u32 = 4;

/// Machine types of a QEMU without the board that the guests here have.
const FEWER_MACHINES: &str = "\"org.nodectl.qemu.machine-types\" = \"microvm,pc-q35-7.2\"";

/// A schema before that of any Open vSwitch that Debian still has.
const OLDER_SCHEMA: &str = "\"org.nodectl.ovs.schema-version\" = \"7.0.0\"";

/// What a libvirtd finds its guests again by is elsewhere: it begins with none.
const ELSEWHERE: &str = "
[[container.mounts]]
source = \"/run/blind\"
target = \"/run/libvirt/qemu\"

[[container.directories]]
path = \"/run/blind\"
user = \"root\"
group = \"root\"
mode = \"0755\"
";

/// References that nodes use.
#[derive(Debug, Clone)]
pub struct Releases {
    /// Each has a libvirt image of its own; the last one is what most is tried on.
    pub libvirt: Vec<String>,
    /// The image of the first one, and other daemons of Open vSwitch.
    pub whole: String,
    /// The last one with a libvirtd that does not see the guests that run.
    pub blind: String,
    /// The last one with a QEMU that says it lacks the guests' machine type.
    pub fewer: String,
    /// The last one with an Open vSwitch that says its schema is older.
    pub older: String,
}

impl Releases {
    /// Builds the images and publishes the releases.
    ///
    /// # Errors
    /// nodectl or the registry fails, or a definition no longer has what is changed here.
    pub fn publish(publisher: &Publisher, progress: &Progress) -> Result<Self> {
        for number in 2..=OF_LIBVIRT {
            let more = format!("description = \"build {number}\"\npackages = [\"sysfsutils\"]");
            image(publisher, "libvirt", &number.to_string(), &more, progress)?;
        }
        let label = |label| format!("description = \"says less\"\n[labels]\n{label}");
        image(publisher, "libvirt", "fewer", &label(FEWER_MACHINES), progress)?;
        image(publisher, "openvswitch", "older", &label(OLDER_SCHEMA), progress)?;
        // The guests here do not know how to shut down: nobody waits for them for minutes.
        edit("libvirtd", |text| {
            text.replace("SHUTDOWN_TIMEOUT=300", "SHUTDOWN_TIMEOUT=3")
        })?;
        let definition = work().join("releases/compute.toml");
        let publish = |version: &str, libvirt: &str, openvswitch: &str| {
            let images = [
                ("openvswitch", openvswitch),
                ("libvirt", libvirt),
                ("nova-compute", "1"),
            ];
            publisher.publish(&definition, version, &images)
        };
        let number = |number: u32| publish(&number.to_string(), &number.to_string(), "1");
        let libvirt = (1..=OF_LIBVIRT).map(number).collect::<Result<_>>()?;
        let last = OF_LIBVIRT.to_string();
        let fewer = publish("fewer", "fewer", "1")?;
        let older = publish("older", &last, "older")?;
        let sees = edit("libvirtd", |text| format!("{text}{ELSEWHERE}"))?;
        let blind = publish("blind", &last, "1")?;
        edit("libvirtd", |_| sees.clone())?;
        for service in ["ovsdb-server", "ovs-vswitchd"] {
            edit(service, |text| {
                format!("{text}\n[container.process.env]\nRELEASE = \"whole\"\n")
            })?;
        }
        Ok(Self {
            libvirt,
            whole: publish("whole", "1", "1")?,
            blind,
            fewer,
            older,
        })
    }

    /// What most is tried on.
    ///
    /// # Panics
    /// Nothing was published.
    #[must_use]
    pub fn last(&self) -> &str {
        self.libvirt.last().expect("releases of libvirt were published")
    }
}

/// An image on top of another one, with a tag of its own beside it.
fn image(publisher: &Publisher, base: &str, tag: &str, more: &str, progress: &Progress) -> Result<()> {
    let name = format!("{base}-{tag}");
    let text = format!("format = 1\nname = \"{name}\"\nbase = \"{base}\"\n{more}\n");
    publisher.define_image(&name, &text)?;
    publisher.build_image(&name, progress)?;
    publisher.push_image(&name, base, tag)
}

/// Changes the definition of a service; what it was before.
fn edit(service: &str, change: impl FnOnce(&str) -> String) -> Result<String> {
    let path = work().join(format!("services/{service}.toml"));
    let before = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let after = change(&before);
    ensure!(after != before, "{} has nothing to change", path.display());
    fs::write(&path, after).with_context(|| format!("write {}", path.display()))?;
    Ok(before)
}

fn work() -> PathBuf {
    paths::work().join("publish")
}

//! Two releases of Open vSwitch alone, from the definitions of this repository: the second one restarts both daemons and
//! has another database schema.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::paths;
use crate::progress::Progress;
use crate::publish::Publisher;

const SERVICES: [&str; 2] = ["ovsdb-server", "ovs-vswitchd"];

/// Where the image has its schema, in the definition of ovsdb-server.
const SCHEMA: &str = "schema=/usr/share/openvswitch/vswitch.ovsschema";

/// The schema of a later version: a column more, and another number.
const LATER_SCHEMA: &str = "schema=/tmp/vswitch.ovsschema
sed -e 's/\\\"version\\\": \\\"[0-9.]*\\\"/\\\"version\\\": \\\"99.0.0\\\"/' -e '/\\\"cksum\\\"/d' \
-e 's/\\\"datapath_id\\\": {/\\\"later\\\": {\\\"type\\\": {\\\"key\\\": \\\"string\\\", \\\"min\\\": 0, \\\"max\\\": 1}},\\\\n       &/' \
/usr/share/openvswitch/vswitch.ovsschema > $schema";

/// References of the releases.
#[derive(Debug, Clone)]
pub struct Releases {
    /// What a node begins with.
    pub first: String,
    /// The next one.
    pub second: String,
    /// The next one, with the schema of the second and an ovs-vswitchd that can't take over: its tools refuse every flow.
    pub broken: String,
}

impl Releases {
    /// Builds the image and publishes the releases.
    ///
    /// # Errors
    /// nodectl or the registry fails, or a definition no longer has what is changed here.
    pub fn publish(publisher: &Publisher, progress: &Progress) -> Result<Self> {
        publisher.build_image("openvswitch", progress)?;
        publisher.push_image("openvswitch", "openvswitch", "1")?;
        let release = |version: &str, edit: fn(&str, &str) -> String| {
            progress.say(format!("release {version}"));
            publisher.publish(&definition(version, edit)?, version, &[("openvswitch", "1")])
        };
        Ok(Self {
            first: release("1", |_, text| text.to_owned())?,
            second: release("2", later)?,
            broken: release("3", refusing)?,
        })
    }
}

fn later(name: &str, text: &str) -> String {
    match name {
        "ovsdb-server" => text.replace(SCHEMA, LATER_SCHEMA),
        _ => with_environment(text, "RELEASE = \"2\""),
    }
}

/// ovs-ofctl finds its socket elsewhere, so nothing can be put back.
fn refusing(name: &str, text: &str) -> String {
    match name {
        "ovsdb-server" => text.replace(SCHEMA, LATER_SCHEMA),
        _ => with_environment(text, "RELEASE = \"3\"\nOVS_RUNDIR = \"/nowhere\""),
    }
}

fn with_environment(text: &str, variables: &str) -> String {
    format!("{text}\n[container.process.env]\n{variables}\n")
}

fn definition(version: &str, edit: fn(&str, &str) -> String) -> Result<PathBuf> {
    let directory = paths::work().join(format!("ovs-{version}"));
    fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../images/services");
    for name in SERVICES {
        let file = format!("{name}.toml");
        let text = fs::read_to_string(from.join(&file)).with_context(|| format!("read {file}"))?;
        ensure!(
            name != "ovsdb-server" || text.contains(SCHEMA),
            "{file} has no {SCHEMA:?}"
        );
        fs::write(directory.join(&file), edit(name, &text))?;
    }
    let release = directory.join("release.toml");
    let text = format!(
        "format = 1\nname = \"compute-release\"\nversion = \"{version}\"\n\
         services = [\"ovsdb-server.toml\", \"ovs-vswitchd.toml\"]\n\
         [images.openvswitch]\nrepository = \"openvswitch\"\n[probation]\nwindow_sec = 2\n"
    );
    fs::write(&release, text)?;
    Ok(release)
}

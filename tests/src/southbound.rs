//! OVN's southbound database on a node, as the control plane of a cloud with OVN has it: what chassis look at.

use anyhow::{Context, Result};

use crate::cache::{self, Key};
use crate::node::Node;
use crate::nodectl;
use crate::progress::Progress;
use crate::roots;

/// Where it listens; every address of the node.
pub const PORT: u16 = 6642;

/// The network that is made in it, by its uuid.
pub const NETWORK: &str = "5b2f7a0e-7d0c-4a55-8f5e-4f3f7d1c9b11";

/// What its image is entered by.
const PROGRAM: &str = "/usr/bin/ovn-controller";

/// Begins an empty one, with the program of an image that the node has by now and the schema of Debian's package for
/// control planes.
///
/// # Errors
/// The package cannot be fetched, the node has no image of OVN, or the database does not start.
pub fn begin(node: &Node) -> Result<()> {
    let key = Key::of([b"ovn-central".as_slice()]);
    let central = cache::entry("southbound", &key, |scratch| {
        roots::unpack(&["ovn-central"], scratch, &Progress::start())
    })?;
    let schema = central.join("usr/share/ovn/ovn-sb.ovsschema");
    let schema = std::fs::read(&schema).with_context(|| format!("read {}", schema.display()))?;
    node.write("/run/southbound/schema", schema)?;
    let trees = ["/var/lib/nodectl/store/trees", "-path", &format!("*{PROGRAM}")];
    let found = node.run(["find"].iter().chain(&trees))?;
    let tree = found.lines().find_map(|line| line.strip_suffix(PROGRAM));
    let tree = tree.with_context(|| format!("no tree has {PROGRAM}: {found}"))?;
    // Its row of global settings is northd's work elsewhere; ovn-controller takes it for granted.
    let script = format!(
        "ovsdb-tool create /run/sb.db /run/schema; \
         ovsdb-server /run/sb.db --remote=punix:/run/sb.sock --remote=ptcp:{PORT}:0.0.0.0 --unixctl=/run/sb.ctl \
         --pidfile=/run/sb.pid --detach --no-chdir -vfile:off; \
         ovn-sbctl --db=unix:/run/sb.sock init"
    );
    node.run([
        "systemd-run",
        "--unit=southbound",
        "--service-type=oneshot",
        "--remain-after-exit",
        &format!("--property=RootDirectory={tree}"),
        "--property=BindPaths=/run/southbound:/run",
        "--property=MountAPIVFS=yes",
        "sh",
        "-ec",
        &script,
    ])
    .map(drop)
}

/// Makes the network, a port for its metadata and one for a guest: neutron's and northd's work elsewhere.
///
/// # Errors
/// The database refuses them.
pub fn make_network(node: &Node) -> Result<()> {
    let name = format!("external_ids:name=neutron-{NETWORK}");
    let device = format!("external_ids:neutron\\:device_id=ovnmeta-{NETWORK}");
    let network = ["create", "Datapath_Binding", "tunnel_key=1", &name];
    let port = ["create", "Port_Binding", "datapath=@network"];
    let metadata = [
        "logical_port=meta",
        "tunnel_key=1",
        "type=localport",
        "mac=\"fa:16:3e:00:00:02 10.9.0.2\"",
        "external_ids:neutron\\:cidrs=10.9.0.2/24",
        &device,
    ];
    let guest = [
        "logical_port=guest",
        "tunnel_key=2",
        "mac=\"fa:16:3e:00:00:03 10.9.0.3\"",
    ];
    let mut words = vec!["--id=@network"];
    words.extend(network);
    for binding in [&metadata[..], &guest] {
        words.push("--");
        words.extend(port);
        words.extend(binding);
    }
    says(node, &words).map(drop)
}

/// The nodes that have registered.
///
/// # Errors
/// The database does not answer.
pub fn chassis(node: &Node) -> Result<Vec<String>> {
    let said = says(node, &["--bare", "--columns=hostname", "list", "Chassis"])?;
    Ok(said.split_whitespace().map(str::to_owned).collect())
}

fn says(node: &Node, arguments: &[&str]) -> Result<String> {
    let database = format!("--db=tcp:{}:{PORT}", node.address());
    let program = ["ovn-sbctl", "--timeout=10", &database];
    nodectl::inside(node, "ovn-controller", &[&program, arguments].concat())
}

//! What an operator writes on a node of the story.

use anyhow::Result;

use crate::cloud::Access;
use crate::node::Node;
use crate::publish::{Publisher, trust_policy};
use crate::registry;

/// The node knows its cloud and whom to trust.
///
/// # Errors
/// A file cannot be written.
pub fn node_is_configured(node: &Node, access: &Access, publisher: &Publisher) -> Result<()> {
    node.write("/etc/nodectl/node.toml", configuration(node, access))?;
    node.write("/etc/nodectl/trust/policy.toml", trust_policy())?;
    node.write("/etc/nodectl/trust/release.pub", publisher.public_key()?)?;
    let secrets = [
        ("nova-transport-url", &access.transport_url),
        ("nova-placement-password", &access.password),
        ("nova-neutron-password", &access.password),
        ("neutron-transport-url", &access.transport_url),
    ];
    for (name, secret) in secrets {
        node.write(&format!("/etc/nodectl/secrets/{name}"), secret)?;
    }
    node.run(["chmod", "-R", "go=", "/etc/nodectl/secrets"]).map(drop)
}

fn configuration(node: &Node, access: &Access) -> String {
    format!(
        r#"[registries]
insecure_http = ["{registry}"]

[choices]
networking = "openvswitch"

[parameters]
my_ip = "{ip}"
tunnel_ip = "{ip}"
# The kernel of a node in a container has no Open vSwitch.
datapath_type = "netdev"
keystone_url = "{keystone}"
glance_url = "http://{controller}:9292"
region = "{region}"
virt_type = "qemu"
cpu_mode = "none"
# A node in a container may not raise limits.
guest_max_files = 0
guest_max_processes = 0
"#,
        registry = registry::from_nodes(),
        ip = node.address(),
        keystone = access.auth_url,
        controller = access.address,
        region = access.region,
    )
}

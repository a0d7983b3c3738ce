//! A node that takes the releases of [`crate::tiny`].

use std::path::Path;

use anyhow::Result;

use crate::node::{Kind, Name, Node, Setup};
use crate::registry;
use crate::tiny::{Forge, REPOSITORY};

/// systemd-nspawn mounts a boot id of the box's own over the host's, and protecting /proc/sys would uncover that again:
/// noded and the boot's recover would see no boots.
const BOOT_ID: &str = "[Service]\nProtectKernelTunables=no\n";

/// A node that has booted and trusts the forge's key, for releases from the registry, which is started, and for bundles
/// in /root. `configuration` stands at the end of its node.toml.
///
/// # Errors
/// The registry does not start, or the node does not boot.
pub fn boot(name: &str, kind: Kind, stage: &Path, forge: &Forge, configuration: &str) -> Result<Node> {
    registry::up()?;
    let policy = format!(
        "[[repository]]\nname = \"{0}/{REPOSITORY}\"\nkeys = [\"key.pub\"]\n\n\
         [[repository]]\nname = \"file:/root\"\nidentity = \"{0}/{REPOSITORY}\"\nkeys = [\"key.pub\"]\n",
        registry::from_nodes(),
    );
    let configuration = format!(
        "[registries]\ninsecure_http = [\"{}\"]\nretries = 2\n\n{configuration}",
        registry::from_nodes()
    );
    let mut setup = Setup::node_on(kind)?
        .install(stage)
        .file("etc/nodectl/node.toml", configuration)
        .file("etc/nodectl/trust/policy.toml", policy)
        .file("etc/nodectl/trust/key.pub", forge.public("key")?);
    if kind == Kind::Box {
        for unit in ["noded", "nodectl-recover"] {
            let drop_in = format!("etc/systemd/system/{unit}.service.d/boot-id.conf");
            setup = setup.file(&drop_in, BOOT_ID);
        }
    }
    Node::up(&Name::parse(name)?, &setup)
}

//! The story of a compute node, told once for the demo and for the test that asserts it.

use std::path::PathBuf;

use anyhow::Result;

use crate::cloud::Cloud;
use crate::control_plane::{self, Pending};
use crate::node::{Name, Node, Setup};
use crate::publish::Publisher;
use crate::story::Story;
use crate::{compute, configuration, moves};

/// The node's name, and its host name in the cloud.
pub const NODE: &str = "node1";

/// The instance that lives through it.
const GUEST: &str = "guest1";

/// Its network.
const NETWORK: &str = "net1";

/// What the story is told with.
#[derive(Debug, Clone)]
pub struct Props {
    /// What `make install DESTDIR=` has installed; copied onto the node before it boots.
    pub stage: PathBuf,
}

/// What is there at the end.
#[derive(Debug)]
pub struct Told {
    /// The node, running.
    pub node: Node,
    /// The cloud, running.
    pub cloud: Cloud,
}

/// Tells the whole story. An earlier telling's node and cloud are removed first; its registry is not.
///
/// # Errors
/// A step failed; the error begins with its number and name. Everything is left as it is then.
pub fn tell(story: &mut Story, props: &Props) -> Result<Told> {
    let name = Name::parse(NODE)?;
    clear(&name)?;
    let pending = Pending::begin();
    compute::registry_serves(story)?;
    let publisher = Publisher::new(&props.stage)?;
    let [first, second, broken] = moves::releases_are_published(story, &publisher)?;
    let setup = Setup::node()?.install(&props.stage);
    let node = compute::node_boots(story, &name, &setup)?;
    let cloud = compute::control_plane_serves(story, pending)?;
    configuration::node_is_configured(&node, &cloud.access()?, &publisher)?;
    compute::guests_are_not_waited_for(&node)?;
    moves::empty_node_upgrades(story, &node, &first)?;
    compute::cloud_sees_compute(story, &cloud, &name)?;
    compute::network_is_made(story, &cloud, &name, NETWORK)?;
    let beat = compute::guest_boots(story, &cloud, &name, GUEST, NETWORK)?;
    let guest = (GUEST.to_owned(), beat);
    moves::plan_names_compute_alone(story, &node, &second)?;
    moves::compute_alone_upgrades(story, &node, &cloud, &second, &guest)?;
    moves::broken_release_is_left(story, &node, &broken)?;
    moves::node_rolls_back(story, &node, &cloud, &guest)?;
    moves::history_tells_all(story, &node)?;
    moves::reboot_needs_no_daemon(story, &node, &cloud)?;
    Ok(Told { node, cloud })
}

fn clear(name: &Name) -> Result<()> {
    if let Ok(node) = Node::find(name) {
        node.down()?;
    }
    control_plane::down()
}

//! The story of a compute node, told once for the demo and for the test that asserts it.

use std::path::PathBuf;

use anyhow::Result;

use crate::cloud::Cloud;
use crate::compute;
use crate::control_plane::{self, Pending};
use crate::node::{Name, Node, Setup};
use crate::story::Story;

/// The node's name, and its host name in the cloud.
pub const NODE: &str = "node1";

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
    let setup = Setup::node()?.install(&props.stage);
    let node = compute::node_boots(story, &name, &setup)?;
    let cloud = compute::control_plane_serves(story, pending)?;
    Ok(Told { node, cloud })
}

fn clear(name: &Name) -> Result<()> {
    if let Ok(node) = Node::find(name) {
        node.down()?;
    }
    control_plane::down()
}

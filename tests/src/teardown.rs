//! The end of everything: what a test or a demo may leave behind must be found here.

use anyhow::{Result, bail};

use crate::node::Node;
use crate::{cache, lab, paths, registry};

/// Removes all machines, the registry and the network of this instance; goes on after a failure and tells all of them.
///
/// # Errors
/// Something could not be removed.
pub fn everything() -> Result<()> {
    let mut failures = Vec::new();
    for node in Node::all()? {
        if let Err(error) = node.down() {
            failures.push(format!("{}: {error:#}", node.name()));
        }
    }
    for (what, done) in [("registry", registry::down()), ("network", lab::down())] {
        if let Err(error) = done {
            failures.push(format!("{what}: {error:#}"));
        }
    }
    if !failures.is_empty() {
        bail!("left behind: {}", failures.join("; "));
    }
    for directory in [paths::work(), paths::run()] {
        cache::remove(&directory)?;
    }
    Ok(())
}

//! What an image does not offer closes the way to it, while there is somebody who needs it.

use anyhow::{Context, Result, ensure};
use node_agent::api::Status;

use super::dangers::{OLDER, refused};
use super::releases::Releases;
use crate::guests::Guest;
use crate::node::Node;
use crate::nodectl;

/// The machine type of the guests here, as libvirt writes it.
const MACHINE: &str = "machine type pc-i440fx-7.2";

/// To a QEMU that lacks the machine type of a guest that runs, forwards and back; `--force` goes there, and the guest
/// runs on. And to an Open vSwitch with an older schema. Ends on the release that the node ran before.
///
/// # Errors
/// nodectl goes on unforced, or does not when it is forced, or the guest ends.
pub fn way_back_is_closed(node: &Node, releases: &Releases) -> Result<()> {
    let guest = Guest::start(node, "late", None)?;
    let pid = guest.pid()?;
    let nodectl = |arguments: &[&str]| nodectl::on(node, arguments)?.expect(0);
    let why = [
        "QEMU there does not offer ",
        MACHINE,
        "could not be started again",
        ": late",
    ];
    refused(node, &["upgrade", OLDER, &releases.fewer], &why)?;
    nodectl(&["upgrade", OLDER, &releases.fewer, "--force"])?;
    let status: Status = nodectl::json(node, &["status"])?;
    let fewer = status.deployment.context("no deployment")?.to_string();
    nodectl(&["rollback"])?;
    refused(node, &["rollback", &fewer], &why)?;
    nodectl(&["rollback", &fewer, "--force"])?;
    ensure!(guest.pid()? == pid, "the guest is another one");
    let schema = ["Open vSwitch there has database schema 7.0.0, and conf.db has "];
    refused(node, &["upgrade", OLDER, &releases.older], &schema)?;
    guest.stop()?;
    nodectl(&["rollback"])?;
    Ok(())
}

//! What a node knows about itself.

use std::collections::BTreeMap;
use std::path::Path;

use crate::definition::Fact;
use crate::error::{AgentError, Result};

/// Facts by name. One that this node can't tell is absent.
pub type Facts = BTreeMap<Fact, String>;

/// Asks the running host.
///
/// # Errors
/// The host name or the machine hardware name can't be read.
pub fn gather() -> Result<Facts> {
    let failed = |what: &str| AgentError::other(format!("can't read the {what} of this host"));
    let hostname = nix::unistd::gethostname().map_err(|e| failed("host name").because(e))?;
    let uname = nix::sys::utsname::uname().map_err(|e| failed("architecture").because(e))?;
    let mut facts = Facts::new();
    facts.insert(Fact::Hostname, hostname.to_string_lossy().into_owned());
    facts.insert(Fact::Architecture, uname.machine().to_string_lossy().into_owned());
    if let Some(id) = machine_id(Path::new("/etc/machine-id")) {
        facts.insert(Fact::MachineId, id);
    }
    Ok(facts)
}

/// A machine id is 32 hexadecimal digits; anything else means that the host has none (yet).
fn machine_id(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let id = text.trim();
    (id.len() == 32 && id.chars().all(|c| c.is_ascii_hexdigit())).then(|| id.to_owned())
}

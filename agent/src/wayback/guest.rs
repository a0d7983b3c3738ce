//! A guest as the way back sees it.

use crate::guests::Process;

/// A guest that runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Guest {
    /// Its name, as libvirt gave it to QEMU.
    pub name: String,
    /// Its machine type, for example `pc-i440fx-7.2`. libvirt writes the versioned name, never an alias.
    pub machine: Option<String>,
    /// Its process.
    pub pid: u32,
    /// Version of the QEMU that it runs in, as the image that it was started from says; absent for one that does not, and
    /// for guests that were not started from an image.
    pub qemu: Option<String>,
}

impl From<Process> for Guest {
    fn from(process: Process) -> Guest {
        let name = process.name.filter(|name| !name.is_empty());
        Guest {
            name: name.unwrap_or_else(|| format!("process {}", process.pid)),
            machine: process.machine,
            pid: process.pid,
            qemu: None,
        }
    }
}

//! This host.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use async_trait::async_trait;
use node_runtime::launch::{Running, running};
use tokio::process::Command;

use super::guests;
use super::probes::dbus_name;
use crate::definition::Requires;
use crate::error::{AgentError, Result};
use crate::facts::{self, Facts};
use crate::ports::{Host, Lacking};
use crate::root::Roots;
use crate::wayback::Guest;

/// This host.
#[derive(Debug)]
pub(super) struct ThisHost {
    run_root: PathBuf,
}

impl ThisHost {
    pub fn new(roots: &Roots) -> Self {
        ThisHost {
            run_root: roots.run.clone(),
        }
    }
}

#[async_trait]
impl Host for ThisHost {
    fn facts(&self) -> Result<Facts> {
        facts::gather()
    }

    fn boot_id(&self) -> Result<String> {
        let path = Path::new("/proc/sys/kernel/random/boot_id");
        let text = std::fs::read_to_string(path).map_err(|e| AgentError::io("read", path, e))?;
        Ok(text.trim().to_owned())
    }

    fn free_space(&self, path: &Path) -> Result<u64> {
        let existing = path.ancestors().find(|p| p.exists()).unwrap_or(Path::new("/"));
        let stat = nix::sys::statvfs::statvfs(existing)
            .map_err(|e| AgentError::io("ask for the free space of", existing, e.into()))?;
        Ok(stat.blocks_available().saturating_mul(stat.fragment_size()))
    }

    async fn lacking(&self, requires: &Requires) -> Result<Lacking> {
        let mut lacking = Lacking::default();
        for module in &requires.kernel_modules {
            if !has_module(module).await? {
                lacking
                    .required
                    .push(format!("kernel module {module} is neither loaded nor to be had"));
            }
        }
        for module in &requires.optional_kernel_modules {
            if !has_module(module).await? {
                lacking
                    .optional
                    .push(format!("kernel module {module} is neither loaded nor to be had"));
            }
        }
        for command in requires.commands.iter().filter(|c| !c.exists()) {
            lacking
                .required
                .push(format!("{} is not installed", command.display()));
        }
        for device in requires.devices.iter().filter(|d| !d.exists()) {
            lacking
                .required
                .push(format!("device {} is missing", device.display()));
        }
        for name in &requires.dbus_names {
            if !is_activatable(name) && dbus_name(name).await?.is_err() {
                lacking
                    .required
                    .push(format!("{name} is not on the system bus and can't be activated"));
            }
        }
        Ok(lacking)
    }

    fn guests(&self) -> Result<Vec<String>> {
        guests::names(Path::new("/proc"))
    }

    fn processes(&self, pids: &BTreeSet<u32>) -> Vec<String> {
        guests::describe(Path::new("/proc"), pids)
    }

    fn machines(&self) -> Result<Vec<Guest>> {
        guests::machines(Path::new("/proc"))
    }

    fn running(&self) -> Result<Vec<Running>> {
        running(&self.run_root).map_err(|e| AgentError::other("can't read what is running").because(e))
    }
}

/// Loaded, built in, or loadable: modprobe's dry run knows all three.
async fn has_module(module: &str) -> Result<bool> {
    let plain = !module.is_empty()
        && module
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    if !plain {
        return Err(AgentError::config(format!(
            "{module:?} is not the name of a kernel module"
        )));
    }
    if Path::new("/sys/module").join(module.replace('-', "_")).exists() {
        return Ok(true);
    }
    let found = Command::new("/sbin/modprobe")
        .args(["--dry-run", "--quiet", "--"])
        .arg(module)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .await;
    Ok(found.is_ok_and(|status| status.success()))
}

/// Whether the bus would start somebody for this name.
fn is_activatable(name: &str) -> bool {
    let file = format!("{name}.service");
    [
        "/usr/share/dbus-1/system-services",
        "/usr/local/share/dbus-1/system-services",
        "/run/dbus-1/system-services",
    ]
    .iter()
    .any(|directory| Path::new(directory).join(&file).exists())
}

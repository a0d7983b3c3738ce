//! Namespaces, and what depends on which of them are private.

use std::collections::{BTreeSet, HashMap};

use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType};

use super::container::{Container, HostNamespace};
use super::{Resolved, SpecError, oci};

/// The private namespaces: mount always, the others unless shared.
pub(super) fn namespaces(share: &BTreeSet<HostNamespace>) -> Result<Vec<LinuxNamespace>, SpecError> {
    let all = [
        HostNamespace::Network,
        HostNamespace::Pid,
        HostNamespace::Ipc,
        HostNamespace::Uts,
        HostNamespace::Cgroup,
    ];
    let private = all.into_iter().filter(|ns| !share.contains(ns)).map(kind);
    std::iter::once(LinuxNamespaceType::Mount)
        .chain(private)
        .map(|typ| {
            LinuxNamespaceBuilder::default()
                .typ(typ)
                .build()
                .map_err(oci("namespace"))
        })
        .collect()
}

fn kind(namespace: HostNamespace) -> LinuxNamespaceType {
    match namespace {
        HostNamespace::Network => LinuxNamespaceType::Network,
        HostNamespace::Pid => LinuxNamespaceType::Pid,
        HostNamespace::Ipc => LinuxNamespaceType::Ipc,
        HostNamespace::Uts => LinuxNamespaceType::Uts,
        HostNamespace::Cgroup => LinuxNamespaceType::Cgroup,
    }
}

/// Bytes of a host name; sethostname(2), `__NEW_UTS_LEN`.
const HOST_NAME_MAX: usize = 64;

/// Host name inside; none if the host's is shared.
pub(super) fn hostname(resolved: &Resolved<'_>) -> Result<Option<String>, SpecError> {
    if resolved.shares(HostNamespace::Uts) {
        return Ok(None);
    }
    let name = resolved.hostname.unwrap_or(resolved.service);
    if name.len() > HOST_NAME_MAX || name.contains('\0') {
        let reason = format!("`{name}` has more than {HOST_NAME_MAX} bytes or a NUL");
        return Err(SpecError::invalid("hostname", reason));
    }
    Ok(Some(name.to_owned()))
}

/// Kernel parameters; each has to belong to a namespace that is private, or it would change the
/// host.
pub(super) fn sysctl(container: &Container) -> Result<HashMap<String, String>, SpecError> {
    for key in container.sysctl.keys() {
        let needs = sysctl_namespace(key)
            .filter(|_| key.split(['.', '/']).all(is_sysctl_part))
            .ok_or_else(|| {
                SpecError::invalid(format!("sysctl.{key}"), "is not a parameter of a namespace")
            })?;
        if container.share.contains(&needs) {
            let reason = "would change the host, whose namespace the service shares";
            return Err(SpecError::invalid(format!("sysctl.{key}"), reason));
        }
    }
    Ok(container
        .sysctl
        .iter()
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect())
}

/// Whether this may be one name in the parameter's path below /proc/sys.
fn is_sysctl_part(part: &str) -> bool {
    !part.is_empty() && part.chars().all(|c| c.is_ascii_graphic())
}

fn sysctl_namespace(key: &str) -> Option<HostNamespace> {
    const IPC: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    if key.starts_with("net.") {
        Some(HostNamespace::Network)
    } else if key.starts_with("fs.mqueue.") || IPC.contains(&key) {
        Some(HostNamespace::Ipc)
    } else {
        None
    }
}

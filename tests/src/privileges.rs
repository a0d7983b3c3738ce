//! What the kernel lets a running service do, beside what its definition asks for.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use node_agent::definition::Definition;
use node_runtime::spec::container::Container;

use crate::hypervisor;
use crate::node::Node;
use crate::nodectl::{SERVICES, main_process};

/// Which test runs which services for real and holds each against its definition with [`are_as_defined`].
pub const HELD_BY: [(&str, &[&str]); 3] = [
    ("node_story", &SERVICES),
    ("node_kernel", &hypervisor::SERVICES),
    (
        "node_services",
        &[
            "ovsdb-server",
            "ovs-vswitchd",
            "virtlogd",
            "libvirtd",
            "neutron-openvswitch-agent",
            "ovn-controller",
            "neutron-ovn-metadata-agent",
            "ceilometer-agent-compute",
            "prometheus-node-exporter",
            "prometheus-libvirt-exporter",
        ],
    ),
];

/// Reports all processes below a unit's cgroup; some may end meanwhile.
const REPORT: &str = r#"for process in /proc/[0-9]*; do
if grep -qs "/$1\.service\(/\|\$\)" "$process/cgroup"; then cat "$process/status" 2>/dev/null && echo; fi
done; true"#;

/// Filter mode, as `Seccomp:` of proc_pid_status(5) says it.
const FILTERED: &str = "2";

/// What one process may do.
#[derive(Debug)]
struct Privileges {
    /// For messages.
    #[expect(dead_code, reason = "shown by Debug")]
    process: String,
    bounding: u64,
    effective: u64,
    /// No new privileges.
    frozen: bool,
    /// System call filters, those of the node itself included; none unless it is in filter mode.
    filters: u32,
}

impl Privileges {
    /// Of the text of /proc/PID/status, proc_pid_status(5).
    fn of(status: &str) -> Result<Self> {
        let field = |name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name));
            let value = value.with_context(|| format!("no {name} in {status}"))?;
            anyhow::Ok(value.trim())
        };
        let set = |name: &str| {
            let value = field(name)?;
            u64::from_str_radix(value, 16).with_context(|| format!("{name} {value}"))
        };
        Ok(Self {
            process: field("Name:")?.to_owned(),
            bounding: set("CapBnd:")?,
            effective: set("CapEff:")?,
            frozen: field("NoNewPrivs:")? == "1",
            filters: match field("Seccomp:")? {
                FILTERED => field("Seccomp_filters:")?.parse()?,
                _ => 0,
            },
        })
    }
}

/// The service runs with exactly the capabilities of its definition, less what the whole node lacks, and nothing in
/// its container has more; its root is read-only; and each of its processes has a system call filter besides those of the whole node.
///
/// # Errors
/// It is not active, or the kernel says something else; the error names the set.
pub fn are_as_defined(node: &Node, service: &str) -> Result<()> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../images/services/{service}.toml"));
    let container = Definition::load(&file)?.container;
    let frozen = container.process.no_new_privileges;
    let everything = Privileges::of(&node.run(["cat", "/proc/1/status"])?)?;
    let bound = everything.bounding & defined(&container)?;
    let pid = main_process(node, service)?;
    let main = Privileges::of(&node.run(["cat", &format!("/proc/{pid}/status")])?)?;
    ensure!(
        main.bounding == bound && main.frozen == frozen,
        "{service}: {main:x?}, but its definition says {bound:#x} and frozen: {frozen}"
    );
    let mounts = node.run(["cat", &format!("/proc/{pid}/mountinfo")])?;
    ensure!(
        root_is_read_only(&mounts),
        "{service}: its root is not read-only: {mounts}"
    );
    for other in processes(node, service)? {
        let beyond = (other.bounding | other.effective) & !bound;
        ensure!(
            beyond == 0 && (other.frozen || !frozen),
            "{service}: {other:x?} has {beyond:#x} besides {bound:#x}, and frozen should be {frozen}"
        );
        ensure!(
            other.filters > everything.filters,
            "{service}: {other:x?} has no filter of its own; the node: {everything:x?}"
        );
    }
    Ok(())
}

/// Of the text of /proc/PID/mountinfo, proc_pid_mountinfo(5).
fn root_is_read_only(mounts: &str) -> bool {
    let of_root = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(4);
        (fields.next() == Some("/")).then(|| fields.next().unwrap_or_default())
    });
    of_root.is_some_and(|options| options.split(',').any(|option| option == "ro"))
}

/// The set that a definition names.
fn defined(container: &Container) -> Result<u64> {
    let mut set = 0;
    for name in container.capabilities.keys() {
        let capability: caps::Capability = name.to_string().parse().with_context(|| name.to_string())?;
        set |= capability.bitmask();
    }
    Ok(set)
}

/// All processes of a service, helpers and what they have started included.
fn processes(node: &Node, service: &str) -> Result<Vec<Privileges>> {
    let reports = node.run(["sh", "-c", REPORT, "sh", service])?;
    let processes: Vec<_> = reports
        .split("\n\n")
        .filter(|report| !report.is_empty())
        .collect();
    ensure!(!processes.is_empty(), "{service} has no processes in its cgroup");
    processes.into_iter().map(Privileges::of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_is_read_only_where_its_mount_is() {
        let mounts = |options: &str| {
            format!(
                "1 0 0:5 / /proc rw - proc proc ro\n2 0 8:1 /tree / {options},relatime - ext4 /dev/vda rw\n"
            )
        };
        assert!(root_is_read_only(&mounts("ro")));
        assert!(!root_is_read_only(&mounts("rw")) && !root_is_read_only(""));
    }
}

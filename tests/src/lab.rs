//! The network: one bridge in a namespace of its own, a namespace per machine, nothing on the host's network.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, setns};

use crate::cache;
use crate::command::{self, command};
use crate::paths;

/// The lab's own address: the bridge, and what listens in its namespace (the registry).
pub const LAB: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

/// The control plane's address.
pub const CONTROL_PLANE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);

/// Nodes get the free addresses from here on.
pub const FIRST_NODE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 11);

const BRIDGE: &str = "lab0";

/// Makes the lab's namespace and bridge if they are not there.
///
/// # Errors
/// `ip` fails: no privileges, or no bridge support in the kernel.
pub fn up() -> Result<()> {
    let run = paths::run();
    fs::create_dir_all(&run).with_context(|| format!("create {}", run.display()))?;
    // Machines that boot at the same time find it whole or not at all.
    let _lock = cache::lock(&run.join("lab.lock"))?;
    let lab = lab_namespace();
    if namespace_path(&lab).exists() {
        return Ok(());
    }
    ip(["netns", "add", &lab])?;
    let made = (|| {
        let inside = ["-n", lab.as_str()];
        ip(inside.into_iter().chain(["link", "set", "lo", "up"]))?;
        ip(inside
            .into_iter()
            .chain(["link", "add", BRIDGE, "type", "bridge"]))?;
        let address = format!("{LAB}/24");
        ip(inside
            .into_iter()
            .chain(["address", "add", &address, "dev", BRIDGE]))?;
        ip(inside.into_iter().chain(["link", "set", BRIDGE, "up"]))
    })();
    if made.is_err() {
        down()?;
    }
    made
}

/// Removes the lab's namespace, and the bridge with it.
///
/// # Errors
/// `ip` fails.
pub fn down() -> Result<()> {
    remove_namespace(&lab_namespace())
}

/// A command that runs in the lab's network namespace; pushes to the registry go over its loopback.
pub fn command_inside(program: &str) -> Command {
    let namespace = format!("--net={}", namespace_path(&lab_namespace()).display());
    command("nsenter", [&namespace, "--", program])
}

/// Runs `work` on a thread in the lab's network namespace, for example to connect to the registry.
///
/// # Errors
/// The lab is not up, or `work` fails.
pub fn inside<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let path = namespace_path(&lab_namespace());
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            let namespace = File::open(&path).with_context(|| format!("open {}", path.display()))?;
            setns(namespace, CloneFlags::CLONE_NEWNET).context("enter the lab's network namespace")?;
            work()
        });
        thread
            .join()
            .map_err(|_| anyhow!("the thread in the lab panicked"))?
    })
}

/// Makes a machine's network namespace with `eth0` on the lab's bridge; one that exists is left as it is.
///
/// # Errors
/// `ip` fails.
pub fn attach(machine: &str, address: Ipv4Addr) -> Result<PathBuf> {
    let lab = lab_namespace();
    let namespace = machine_namespace(machine);
    let path = namespace_path(&namespace);
    if path.exists() {
        return Ok(path);
    }
    ip(["netns", "add", &namespace])?;
    let made = (|| {
        let port = port(machine);
        ip([
            "link", "add", &port, "netns", &lab, "type", "veth", "peer", "name", "eth0", "netns", &namespace,
        ])?;
        ip(["-n", &lab, "link", "set", &port, "master", BRIDGE, "up"])?;
        ip(["-n", &namespace, "link", "set", "lo", "up"])?;
        ip([
            "-n",
            &namespace,
            "address",
            "add",
            &format!("{address}/24"),
            "dev",
            "eth0",
        ])?;
        ip(["-n", &namespace, "link", "set", "eth0", "up"])
    })();
    match made {
        Ok(()) => Ok(path),
        Err(error) => {
            detach(machine)?;
            Err(error)
        }
    }
}

/// Makes the interface on the lab's bridge that a machine with a kernel of its own opens; one that exists is left as it
/// is. That kernel has to run in the lab's namespace.
///
/// # Errors
/// `ip` fails: there is no tun module in the host's kernel.
pub fn plug(machine: &str) -> Result<()> {
    let (lab, port) = (lab_namespace(), port(machine));
    if has_port(&lab, &port)? {
        return Ok(());
    }
    ip(["-n", &lab, "tuntap", "add", "dev", &port, "mode", "tap"])?;
    ip(["-n", &lab, "link", "set", &port, "master", BRIDGE, "up"])
}

/// Removes a machine's network namespace, if it has one, and its port on the bridge.
///
/// # Errors
/// `ip` fails.
pub fn detach(machine: &str) -> Result<()> {
    let lab = lab_namespace();
    let port = port(machine);
    // The kernel takes a namespace apart some time after its deletion; until then the name of the port is taken.
    if has_port(&lab, &port)? {
        ip(["-n", &lab, "link", "delete", "dev", &port])?;
    }
    remove_namespace(&machine_namespace(machine))
}

fn lab_namespace() -> String {
    format!("{}-lab", paths::instance())
}

fn has_port(lab: &str, port: &str) -> Result<bool> {
    let shown = command::attempt(&mut command("ip", ["-n", lab, "link", "show", "dev", port]))?;
    Ok(shown.status.success())
}

/// The machine's interface on the bridge.
pub fn port(machine: &str) -> String {
    format!("v-{machine}")
}

fn machine_namespace(machine: &str) -> String {
    format!("{}-m-{machine}", paths::instance())
}

fn namespace_path(name: &str) -> PathBuf {
    Path::new("/run/netns").join(name)
}

fn remove_namespace(name: &str) -> Result<()> {
    if namespace_path(name).exists() {
        ip(["netns", "delete", name])?;
    }
    Ok(())
}

fn ip<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Result<()> {
    command::output(&mut command("ip", arguments)).map(drop)
}

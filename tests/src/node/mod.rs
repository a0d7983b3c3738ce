//! Machines: a root file system booted with systemd as PID 1, a disk that outlives power cuts, an address.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use node_tests::node::{Name, Node, Setup};
//! let node = Node::up(&Name::parse("n1")?, &Setup::node()?)?;
//! println!("{}", node.run(["systemctl", "is-system-running"])?);
//! node.reboot()?; // systemd's own reboot
//! node.cut()?; // every process gone in one instant
//! node.boot()?; // the same disk again
//! node.down()?;
//! # Ok(()) }
//! ```

mod nspawn;
mod record;
mod setup;

use std::ffi::OsStr;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::cache;
use crate::cgroup::Cgroup;
use crate::command;
use crate::lab;
use crate::notify::{Event, Listener};
use crate::paths;

pub use record::{Kind, Name};
pub use setup::Setup;

use record::Record;

const BOOT: Duration = Duration::from_secs(120);
const POWER_OFF: Duration = Duration::from_secs(90);
const KILL: Duration = Duration::from_secs(20);

/// A machine that has been set up; it may be running or not.
#[derive(Debug, Clone)]
pub struct Node {
    record: Record,
}

impl Node {
    /// Makes a machine of that name and boots it; returns when its systemd has finished booting.
    ///
    /// # Errors
    /// The name is taken, or the boot does not finish in time; then nothing of the machine is left.
    pub fn up(name: &Name, setup: &Setup) -> Result<Self> {
        let node = Self::create(name, setup)?;
        match node.boot() {
            Ok(()) => Ok(node),
            Err(error) => {
                let log = node.console();
                node.down()?;
                Err(error.context(format!("boot {name}; the end of its console:\n{log}")))
            }
        }
    }

    /// The machine of that name.
    ///
    /// # Errors
    /// There is none.
    pub fn find(name: &Name) -> Result<Self> {
        let record = Record::load(name)?.with_context(|| format!("there is no machine named {name}"))?;
        Ok(Self { record })
    }

    /// All machines, by name.
    ///
    /// # Errors
    /// The records cannot be read.
    pub fn all() -> Result<Vec<Self>> {
        Ok(Record::all()?.into_iter().map(|record| Self { record }).collect())
    }

    /// Its name.
    pub fn name(&self) -> &Name {
        &self.record.name
    }

    /// Its address in the lab.
    pub fn address(&self) -> Ipv4Addr {
        self.record.address
    }

    /// The read-only layers of its root, topmost first.
    pub fn layers(&self) -> &[PathBuf] {
        &self.record.layers
    }

    /// What it runs on.
    pub fn kind(&self) -> Kind {
        self.record.kind
    }

    /// Whether any of its processes lives.
    ///
    /// # Errors
    /// The state cannot be read.
    pub fn running(&self) -> Result<bool> {
        self.cgroup()?.populated()
    }

    /// Switches a machine on that is off; returns when its systemd has finished booting.
    ///
    /// # Errors
    /// It runs already, or the boot does not finish within two minutes.
    pub fn boot(&self) -> Result<()> {
        if self.running()? {
            bail!("{} is running", self.name());
        }
        lab::up()?;
        let network = lab::attach(self.name().as_str(), self.address())?;
        let listener = Listener::bind(&self.record.notify_socket())?;
        match self.kind() {
            Kind::Box => nspawn::start(&self.record, &self.cgroup()?, &network)?,
        }
        self.wait_ready(&listener)
    }

    /// Reboots through systemd inside; returns when it has booted again.
    ///
    /// # Errors
    /// It is off, or does not come up again in time.
    pub fn reboot(&self) -> Result<()> {
        let listener = Listener::bind(&self.record.notify_socket())?;
        self.run(["systemctl", "reboot"])?;
        self.wait_ready(&listener)
    }

    /// Shuts down through systemd inside; returns when it is off. The disk stays.
    ///
    /// # Errors
    /// It is off already, or not off within ninety seconds.
    pub fn power_off(&self) -> Result<()> {
        let deadline = Instant::now() + POWER_OFF;
        self.run(["systemctl", "poweroff"])?;
        self.cgroup()?.wait_empty(deadline)
    }

    /// Power cut: SIGKILL to every process of the machine at once. The disk stays, with what the page cache holds.
    ///
    /// # Errors
    /// Something survives.
    pub fn cut(&self) -> Result<()> {
        self.cgroup()?.kill(Instant::now() + KILL)
    }

    /// Removes the machine: processes, network, disk.
    ///
    /// # Errors
    /// Something of it cannot be removed.
    pub fn down(&self) -> Result<()> {
        self.cut()?;
        self.cgroup()?.remove()?;
        lab::detach(self.name().as_str())?;
        cache::remove(&self.record.disk())?;
        self.record.remove()
    }

    /// A command that will run inside, as root, in all namespaces of the machine, with a clean environment.
    ///
    /// # Errors
    /// The machine is off.
    pub fn command<A: AsRef<OsStr>>(&self, argv: impl IntoIterator<Item = A>) -> Result<Command> {
        match self.kind() {
            Kind::Box => nspawn::enter(self.leader()?, argv),
        }
    }

    /// Runs inside, whatever the exit status.
    ///
    /// # Errors
    /// The machine is off.
    pub fn attempt<A: AsRef<OsStr>>(&self, argv: impl IntoIterator<Item = A>) -> Result<Output> {
        command::attempt(&mut self.command(argv)?)
    }

    /// Runs inside and returns standard output.
    ///
    /// # Errors
    /// The machine is off, or the command does not succeed.
    pub fn run<A: AsRef<OsStr>>(&self, argv: impl IntoIterator<Item = A>) -> Result<String> {
        command::output(&mut self.command(argv)?).with_context(|| format!("on {}", self.name()))
    }

    /// The path on the host of a path inside, while the machine runs. Absolute links in it lead to the host: do not
    /// follow any that the machine could have made.
    ///
    /// # Errors
    /// The machine is off.
    pub fn path(&self, inside: &str) -> Result<PathBuf> {
        Ok(Path::new(&format!("/proc/{}/root", self.leader()?)).join(inside.trim_start_matches('/')))
    }

    /// Writes a file inside the running machine, with its parent directories.
    ///
    /// # Errors
    /// The machine is off, or the file cannot be written.
    pub fn write(&self, inside: &str, content: impl AsRef<[u8]>) -> Result<()> {
        let path = self.path(inside)?;
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(|| format!("create {inside} on {}", self.name()))?;
        }
        fs::write(&path, content).with_context(|| format!("write {inside} on {}", self.name()))
    }

    /// The last lines of the console.
    pub fn console(&self) -> String {
        let text = fs::read(self.record.console()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }

    /// The directory that took all writes to the root, above its lower layers. Stable only while the machine is off.
    pub fn written_layer(&self) -> PathBuf {
        self.record.upper()
    }

    /// The host's process id of PID 1 inside.
    ///
    /// # Errors
    /// The machine is off.
    pub fn leader(&self) -> Result<u32> {
        match self.kind() {
            Kind::Box => nspawn::leader(&self.cgroup()?).with_context(|| format!("{} is off", self.name())),
        }
    }

    /// The host's process id of a process inside.
    ///
    /// # Errors
    /// The machine is off, or there is no such process.
    pub fn host_pid(&self, inside: u32) -> Result<u32> {
        let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid"));
        let machine = namespace(&self.leader()?.to_string()).context("find the machine's pid namespace")?;
        for entry in fs::read_dir("/proc").context("list /proc")? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            // What is no process, or has just ended, is not it.
            if namespace(&name).ok().as_ref() != Some(&machine) {
                continue;
            }
            let status = fs::read_to_string(format!("/proc/{name}/status")).unwrap_or_default();
            if innermost(&status) == Some(inside) {
                return name.parse().with_context(|| format!("{name} is no process id"));
            }
        }
        bail!("{} has no process {inside}", self.name())
    }

    fn create(name: &Name, setup: &Setup) -> Result<Self> {
        let run = paths::run();
        fs::create_dir_all(&run).with_context(|| format!("create {}", run.display()))?;
        let _lock = cache::lock(&run.join("lock"))?;
        if Record::load(name)?.is_some() {
            bail!("there is a machine named {name} already");
        }
        let address = match setup.address {
            Some(address) => address,
            None => record::free_address(&Record::all()?).context("all addresses of the lab are taken")?,
        };
        let record = Record {
            name: name.clone(),
            kind: setup.kind,
            address,
            layers: setup.layers.clone(),
        };
        setup.write_disk(&record)?;
        record.save()?;
        Ok(Self { record })
    }

    fn cgroup(&self) -> Result<Cgroup> {
        Cgroup::named(self.name().as_str())
    }

    fn wait_ready(&self, listener: &Listener) -> Result<()> {
        match listener
            .next(Instant::now() + BOOT)
            .with_context(|| format!("wait for {} to boot", self.name()))?
        {
            Event::Ready => Ok(()),
            Event::Ended(why) => bail!("{} went off while booting: {why}", self.name()),
        }
    }
}

/// The process id in the innermost namespace, from the text of /proc/PID/status.
fn innermost(status: &str) -> Option<u32> {
    let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    ids.split_whitespace().next_back()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_process_id_is_the_last_one() {
        assert_eq!(innermost("Name:\tnoded\nNSpid:\t4711\t12\nNSsid:\t1\n"), Some(12));
        assert_eq!(innermost("Name:\tnoded\n"), None);
    }
}

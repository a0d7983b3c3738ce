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

mod inside;
mod kernel;
mod nspawn;
mod record;
mod setup;

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::cache;
use crate::cgroup::Cgroup;
use crate::lab;
use crate::notify::{Event, Listener};
use crate::paths;

pub use record::{Kind, Name};
pub use setup::Setup;

use record::{Platform, Record};

/// Where commands of machines and of their supervisors are searched.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const BOOT: Duration = Duration::from_secs(240);
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
        self.record.platform.kind()
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
    /// It runs already, or the boot does not finish in time: four minutes for a box, sixteen for an emulated machine.
    pub fn boot(&self) -> Result<()> {
        if self.running()? {
            bail!("{} is running", self.name());
        }
        lab::up()?;
        let listener = Listener::bind(&self.record.notify_socket())?;
        let (name, cgroup) = (self.name().as_str(), self.cgroup()?);
        match &self.record.platform {
            Platform::Box => nspawn::start(&self.record, &cgroup, &lab::attach(name, self.address())?)?,
            Platform::Uml(_) | Platform::Vm(_) => {
                lab::plug(name)?;
                kernel::start(&self.record, &cgroup)?;
            }
        }
        self.wait_ready(&listener)
    }

    /// Reboots through systemd inside; returns when it has booted again.
    ///
    /// # Errors
    /// It is off, or does not come up again in time.
    pub fn reboot(&self) -> Result<()> {
        let listener = Listener::bind(&self.record.notify_socket())?;
        self.shut_down("reboot")?;
        self.wait_ready(&listener)
    }

    /// Shuts down through systemd inside; returns when it is off. The disk stays.
    ///
    /// # Errors
    /// It is off already, or not off in time: ninety seconds for a box.
    pub fn power_off(&self) -> Result<()> {
        let deadline = Instant::now() + self.patience(POWER_OFF);
        self.shut_down("poweroff")?;
        self.cgroup()?.wait_empty(deadline)
    }

    /// Power cut: SIGKILL to every process of the machine at once, its kernel included if it has one of its own. The disk
    /// stays, with what the host's page cache holds.
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

    /// The last lines of the console.
    pub fn console(&self) -> String {
        let text = fs::read(self.record.console()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }

    /// The disk of a machine on a kernel of its own, an ext4 file system. Stable only while the machine is off.
    pub fn image(&self) -> PathBuf {
        self.record.image()
    }

    /// The directory that took all writes to the root of a box, above its lower layers. Stable only while it is off.
    pub fn written_layer(&self) -> PathBuf {
        self.record.upper()
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
            platform: setup.platform.clone(),
            address,
            layers: setup.layers.clone(),
        };
        setup.write_disk(&record)?;
        record.save()?;
        Ok(Self { record })
    }

    fn shut_down(&self, how: &str) -> Result<()> {
        let done = self.attempt(["systemctl", "--no-block", how])?;
        // The way in may be gone before the answer has come out.
        let lost = self.kind() != Kind::Box && done.status.code() == Some(255);
        if !done.status.success() && !lost {
            bail!("{how} {}: {}", self.name(), String::from_utf8_lossy(&done.stderr));
        }
        Ok(())
    }

    /// An emulated processor takes its time.
    fn patience(&self, quick: Duration) -> Duration {
        match self.kind() {
            Kind::Box => quick,
            Kind::Uml => 2 * quick,
            Kind::Vm => 4 * quick,
        }
    }

    fn cgroup(&self) -> Result<Cgroup> {
        Cgroup::named(self.name().as_str())
    }

    fn wait_ready(&self, listener: &Listener) -> Result<()> {
        match listener
            .next(Instant::now() + self.patience(BOOT))
            .with_context(|| format!("wait for {} to boot", self.name()))?
        {
            Event::Ready => Ok(()),
            Event::Ended(why) => bail!("{} went off while booting: {why}", self.name()),
        }
    }
}

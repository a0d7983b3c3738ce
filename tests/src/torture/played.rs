//! What is played to the engine: systemd, the boot and the time. Store, registry and disk are real.
//!
//! What runs is kept in a file on a tmpfs, as the real systemd keeps it through the death of noded: it goes with a
//! reboot and with nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use node_agent::definition::Requires;
use node_agent::error::{AgentError, Result};
use node_agent::facts::Facts;
use node_agent::ports::real::{self, Stage};
use node_agent::ports::{Clock, Host, Lacking, Ports, UnitState, Units};
use node_agent::root::Roots;
use node_agent::wayback::Guest;
use node_runtime::launch::Running;
use serde::{Deserialize, Serialize};

/// In the environment of a service that cannot be started.
pub const EXITS: &str = "exit";

/// In the run directory of a node that takes its disk for empty.
pub const ROOM: &str = "room";

/// The probation passes this many times as fast.
const HASTE: u32 = 20;

/// A unit as the played systemd has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// Service digest in the unit's text, if the unit is there.
    pub loaded: Option<String>,
    /// What runs: its pid and the digest it was started from.
    pub process: Option<(u32, String)>,
    failed: bool,
}

/// Everything that is played.
#[derive(Debug)]
pub struct Played {
    roots: Roots,
    file: PathBuf,
    units: Mutex<BTreeMap<String, Unit>>,
    real: Ports,
    skipped: Mutex<Duration>,
}

/// The ports of a node on which all but the images is played.
///
/// # Errors
/// What runs cannot be read.
pub fn ports(roots: &Roots) -> anyhow::Result<(Ports, Arc<Played>)> {
    let real = real::ports(roots, Stage::Up);
    let file = roots.run.join("units.json");
    let units = match fs::read(&file) {
        Ok(bytes) => serde_json::from_slice(&bytes)?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
        Err(e) => return Err(e.into()),
    };
    let played = Arc::new(Played {
        roots: roots.clone(),
        file,
        units: Mutex::new(units),
        real: real.clone(),
        skipped: Mutex::default(),
    });
    let ports = Ports {
        images: real.images,
        units: played.clone(),
        probes: real.probes,
        host: played.clone(),
        clock: played.clone(),
    };
    Ok((ports, played))
}

impl Played {
    /// Digest and pid of each service that runs.
    pub fn running_services(&self) -> BTreeMap<String, (u32, String)> {
        let running = |(name, unit): (&String, &Unit)| {
            let service = name.trim_end_matches(".service");
            Some((service.to_owned(), unit.process.clone()?))
        };
        self.units().iter().filter_map(running).collect()
    }

    /// What systemd does at boot: the generator, then all that is wanted.
    ///
    /// # Errors
    /// The units cannot be read.
    pub fn start_all(&self) -> Result<()> {
        self.load()?;
        let names: Vec<String> = self.units().keys().cloned().collect();
        for name in names {
            // A service that does not start is for the engine to find out.
            let _ = self.start_one(&name)?;
        }
        Ok(())
    }

    fn units(&self) -> MutexGuard<'_, BTreeMap<String, Unit>> {
        self.units.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn load(&self) -> Result<()> {
        let mut texts = BTreeMap::new();
        for directory in [self.roots.retired(), self.roots.current().join("units")] {
            for entry in fs::read_dir(directory).into_iter().flatten() {
                let path = entry
                    .map_err(|e| AgentError::other("can't list units").because(e))?
                    .path();
                let text = fs::read_to_string(&path).map_err(|e| AgentError::io("read", &path, e))?;
                let name = path
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                texts.insert(name, digest_of(&text));
            }
        }
        let mut units = self.units();
        units.values_mut().for_each(|unit| unit.loaded = None);
        for (name, digest) in texts {
            units.entry(name).or_default().loaded = digest;
        }
        self.keep(&units)
    }

    fn start_one(&self, name: &str) -> Result<std::result::Result<(), String>> {
        let exits = self.exits(name.trim_end_matches(".service"));
        let mut units = self.units();
        let pid = 1 + units
            .values()
            .filter_map(|u| Some(u.process.as_ref()?.0))
            .max()
            .unwrap_or(100);
        let Some(unit) = units.get_mut(name) else {
            return Ok(Err("no such unit".into()));
        };
        let Some(digest) = unit.loaded.clone() else {
            return Ok(Err("no such unit".into()));
        };
        if unit.process.is_some() {
            return Ok(Ok(()));
        }
        unit.failed = exits;
        unit.process = (!exits).then_some((pid, digest));
        self.keep(&units)?;
        Ok(if exits {
            Err("result failed".into())
        } else {
            Ok(())
        })
    }

    fn exits(&self, service: &str) -> bool {
        let file = self
            .roots
            .current()
            .join("services")
            .join(service)
            .join("config.json");
        let text = fs::read_to_string(file).unwrap_or_default();
        text.contains(&format!("BEHAVE={EXITS}"))
    }

    /// Whole or not at all, also if this process is killed meanwhile.
    fn keep(&self, units: &BTreeMap<String, Unit>) -> Result<()> {
        let new = self.file.with_extension("new");
        let bytes = serde_json::to_vec(units).map_err(|e| AgentError::other("units").because(e))?;
        fs::write(&new, bytes)
            .and_then(|()| fs::rename(&new, &self.file))
            .map_err(|e| AgentError::io("write", &self.file, e))
    }
}

fn digest_of(unit: &str) -> Option<String> {
    let (_, rest) = unit.split_once("--digest=")?;
    rest.split_whitespace().next().map(str::to_owned)
}

#[async_trait]
impl Units for Played {
    async fn daemon_reload(&self) -> Result<()> {
        self.load()
    }

    async fn start(&self, unit: &str, _: Duration) -> Result<std::result::Result<(), String>> {
        self.start_one(unit)
    }

    async fn restart(&self, unit: &str, deadline: Duration) -> Result<std::result::Result<(), String>> {
        match self.stop(unit, deadline).await? {
            Ok(()) => self.start_one(unit),
            Err(result) => Ok(Err(result)),
        }
    }

    async fn enqueue_start(&self, _: &str) -> Result<()> {
        Ok(())
    }

    async fn stop(&self, unit: &str, _: Duration) -> Result<std::result::Result<(), String>> {
        let mut units = self.units();
        if let Some(known) = units.get_mut(unit) {
            known.process = None;
        }
        self.keep(&units)?;
        Ok(Ok(()))
    }

    async fn reset_failed(&self, _: &str) -> Result<()> {
        Ok(())
    }

    async fn state(&self, unit: &str) -> Result<UnitState> {
        let unit = self.units().get(unit).cloned().unwrap_or_default();
        Ok(UnitState {
            loaded: unit.loaded.is_some(),
            active: unit.process.is_some(),
            failed: unit.failed,
            main_pid: unit.process.as_ref().map(|p| p.0),
            result: if unit.failed { "exit-code" } else { "success" }.into(),
            ..UnitState::default()
        })
    }

    async fn journal(&self, _: &str, _: u32) -> Vec<String> {
        Vec::new()
    }
}

#[async_trait]
impl Host for Played {
    fn facts(&self) -> Result<Facts> {
        self.real.host.facts()
    }

    fn boot_id(&self) -> Result<String> {
        let path = self.roots.run.join("boot-id");
        fs::read_to_string(&path).map_err(|e| AgentError::io("read", &path, e))
    }

    fn free_space(&self, path: &Path) -> Result<u64> {
        if self.roots.run.join(ROOM).exists() {
            return Ok(u64::MAX);
        }
        self.real.host.free_space(path)
    }

    async fn lacking(&self, _: &Requires) -> Result<Lacking> {
        Ok(Lacking::default())
    }

    fn guests(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn processes(&self, _: &BTreeSet<u32>) -> Vec<String> {
        Vec::new()
    }

    fn machines(&self) -> Result<Vec<Guest>> {
        Ok(Vec::new())
    }

    fn running(&self) -> Result<Vec<Running>> {
        let record = |(service, (pid, digest))| Running {
            service,
            digest,
            bundle: PathBuf::new(),
            tree: PathBuf::new(),
            pid: i32::try_from(pid).unwrap_or_default(),
            started_at_ticks: 1,
        };
        Ok(self.running_services().into_iter().map(record).collect())
    }
}

#[async_trait]
impl Clock for Played {
    fn now(&self) -> jiff::Timestamp {
        let skipped = *self.skipped.lock().unwrap_or_else(PoisonError::into_inner);
        self.real
            .clock
            .now()
            .saturating_add(skipped)
            .unwrap_or(jiff::Timestamp::MAX)
    }

    fn monotonic(&self) -> Duration {
        let skipped = *self.skipped.lock().unwrap_or_else(PoisonError::into_inner);
        self.real.clock.monotonic() + skipped
    }

    async fn sleep(&self, time: Duration) {
        let passed = time / HASTE;
        self.real.clock.sleep(passed).await;
        *self.skipped.lock().unwrap_or_else(PoisonError::into_inner) += time - passed;
    }
}

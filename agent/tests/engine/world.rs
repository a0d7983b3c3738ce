//! A world for the engine: what systemd, registries, the host and time would do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use node_agent::api::{FsckFinding, FsckReport, ReleaseInfo, SignedBy, TrustStatus};
use node_agent::config::Settings;
use node_agent::definition::{Fact, Gate, Probe, Requires, Scope, When};
use node_agent::deployment::ImageFacts;
use node_agent::error::{AgentError, Kind, Result};
use node_agent::facts::Facts;
use node_agent::ports::{
    Changing, Clock, Host, Images, Lacking, No, Ports, Probes, Progress, PullCost, StoreGc, TrustedRelease,
    UnitState, Units,
};
use node_agent::release::ReleaseDocument;
use node_agent::root::Roots;
use node_agent::wayback::Guest;
use node_images::digest::Digest;
use node_images::store::{Content, Holders, Locked};
use node_runtime::launch::Running;
use serde_json::json;

/// A unit as the played systemd has it.
#[derive(Debug, Clone, Default)]
pub struct Unit {
    /// Digest in the loaded unit text.
    pub loaded: Option<String>,
    /// What runs: pid and digest.
    pub process: Option<(u32, String)>,
    /// Automatic restarts.
    pub restarts: u32,
    /// The last start ended badly.
    pub failed: bool,
}

/// Everything that can be scripted and looked at.
#[derive(Debug, Default)]
pub struct Script {
    /// Units by name.
    pub units: BTreeMap<String, Unit>,
    /// Calls to systemd, in order.
    pub calls: Vec<String>,
    /// Releases by reference.
    pub releases: BTreeMap<String, TrustedRelease>,
    /// Images in the store.
    pub store: BTreeSet<Digest>,
    /// What fetching a release or its images ends with.
    pub trouble: Option<Kind>,
    /// What the host lacks.
    pub lacking: Vec<String>,
    /// Guests that run.
    pub guests: u32,
    /// Machine types of guests that run.
    pub machines: Vec<Guest>,
    /// What programs in services answer, by their last argument; the others find nobody.
    pub answers: BTreeMap<String, String>,
    /// Whether the compute service is disabled for our reason; absent while nobody answers.
    pub drain: Option<bool>,
    /// Whose trouble a closed gate is, where that is not what the gate says.
    pub whose: Option<Scope>,
    /// Units that fail while they are stopped.
    pub dies_hard: BTreeSet<String>,
    /// Images that processes have mounted.
    pub holders: Holders,
    /// A label of an image's configuration.
    pub labels: BTreeMap<Digest, (String, String)>,
    /// Of what the content was read, check by check.
    pub read: Vec<Content>,
    /// What a check finds that reads all content.
    pub broken: Vec<FsckFinding>,
    /// Free bytes.
    pub free: u64,
    /// Identity of the boot.
    pub boot: u32,
    /// Time since the start.
    pub elapsed: Duration,
    /// How far the clock on the wall is off, in seconds.
    pub clock_off: i64,
    /// Gates that say no, by name.
    pub closed_gates: BTreeSet<String>,
    /// When the closed gates open by themselves.
    pub gates_open_at: Option<Duration>,
    /// A service that crashes once this much time has passed.
    pub crash_at: Option<(String, Duration)>,
    next_pid: u32,
}

/// The world, shared by all ports.
#[derive(Debug, Clone)]
pub struct World {
    roots: Roots,
    script: Arc<Mutex<Script>>,
}

impl World {
    pub fn new(roots: &Roots) -> World {
        let script = Script {
            free: 10 << 30,
            next_pid: 100,
            ..Script::default()
        };
        World {
            roots: roots.clone(),
            script: Arc::new(Mutex::new(script)),
        }
    }

    pub fn script(&self) -> MutexGuard<'_, Script> {
        self.script
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub fn ports(&self) -> Ports {
        let world = Arc::new(self.clone());
        Ports {
            images: world.clone(),
            units: world.clone(),
            probes: world.clone(),
            host: world.clone(),
            clock: world,
        }
    }

    pub fn publish(&self, reference: &str, document: ReleaseDocument) {
        let bytes = document.to_bytes().unwrap();
        let info = ReleaseInfo {
            reference: reference.into(),
            digest: Digest::of(&bytes).to_string(),
            name: document.name.clone(),
            version: document.version.clone(),
            signed: None,
        };
        self.script().releases.insert(
            reference.into(),
            TrustedRelease {
                info,
                document,
                bytes,
            },
        );
    }

    /// A published release gets a signature of this day.
    pub fn sign(&self, reference: &str, day: &str) {
        let signed = SignedBy {
            repository: "r".into(),
            keys: vec!["a.pub".into()],
            time: Some(format!("{day}T00:00:00Z").parse().unwrap()),
        };
        let mut script = self.script();
        script.releases.get_mut(reference).unwrap().info.signed = Some(signed);
    }

    /// Pids of the services that run.
    pub fn pids(&self) -> BTreeMap<String, u32> {
        let script = self.script();
        let pid = |(name, unit): (&String, &Unit)| {
            Some((
                name.trim_end_matches(".service").to_owned(),
                unit.process.as_ref()?.0,
            ))
        };
        script.units.iter().filter_map(pid).collect()
    }

    /// Power goes off and on again: every process is gone, systemd starts what is current.
    pub fn reboot(&self) {
        let mut script = self.script();
        script.units.clear();
        script.boot += 1;
    }

    /// What systemd does at boot, after `nodectl recover --boot`.
    pub fn start_all(&self) {
        self.load_units();
        let names: Vec<String> = self.script().units.keys().cloned().collect();
        for name in names {
            self.start_unit(&name).ok();
        }
    }

    fn tree(&self, manifest: &Digest) -> PathBuf {
        self.roots.store().join("trees").join(manifest.hex())
    }

    fn load_units(&self) {
        let mut texts = BTreeMap::new();
        for directory in [self.roots.retired(), self.roots.current().join("units")] {
            for entry in std::fs::read_dir(directory).into_iter().flatten() {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                texts.insert(name, std::fs::read_to_string(path).unwrap());
            }
        }
        let mut script = self.script();
        for unit in script.units.values_mut() {
            unit.loaded = None;
        }
        for (name, text) in texts {
            let digest = text
                .split("--digest=")
                .nth(1)
                .unwrap()
                .split_whitespace()
                .next()
                .unwrap()
                .to_owned();
            script.units.entry(name).or_default().loaded = Some(digest);
        }
    }

    /// How a service behaves stands in the environment of its bundle.
    fn behaviour(&self, service: &str) -> Option<String> {
        let bundle = self
            .roots
            .current()
            .join("services")
            .join(service)
            .join("config.json");
        let config: serde_json::Value = serde_json::from_slice(&std::fs::read(bundle).ok()?).ok()?;
        let env = config["process"]["env"].as_array()?;
        env.iter()
            .find_map(|e| e.as_str()?.strip_prefix("BEHAVE=").map(str::to_owned))
    }

    fn start_unit(&self, name: &str) -> std::result::Result<(), String> {
        let behaviour = self.behaviour(name.trim_end_matches(".service"));
        let mut script = self.script();
        script.next_pid += 1;
        let (pid, boot) = (script.next_pid, script.boot);
        let Some(unit) = script.units.get_mut(name) else {
            return Err("no such unit".into());
        };
        let Some(digest) = unit.loaded.clone() else {
            return Err("no such unit".into());
        };
        if unit.process.is_some() {
            return Ok(());
        }
        let after_boot = behaviour.as_deref() == Some("exit-after-boot") && boot > 0;
        if behaviour.as_deref() == Some("exit") || after_boot {
            unit.failed = true;
            return Err("result failed".into());
        }
        (unit.process, unit.failed, unit.restarts) = (Some((pid, digest)), false, 0);
        Ok(())
    }
}

#[async_trait]
impl Units for World {
    async fn daemon_reload(&self) -> Result<()> {
        self.script().calls.push("reload".into());
        self.load_units();
        Ok(())
    }

    async fn start(&self, unit: &str, _: Duration) -> Result<std::result::Result<(), String>> {
        self.script().calls.push(format!("start {unit}"));
        Ok(self.start_unit(unit))
    }

    async fn restart(&self, unit: &str, _: Duration) -> Result<std::result::Result<(), String>> {
        self.script().calls.push(format!("restart {unit}"));
        if let Some(known) = self.script().units.get_mut(unit) {
            known.process = None;
        }
        Ok(self.start_unit(unit))
    }

    async fn enqueue_start(&self, unit: &str) -> Result<()> {
        self.script().calls.push(format!("enqueue {unit}"));
        Ok(())
    }

    async fn stop(&self, unit: &str, _: Duration) -> Result<std::result::Result<(), String>> {
        let mut script = self.script();
        script.calls.push(format!("stop {unit}"));
        let failed = script.dies_hard.contains(unit);
        if let Some(known) = script.units.get_mut(unit) {
            assert!(
                known.loaded.is_some() || known.process.is_none(),
                "{unit} lost its unit before it was stopped"
            );
            known.process = None;
            known.failed = failed;
        }
        Ok(Ok(()))
    }

    async fn reset_failed(&self, unit: &str) -> Result<()> {
        if let Some(known) = self.script().units.get_mut(unit) {
            known.failed = false;
        }
        Ok(())
    }

    async fn state(&self, name: &str) -> Result<UnitState> {
        let mut script = self.script();
        if let Some((service, at)) = script.crash_at.clone()
            && format!("{service}.service") == name
            && script.elapsed >= at
        {
            script.crash_at = None;
            if let Some(unit) = script.units.get_mut(name) {
                unit.restarts += 1;
            }
        }
        let unit = script.units.get(name).cloned().unwrap_or_default();
        Ok(UnitState {
            loaded: unit.loaded.is_some(),
            active: unit.process.is_some(),
            changing: Changing::No,
            failed: unit.failed,
            main_pid: unit.process.as_ref().map(|p| p.0),
            restarts: unit.restarts,
            result: if unit.failed {
                "exit-code".into()
            } else {
                "success".into()
            },
            active_since_usec: None,
            kill_mode: "process".into(),
        })
    }

    async fn journal(&self, unit: &str, _: u32) -> Vec<String> {
        vec![format!("last words of {unit}")]
    }
}

#[async_trait]
impl Probes for World {
    async fn ask(&self, service: &str, gate: &Gate, _: When) -> Result<std::result::Result<(), No>> {
        let whose = self.script().whose.unwrap_or(gate.scope);
        let no = |why: &str| {
            Ok(Err(No {
                why: why.into(),
                whose,
            }))
        };
        let closed = {
            let script = self.script();
            let opened = script.gates_open_at.is_some_and(|at| script.elapsed >= at);
            script.closed_gates.contains(&gate.name) && !opened
        };
        if closed {
            return no("it is closed");
        }
        let behaviour = self.behaviour(service);
        match &gate.probe {
            Probe::Exec { .. } if behaviour.as_deref() == Some("deaf") => no("no answer"),
            _ => Ok(Ok(())),
        }
    }

    async fn run(
        &self,
        service: &str,
        command: &[String],
        _: Duration,
    ) -> Result<std::result::Result<String, No>> {
        let mut script = self.script();
        let words = command.get(1..).unwrap_or_default().join(" ");
        script.calls.push(format!("ask {service} {words}"));
        let drained = script.drain.filter(|_| words.contains("able "));
        let answer = drained.map(|ours| format!("{{\"ours\": {ours}}}"));
        Ok(answer.or(script.answers.get(&words).cloned()).ok_or(No {
            why: "no conductor answers".into(),
            whose: Scope::Remote,
        }))
    }
}

#[async_trait]
impl Host for World {
    fn facts(&self) -> Result<Facts> {
        Ok([(Fact::Hostname, "node1".to_owned())].into())
    }

    fn boot_id(&self) -> Result<String> {
        Ok(format!("boot-{}", self.script().boot))
    }

    fn free_space(&self, _: &Path) -> Result<u64> {
        Ok(self.script().free)
    }

    async fn lacking(&self, requires: &Requires) -> Result<Lacking> {
        let lacks = self.script().lacking.clone();
        let required = requires
            .kernel_modules
            .iter()
            .filter(|m| lacks.contains(m))
            .cloned()
            .collect();
        Ok(Lacking {
            required,
            optional: Vec::new(),
        })
    }

    fn guests(&self) -> Result<Vec<String>> {
        let count = self.script().guests;
        Ok((1..=count).map(|n| format!("guest {n}")).collect())
    }

    fn processes(&self, pids: &BTreeSet<u32>) -> Vec<String> {
        pids.iter().map(|pid| format!("process {pid}")).collect()
    }

    fn machines(&self) -> Result<Vec<Guest>> {
        Ok(self.script().machines.clone())
    }

    fn running(&self) -> Result<Vec<Running>> {
        let script = self.script();
        let record = |(name, unit): (&String, &Unit)| {
            let (pid, digest) = unit.process.clone()?;
            Some(Running {
                service: name.trim_end_matches(".service").to_owned(),
                digest,
                bundle: PathBuf::new(),
                tree: PathBuf::new(),
                pid: i32::try_from(pid).unwrap(),
                started_at_ticks: 1,
            })
        };
        Ok(script.units.iter().filter_map(record).collect())
    }
}

#[async_trait]
impl Clock for World {
    fn now(&self) -> jiff::Timestamp {
        let script = self.script();
        let elapsed = i64::try_from(script.elapsed.as_secs()).unwrap();
        jiff::Timestamp::from_second(1_700_000_000 + script.clock_off + elapsed).unwrap()
    }

    fn monotonic(&self) -> Duration {
        self.script().elapsed
    }

    async fn sleep(&self, time: Duration) {
        self.script().elapsed += time;
        tokio::task::yield_now().await;
    }
}

#[async_trait]
impl Images for World {
    async fn release(&self, _: &Settings, reference: &str) -> Result<TrustedRelease> {
        let script = self.script();
        match (script.trouble, script.releases.get(reference)) {
            (Some(Kind::Verification), _) => {
                Err(AgentError::verification(format!("{reference} is not signed")))
            }
            (_, Some(release)) => Ok(release.clone()),
            (_, None) => Err(AgentError::new(
                Kind::Unavailable,
                format!("can't reach {reference}"),
            )),
        }
    }

    async fn cost(&self, _: &Settings, release: &TrustedRelease, names: &BTreeSet<&str>) -> Result<PullCost> {
        let script = self.script();
        let images = release
            .document
            .images
            .iter()
            .filter(|(n, _)| names.contains(n.as_str()));
        let missing = images.filter(|(_, b)| !script.store.contains(&b.digest)).count() as u64;
        Ok(PullCost {
            fetch: missing << 20,
            store: missing << 22,
        })
    }

    async fn pull(
        &self,
        _: &Locked,
        _: &Settings,
        release: &TrustedRelease,
        names: &BTreeSet<&str>,
        progress: Progress<'_>,
    ) -> Result<()> {
        progress("images", 1, Some(2));
        let mut script = self.script();
        if let Some(kind) = script.trouble {
            return Err(AgentError::new(kind, "layer sha256:abc of image nova: trouble"));
        }
        let images = release
            .document
            .images
            .iter()
            .filter(|(n, _)| names.contains(n.as_str()));
        for (name, binding) in images {
            // The program that services of this image run; all of them have a /bin.
            let bin = self.tree(&binding.digest).join("bin");
            std::fs::create_dir_all(&bin).unwrap();
            std::fs::write(bin.join(name), "").unwrap();
            script.store.insert(binding.digest);
        }
        Ok(())
    }

    fn facts(&self, manifest: &Digest) -> Result<Option<ImageFacts>> {
        if !self.script().store.contains(manifest) {
            return Ok(None);
        }
        let labels: BTreeMap<_, _> = self.script().labels.get(manifest).cloned().into_iter().collect();
        let config = json!({
            "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []},
            "config": {"Labels": labels},
        });
        Ok(Some(ImageFacts {
            manifest: *manifest,
            config: serde_json::from_value(config).unwrap(),
            tree: self.tree(manifest),
            passwd: "root:x:0:0:root:/root:/bin/sh\n".into(),
            group: "root:x:0:\n".into(),
        }))
    }

    fn in_use(&self) -> Result<Holders> {
        Ok(self.script().holders.clone())
    }

    async fn gc(&self, _: &Locked, keep: &BTreeSet<Digest>, dry_run: bool) -> Result<StoreGc> {
        let mut script = self.script();
        let images: Vec<Digest> = script.store.difference(keep).copied().collect();
        if !dry_run {
            script.store.retain(|d| keep.contains(d));
        }
        Ok(StoreGc {
            images,
            objects: 0,
            bytes: 0,
        })
    }

    async fn fsck(&self, _: &Settings, content: Content, _: Option<&Locked>) -> Result<FsckReport> {
        let mut script = self.script();
        script.read.push(content);
        let all = content == Content::All;
        Ok(FsckReport {
            findings: script.broken.iter().filter(|_| all).cloned().collect(),
            ..FsckReport::default()
        })
    }

    fn seals(&self) -> Result<Option<bool>> {
        Ok(None)
    }

    fn trust(&self) -> TrustStatus {
        TrustStatus {
            signatures_required: true,
            keys: vec![],
            warnings: vec![],
        }
    }
}

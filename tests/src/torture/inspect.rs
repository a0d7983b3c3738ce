//! What has to hold after every cut and every kill.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use node_agent::api::OutcomeKind;
use node_agent::deployment::{Bundle, Deployment, current, list};
use node_agent::engine::{Depth, Engine, UpgradeOptions, silent};

use super::cast::{Cast, DAMAGED, Expected};
use super::machine::Machine;
use super::played::Played;
use super::step::Allowed;
use crate::tiny;

/// What ended the work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The power went: everything starts anew, in a boot of this identity.
    Cut(String),
    /// The process was killed: what ran goes on running.
    Kill,
}

/// Who looks at nodes.
#[derive(Debug)]
pub struct Inspector {
    cast: Cast,
    expected: Expected,
    runtime: tokio::runtime::Runtime,
}

/// What is wrong; empty if nothing is.
pub type Violations = Vec<String>;

impl Inspector {
    /// Unpacks what is expected below a directory.
    ///
    /// # Errors
    /// A layer cannot be unpacked.
    pub fn new(cast: &Cast, directory: &Path) -> Result<Self> {
        Ok(Self {
            cast: cast.clone(),
            expected: Expected::unpack(cast, directory)?,
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()?,
        })
    }

    /// How many entries the image of a version has, and how many of them are missing or have wrong content in a
    /// directory of somebody else.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn count_wrong(&self, version: &str, directory: &Path) -> Result<(usize, usize)> {
        let manifest = self.cast.changing.get(version).context("no such version")?;
        self.expected.count_wrong(manifest, directory)
    }

    /// What a full check of the node finds, after a repair if that is asked for. A check that can't be made has found
    /// something, too.
    ///
    /// # Errors
    /// The test itself failed.
    pub fn found(&self, machine: &Machine, depth: Depth) -> Result<Violations> {
        let (engine, _) = machine.engine()?;
        Ok(match self.runtime.block_on(engine.fsck(depth)) {
            Err(e) => vec![e.chain()],
            Ok(report) => {
                let left = report.findings.iter().filter(|finding| !finding.repaired);
                left.map(|f| format!("{}: {}", f.subject, f.problem)).collect()
            }
        })
    }

    /// Brings a node back and tells everything that is not as it has to be.
    ///
    /// # Errors
    /// The test itself failed.
    pub fn after(&self, machine: &Machine, end: &End, allowed: &Allowed) -> Result<Violations> {
        let before = match end {
            End::Cut(identity) => {
                machine.boot(identity)?;
                BTreeMap::new()
            }
            End::Kill => machine.engine()?.1.running_services(),
        };
        let look = Look {
            inspector: self,
            machine,
            allowed,
        };
        let mut wrong = look.found();
        // What was lost makes the rest fail as well; the first thing is the one to tell.
        if wrong.is_empty() {
            wrong.extend(self.runtime.block_on(look.settle(end, &before))?);
        }
        if wrong.is_empty() {
            wrong.extend(self.runtime.block_on(look.converge())?);
        }
        Ok(wrong)
    }
}

struct Look<'a> {
    inspector: &'a Inspector,
    machine: &'a Machine,
    allowed: &'a Allowed,
}

impl Look<'_> {
    /// As the node is found, before anything of nodectl ran.
    fn found(&self) -> Violations {
        let mut wrong = self.is_on(&self.allowed.found, "found");
        wrong.extend(self.whole(self.allowed.damaged));
        wrong
    }

    /// What the boot or the restarted noded makes of it.
    async fn settle(&self, end: &End, before: &BTreeMap<String, (u32, String)>) -> Result<Violations> {
        if let End::Cut(_) = end {
            let (engine, played) = self.machine.engine()?;
            if let Err(e) = engine.recover(true, silent()).await {
                return Ok(vec![format!("recover --boot: {}", e.chain())]);
            }
            played.start_all()?;
        }
        let (engine, played) = self.machine.engine()?;
        if let Err(e) = engine.recover(false, silent()).await {
            return Ok(vec![format!("recover: {}", e.chain())]);
        }
        let mut wrong = self.is_on(&self.allowed.settled, "settled");
        if self.machine.roots().transaction().exists() {
            wrong.push("the transaction is still open".to_owned());
        }
        wrong.extend(self.runs_current(&played));
        let steady = played.running_services().remove("steady");
        if let (Some(was), now) = (before.get("steady"), steady)
            && now.as_ref() != Some(was)
        {
            wrong.push(format!("steady was restarted: {was:?}, now {now:?}"));
        }
        Ok(wrong)
    }

    /// The work is done once more, and nothing is left over.
    async fn converge(&self) -> Result<Violations> {
        let (engine, played) = self.machine.engine()?;
        if self.allowed.damaged
            && let Err(e) = engine.fsck(Depth::Repair).await
        {
            return Ok(vec![format!("fsck --repair: {}", e.chain())]);
        }
        let again = engine
            .upgrade(Some(&tiny::reference("2")), UpgradeOptions::default(), silent())
            .await;
        match again {
            Ok(o) if matches!(o.kind, OutcomeKind::Done | OutcomeKind::NothingToDo) => {}
            Ok(o) => return Ok(vec![format!("again: {:?}: {}", o.kind, o.message)]),
            Err(e) => return Ok(vec![format!("again: {}", e.chain())]),
        }
        if let Err(e) = engine.gc(false).await {
            return Ok(vec![format!("gc: {}", e.chain())]);
        }
        let mut wrong = self.is_on(&["2".to_owned()].into(), "converged");
        wrong.extend(self.runs_current(&played));
        wrong.extend(self.whole(false));
        wrong.extend(self.fsck_is_clean(&engine).await);
        wrong.extend(self.nothing_left()?);
        Ok(wrong)
    }

    async fn fsck_is_clean(&self, engine: &Engine) -> Violations {
        match engine.fsck(Depth::Full).await {
            Err(e) => vec![format!("fsck: {}", e.chain())],
            Ok(report) => {
                let told = report.findings.iter();
                told.map(|f| format!("fsck: {}: {}", f.subject, f.problem))
                    .collect()
            }
        }
    }

    fn is_on(&self, versions: &BTreeSet<String>, when: &str) -> Violations {
        match self.version() {
            Ok(Some(version)) if versions.contains(&version) => Vec::new(),
            Ok(version) => vec![format!(
                "{when} on {}, not on one of {versions:?}",
                version.as_deref().unwrap_or("nothing")
            )],
            Err(e) => vec![format!("{when}: {e:#}")],
        }
    }

    fn version(&self) -> Result<Option<String>> {
        let roots = self.machine.roots();
        let Some(seq) = current(&roots)? else {
            return Ok(None);
        };
        let deployment = Deployment::load(&roots, seq)?;
        Ok(Some(deployment.document.release.version))
    }

    /// Everything that any deployment refers to is right, byte for byte.
    fn whole(&self, damaged: bool) -> Violations {
        self.try_whole(damaged).unwrap_or_else(|e| vec![format!("{e:#}")])
    }

    fn try_whole(&self, damaged: bool) -> Result<Violations> {
        let roots = self.machine.roots();
        let (mut wrong, mut manifests) = (Vec::new(), BTreeSet::new());
        for seq in list(&roots)? {
            let deployment = Deployment::load(&roots, seq).with_context(|| format!("deployment {seq}"))?;
            for (name, service) in &deployment.document.services {
                manifests.insert(service.manifest.to_string());
                let bundle = Bundle::read(&deployment.bundle(name))?;
                if bundle.digest() != service.digest {
                    wrong.push(format!(
                        "the bundle of {name} in deployment {seq} is not what it was"
                    ));
                }
            }
        }
        for manifest in &manifests {
            let hex = manifest.trim_start_matches("sha256:");
            let tree = roots.store().join("trees").join(hex);
            let hurt = damaged && self.inspector.cast.changing.get("1") == Some(manifest);
            let file = hurt.then(|| Path::new(DAMAGED));
            let differences = self.inspector.expected.compare(manifest, &tree, file)?;
            wrong.extend(summary(differences));
        }
        Ok(wrong)
    }

    fn runs_current(&self, played: &Played) -> Violations {
        let roots = self.machine.roots();
        let wanted = current(&roots).and_then(|seq| match seq {
            None => Ok(BTreeMap::new()),
            Some(seq) => {
                let services = Deployment::load(&roots, seq)?.document.services;
                Ok(services.into_iter().map(|(name, s)| (name, s.digest)).collect())
            }
        });
        let running: BTreeMap<String, String> = played
            .running_services()
            .into_iter()
            .map(|(name, (_, digest))| (name, digest))
            .collect();
        match wanted {
            Ok(wanted) if wanted == running => Vec::new(),
            Ok(wanted) => vec![format!("runs {running:?}, should run {wanted:?}")],
            Err(e) => vec![e.chain()],
        }
    }

    fn nothing_left(&self) -> Result<Violations> {
        let roots = self.machine.roots();
        let mut wrong = Vec::new();
        for (directory, keep) in [
            (roots.store().join("tmp"), &["blobs"][..]),
            (roots.store().join("tmp/blobs"), &[]),
            (roots.snapshots(), &[]),
        ] {
            for entry in fs::read_dir(&directory).into_iter().flatten() {
                let name = entry?.file_name().to_string_lossy().into_owned();
                if !keep.contains(&name.as_str()) {
                    wrong.push(format!("{} is left in {}", name, directory.display()));
                }
            }
        }
        let store = roots.store();
        for directory in [
            roots.state.clone(),
            roots.deployments(),
            roots.rejected(),
            roots.node_toml_d(),
            store.join("images"),
            store.join("layers"),
            store.join("trees"),
            store,
        ] {
            for entry in fs::read_dir(&directory).into_iter().flatten() {
                let name = entry?.file_name().to_string_lossy().into_owned();
                if name.starts_with('.') {
                    wrong.push(format!("{name} is left in {}", directory.display()));
                }
            }
        }
        Ok(wrong)
    }
}

/// The first differences, and how many more.
fn summary(mut differences: Violations) -> Violations {
    let more = differences.len().saturating_sub(3);
    differences.truncate(3);
    if more > 0 {
        differences.push(format!("and {more} more files"));
    }
    differences
}

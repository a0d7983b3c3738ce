//! The same cut for containers-storage, which podman and skopeo use: after a pull that was reported as done.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use clap::ValueEnum;

use super::cuts::Noise;
use super::dice::Dice;
use super::inside::Place;
use super::inspect::Violations;
use super::tally::Tally;
use crate::command::{attempt, command, output};
use crate::{registry, tiny};

/// Who pulls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    /// `podman pull`
    Podman,
    /// `skopeo copy` into containers-storage
    Skopeo,
}

const DISK: &str = "peer";
const CUT: &str = "cut";

/// The image that is pulled, as [`super::cast`] names it.
const IMAGE: &str = "image2";
const VERSION: &str = "2";

/// Cuts the power at most this many milliseconds after a pull has succeeded.
const AFTER: u64 = 2000;

/// Pulls and cuts this often.
///
/// # Errors
/// The test itself failed.
pub fn run(place: &Place, peer: Peer, count: u64, seed: u64) -> Result<Tally> {
    let mut dice = Dice::new(seed);
    let mut tally = Tally::new("cuts");
    let storage = Storage {
        root: place.machine.disk().join("containers"),
        run: place.base().join("containers-run"),
    };
    for _ in 0..count {
        place.disks.format(DISK)?;
        let mounted = place.disks.mount(DISK, &place.machine.disk())?;
        let noise = Noise::make(&mounted, dice.below(1 << 32));
        output(&mut storage.pull(peer))?;
        std::thread::sleep(dice.pause(AFTER));
        place.disks.clone_disk(DISK, CUT)?;
        noise.end()?;
        storage.let_go()?;
        mounted.unmount()?;
        let mounted = place.disks.mount(CUT, &place.machine.disk())?;
        let mut violations = storage.look(place, peer, "after the cut")?;
        if !violations.is_empty() {
            let again = attempt(&mut storage.pull(peer))?;
            let words = format!("after another pull ({})", again.status);
            violations.extend(storage.look(place, peer, &words)?);
        }
        tally.count("after a pull that was done", &violations);
        storage.let_go()?;
        mounted.unmount()?;
        place.disks.forget(CUT)?;
    }
    Ok(tally)
}

struct Storage {
    root: PathBuf,
    run: PathBuf,
}

impl Storage {
    fn podman(&self) -> Command {
        let mut podman = command("podman", ["--storage-driver", "overlay", "--root"]);
        podman.arg(&self.root).arg("--runroot").arg(&self.run);
        podman
    }

    fn name(&self) -> String {
        format!(
            "containers-storage:[overlay@{}+{}]localhost/{IMAGE}:1",
            self.root.display(),
            self.run.display()
        )
    }

    fn pull(&self, peer: Peer) -> Command {
        let image = format!("{}/{}/{IMAGE}:1", registry::FROM_LAB, tiny::REPOSITORY);
        match peer {
            Peer::Podman => {
                let mut podman = self.podman();
                podman.args(["pull", "--quiet", "--tls-verify=false", &image]);
                podman
            }
            Peer::Skopeo => {
                let mut skopeo = command(
                    "skopeo",
                    ["--insecure-policy", "copy", "--quiet", "--src-tls-verify=false"],
                );
                skopeo.arg(format!("docker://{image}")).arg(self.name());
                skopeo
            }
        }
    }

    /// Whether the image counts as there, and what is wrong with its files.
    fn look(&self, place: &Place, peer: Peer, when: &str) -> Result<Violations> {
        let mut question = match peer {
            Peer::Podman => {
                let mut podman = self.podman();
                podman.args([
                    "image",
                    "exists",
                    &format!("{}/{}/{IMAGE}:1", registry::FROM_LAB, tiny::REPOSITORY),
                ]);
                podman
            }
            Peer::Skopeo => command("skopeo", ["--insecure-policy", "inspect", &self.name()]),
        };
        let there = attempt(&mut question)?.status.success();
        let Some(layer) = self.layer()? else {
            return Ok(vec![format!(
                "{when}: no layer is there; the image counts as there: {there}"
            )]);
        };
        let (all, wrong) = place.inspector.count_wrong(VERSION, &layer)?;
        if there && wrong == 0 {
            return Ok(Vec::new());
        }
        Ok(vec![format!(
            "{when}: {wrong} of {all} files are wrong; the image counts as there: {there}"
        )])
    }

    /// The directory with the files of the only layer.
    fn layer(&self) -> Result<Option<PathBuf>> {
        for entry in std::fs::read_dir(self.root.join("overlay")).into_iter().flatten() {
            let files = entry?.path().join("diff");
            if files.join("bin").is_dir() {
                return Ok(Some(files));
            }
        }
        Ok(None)
    }

    /// The driver keeps a mount of its own below its root.
    fn let_go(&self) -> Result<()> {
        let below = self.root.join("overlay");
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").context("read the mount table")?;
        let mounted = mounts
            .lines()
            .any(|line| line.split(' ').nth(4).map(Path::new) == Some(&below));
        if mounted {
            nix::mount::umount(&below).with_context(|| format!("unmount {}", below.display()))?;
        }
        Ok(())
    }
}

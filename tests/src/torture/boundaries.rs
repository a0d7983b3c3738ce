//! A cut, or a kill, at each boundary: before every system call that changes the disk, one after the other.

use anyhow::{Result, bail, ensure};
use clap::ValueEnum;

use super::beginnings::Beginnings;
use super::cuts::{look, touch};
use super::disk::Mounted;
use super::inside::{LIVE, Place};
use super::inspect::End;
use super::step::{Allowed, Step, allowed};
use super::tally::Tally;
use super::trace::{self, Fate, Stop};
use super::worker::Worker;

/// How much of what was issued before the cut has reached the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Reached {
    /// Everything: the file system was synced right before the cut.
    All,
    /// What the program itself forced, and nothing else.
    Forced,
    /// Names without bytes: the journal was committed right before the cut by somebody's unrelated fsync.
    Names,
}

/// What the working process is made to leave out: it believes that it was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Without {
    /// The barrier of a pull and of a staging, syncfs(2).
    Barrier,
    /// fsync(2) of files.
    FileSync,
    /// fsync(2) of directories.
    DirectorySync,
}

impl Without {
    fn is(self, stop: &Stop) -> bool {
        let Stop::Call { call, path } = stop else {
            return false;
        };
        match self {
            Self::Barrier => call == "syncfs",
            Self::FileSync => call == "fsync" && path.is_file(),
            Self::DirectorySync => call == "fsync" && path.is_dir(),
        }
    }
}

/// Cuts at every n-th boundary of these steps.
///
/// # Errors
/// The test itself failed, or the node failed without any cut.
pub fn cut(
    place: &Place,
    steps: &[Step],
    reached: Reached,
    without: &[Without],
    every: usize,
) -> Result<Tally> {
    let mut tally = Tally::new("states");
    let mounted = place.begin(true)?;
    let mut camera = Camera {
        place,
        mounted: &mounted,
        reached,
        written: None,
        cuts: Vec::new(),
        same: 0,
    };
    let (mut scene, mut calls) = (Scene::new(steps), 0_usize);
    let ended = follow(place, steps, |stop| {
        if let Some((moment, allowed)) = scene.at(stop) {
            calls += 1;
            if calls.is_multiple_of(every) {
                camera.shoot(&moment, &allowed)?;
            }
        }
        let skipped = without.iter().any(|without| without.is(stop));
        Ok(if skipped { Fate::Skip } else { Fate::Live })
    })?;
    ensure!(ended, "the working process was killed");
    let (cuts, same) = (camera.cuts, camera.same);
    mounted.unmount()?;
    place.disks.forget(LIVE)?;
    (0..same).for_each(|_| tally.count_same());
    for (number, (moment, allowed)) in cuts.iter().enumerate() {
        let disk = format!("cut{number}");
        let violations = look(place, &disk, &End::Cut(format!("after {disk}")), allowed)?;
        tally.count(moment, &violations);
        place.disks.forget(&disk)?;
    }
    Ok(tally)
}

/// Runs the steps under [`trace`]; whether they came to their end.
///
/// # Errors
/// The node failed by itself.
pub fn follow(place: &Place, steps: &[Step], at: impl FnMut(&Stop) -> Result<Fate>) -> Result<bool> {
    let mut worker = Worker::start_traced(place, steps)?;
    let followed = trace::follow(worker.pid())?;
    for _ in steps {
        worker.go()?;
    }
    followed.run(&place.machine.disk(), at)
}

/// What the steps are called, and what is allowed during and after them.
fn each(steps: &[Step]) -> impl Iterator<Item = (String, Allowed, Allowed)> {
    let allowed = allowed("1", steps).into_iter();
    steps
        .iter()
        .zip(allowed)
        .map(|(step, (during, after))| (step.to_string(), during, after))
}

/// Where in the steps the process is.
#[derive(Debug, Clone)]
pub struct Scene {
    steps: Vec<(String, Allowed, Allowed)>,
    step: usize,
}

impl Scene {
    /// At the beginning.
    pub fn new(steps: &[Step]) -> Self {
        let steps = each(steps).collect();
        Self { steps, step: 0 }
    }

    /// At the beginning of each of the steps, with nothing after it.
    pub fn apart(steps: &[Step]) -> Vec<Self> {
        each(steps)
            .map(|only| Self {
                steps: vec![only],
                step: 0,
            })
            .collect()
    }

    /// What a stop is called and what is allowed there; `None` for one that is no boundary.
    pub fn at(&mut self, stop: &Stop) -> Option<(String, Allowed)> {
        let (step, during, after) = self.steps.get(self.step)?;
        match stop {
            Stop::Call { call, .. } => Some((format!("{step} {call}"), during.clone())),
            Stop::Tell(text) if text == "done" => {
                let told = (format!("{step} done"), after.clone());
                self.step += 1;
                Some(told)
            }
            Stop::Tell(_) => None,
        }
    }
}

struct Camera<'a> {
    place: &'a Place,
    mounted: &'a Mounted,
    reached: Reached,
    written: Option<u64>,
    cuts: Vec<(String, Allowed)>,
    same: u64,
}

impl Camera<'_> {
    fn shoot(&mut self, moment: &str, allowed: &Allowed) -> Result<()> {
        match self.reached {
            Reached::All => self.mounted.sync()?,
            Reached::Names => touch(&self.mounted.path().join("unrelated"))?,
            Reached::Forced => {}
        }
        let written = self.mounted.written()?;
        let seen_before = self.written.replace(written) == Some(written);
        // The same disk is allowed less after a step than during it: only within one of them it is the same state.
        if seen_before && self.cuts.last().is_some_and(|(_, last)| last == allowed) {
            self.same += 1;
            return Ok(());
        }
        let disk = format!("cut{}", self.cuts.len());
        self.place.disks.clone_disk(LIVE, &disk)?;
        self.cuts.push((moment.to_owned(), allowed.clone()));
        Ok(())
    }
}

/// Kills the process at every boundary, each time from the beginning of its step; what ran goes on running.
///
/// # Errors
/// The test itself failed, or the node failed without being killed.
pub fn kill(place: &Place, steps: &[Step], every: usize) -> Result<Tally> {
    let mut tally = Tally::new("kills");
    let beginnings = Beginnings::keep(place, steps)?;
    for (number, scene) in Scene::apart(steps).iter().enumerate() {
        for at in (0..).step_by(every.max(1)) {
            let mounted = beginnings.begin(number)?;
            let (mut scene, mut seen, mut killed) = (scene.clone(), 0, None);
            let ended = follow(place, &steps[number..=number], |stop| {
                let Some(found) = scene.at(stop) else {
                    return Ok(Fate::Live);
                };
                seen += 1;
                if seen <= at {
                    return Ok(Fate::Live);
                }
                killed = Some(found);
                Ok(Fate::Die)
            })?;
            match (ended, killed) {
                (true, None) => {
                    mounted.unmount()?;
                    break;
                }
                (false, Some((moment, allowed))) => {
                    let violations = place.inspector.after(&place.machine, &End::Kill, &allowed)?;
                    tally.count(&moment, &violations);
                    mounted.unmount()?;
                }
                (ended, killed) => bail!("killed at {killed:?}, and ended by itself: {ended}"),
            }
        }
    }
    Ok(tally)
}

//! A node as it is at the beginning of each of some steps: what is done to one step a hundred times does not need those
//! before it each time.

use std::path::PathBuf;

use anyhow::Result;

use super::disk::Mounted;
use super::inside::{LIVE, Place};
use super::step::Step;
use super::worker::Worker;
use crate::cache;
use crate::command::{command, output};

/// The disks and what is in memory, kept.
#[derive(Debug)]
pub struct Beginnings<'a> {
    place: &'a Place,
}

impl<'a> Beginnings<'a> {
    /// Plays the steps in peace and keeps what is there before each.
    ///
    /// # Errors
    /// The test itself failed, or the node did.
    pub fn keep(place: &'a Place, steps: &[Step]) -> Result<Self> {
        let kept = Self { place };
        let mut mounted = place.begin(false)?;
        for (number, step) in steps.iter().enumerate() {
            // Unmounted, so that nothing has to be replayed later.
            mounted.unmount()?;
            place.disks.clone_disk(LIVE, &disk(number))?;
            copy(&place.machine.roots().run, &kept.memory(number))?;
            mounted = place.disks.mount(LIVE, &place.machine.disk())?;
            let mut worker = Worker::start(place, std::slice::from_ref(step), &[])?;
            worker.go()?;
            worker.finish()?;
        }
        mounted.unmount()?;
        Ok(kept)
    }

    /// The node before the step of this number.
    ///
    /// # Errors
    /// It cannot be mounted, or there is no such step.
    pub fn begin(&self, number: usize) -> Result<Mounted> {
        self.place.disks.clone_disk(&disk(number), LIVE)?;
        copy(&self.memory(number), &self.place.machine.roots().run)?;
        self.place.disks.mount(LIVE, &self.place.machine.disk())
    }

    fn memory(&self, number: usize) -> PathBuf {
        self.place.base().join(format!("memory{number}"))
    }
}

fn disk(number: usize) -> String {
    format!("before{number}")
}

fn copy(from: &std::path::Path, to: &std::path::Path) -> Result<()> {
    cache::remove(to)?;
    output(command("cp", ["--archive", "--"]).arg(from).arg(to)).map(drop)
}

//! Power cuts at random instants of everything that a node does.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};

use anyhow::{Context, Result, bail};

use super::dice::Dice;
use super::disk::Mounted;
use super::inside::{LIVE, Place};
use super::inspect::{End, Violations};
use super::step::{Allowed, Step, allowed};
use super::tally::Tally;
use super::work::Lie;
use super::worker::{Told, Worker};

/// Everything that writes: fetch, stage, commit, activate; a release that fails; the way back; garbage; repair.
const STORY: &[&str] = &[
    "upgrade:2",
    "upgrade:3",
    "rollback",
    "gc",
    "damage",
    "repair",
    "upgrade:2",
];

/// Cuts of one run are at most this far apart, in milliseconds.
const GAP: u64 = 90;

/// What the disk held at an instant.
#[derive(Debug)]
struct Cut {
    disk: String,
    moment: String,
    allowed: Allowed,
}

/// Cuts the power this often, and looks at what is left each time.
///
/// # Errors
/// The test itself failed, or the node failed without any cut.
pub fn run(place: &Place, count: u64, seed: u64, lies: &[Lie]) -> Result<Tally> {
    let mut dice = Dice::new(seed);
    let mut tally = Tally::new("cuts");
    while tally.tried() < count {
        let mut cuts = take(place, &mut dice, lies)?;
        // A small count sees something of everything too.
        dice.shuffle(&mut cuts);
        for cut in cuts {
            if tally.tried() < count {
                let boot = format!("after {}", cut.disk);
                let violations = look(place, &cut.disk, &End::Cut(boot), &cut.allowed)?;
                tally.count(&cut.moment, &violations);
            }
            place.disks.forget(&cut.disk)?;
        }
    }
    Ok(tally)
}

/// Mounts a disk as it was left and looks at it.
///
/// # Errors
/// The test itself failed.
pub fn look(place: &Place, disk: &str, end: &End, allowed: &Allowed) -> Result<Violations> {
    let mounted = match place.disks.mount(disk, &place.machine.disk()) {
        Ok(mounted) => mounted,
        Err(e) => return Ok(vec![format!("it does not mount: {e:#}")]),
    };
    let violations = place.inspector.after(&place.machine, end, allowed)?;
    mounted.unmount()?;
    Ok(violations)
}

/// One run of the story, undisturbed; what the disk held at many instants of it.
fn take(place: &Place, dice: &mut Dice, lies: &[Lie]) -> Result<Vec<Cut>> {
    let steps: Vec<Step> = STORY
        .iter()
        .map(|text| text.parse())
        .collect::<Result<_, _>>()
        .map_err(anyhow::Error::msg)?;
    let mounted = place.begin(false)?;
    let worker = Worker::start(place, &steps, lies)?;
    let noise = Noise::make(&mounted, dice.below(1 << 32));
    let mut shutter = Shutter {
        place,
        dice,
        cuts: Vec::new(),
    };
    let told = shutter.watch(worker, &steps);
    noise.end()?;
    mounted.unmount()?;
    place.disks.forget(LIVE)?;
    told.map(|()| shutter.cuts)
}

struct Shutter<'a> {
    place: &'a Place,
    dice: &'a mut Dice,
    cuts: Vec<Cut>,
}

impl Shutter<'_> {
    fn watch(&mut self, mut worker: Worker, steps: &[Step]) -> Result<()> {
        for (step, (during, after)) in steps.iter().zip(allowed("1", steps)) {
            worker.go()?;
            let mut moment = format!("{step}");
            loop {
                match worker.told(self.dice.pause(GAP)) {
                    None => self.cut(&moment, &during)?,
                    Some(Told::Phase(phase)) => {
                        moment = format!("{step} {phase}");
                        // The short phases would hardly be seen otherwise.
                        std::thread::sleep(self.dice.pause(3));
                        self.cut(&moment, &during)?;
                    }
                    Some(Told::Done) => break,
                    Some(Told::Gone) => {
                        worker.finish()?;
                        bail!("the working process ended early");
                    }
                }
            }
            for _ in 0..2 {
                std::thread::sleep(self.dice.pause(GAP));
                self.cut(&format!("{step} done"), &after)?;
            }
        }
        worker.finish()
    }

    fn cut(&mut self, moment: &str, allowed: &Allowed) -> Result<()> {
        let disk = format!("cut{}", self.cuts.len());
        self.place.disks.clone_disk(LIVE, &disk)?;
        self.cuts.push(Cut {
            disk,
            moment: moment.to_owned(),
            allowed: allowed.clone(),
        });
        Ok(())
    }
}

/// Somebody else on the same file system: an unrelated fsync now and then commits its journal, and with it names whose
/// bytes are not written yet.
#[derive(Debug)]
pub struct Noise {
    stop: mpsc::Sender<()>,
    thread: std::thread::JoinHandle<Result<()>>,
}

impl Noise {
    /// Begins.
    pub fn make(mounted: &Mounted, seed: u64) -> Self {
        let path = mounted.path().join("unrelated");
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut dice = Dice::new(seed);
            while stopped.recv_timeout(dice.pause(500)) == Err(RecvTimeoutError::Timeout) {
                touch(&path)?;
            }
            Ok(())
        });
        Self { stop, thread }
    }

    /// Ends.
    ///
    /// # Errors
    /// The disk refused a write.
    pub fn end(self) -> Result<()> {
        drop(self.stop);
        match self.thread.join() {
            Ok(ended) => ended,
            Err(_) => bail!("the thread that makes noise panicked"),
        }
    }
}

/// Appends a byte and makes that durable, and so commits the journal of the file system.
///
/// # Errors
/// The disk refuses it.
pub fn touch(path: &Path) -> Result<()> {
    let mut file = OpenOptions::new().append(true).create(true).open(path)?;
    file.write_all(b".")?;
    file.sync_all()
        .with_context(|| format!("fsync {}", path.display()))
}

//! The disk refuses a write at each boundary: no space, no quota, an error, a file system that has become read-only.

use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use nix::errno::Errno;

use super::beginnings::Beginnings;
use super::boundaries::{Scene, follow};
use super::disk::Mounted;
use super::inside::{LIVE, Place};
use super::inspect::{End, Violations};
use super::step::{Allowed, Step};
use super::tally::Tally;
use super::trace::{Fate, Stop};

/// What is wrong with the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Fault {
    /// One call fails with ENOSPC.
    NoSpace,
    /// One call fails with EDQUOT.
    Quota,
    /// One call fails with EIO.
    Broken,
    /// From one call on, all fail with EROFS, as after an error that ext4 and XFS do not go on with.
    ReadOnly,
    /// Not played: somebody else fills the disk to its last block and inode right before a call, and goes away after the
    /// operation has ended.
    Full,
    /// Not played: the file system itself shuts down right before a call, as after an error of its journal. Nothing can be
    /// written any more, and what had not reached the disk is lost; then the node boots.
    Shutdown,
}

impl Fault {
    fn errno(self) -> Errno {
        match self {
            Self::NoSpace | Self::Full => Errno::ENOSPC,
            Self::Quota => Errno::EDQUOT,
            Self::Broken | Self::Shutdown => Errno::EIO,
            Self::ReadOnly => Errno::EROFS,
        }
    }

    /// Whether nothing can be written any more.
    fn lasts(self) -> bool {
        matches!(self, Self::ReadOnly | Self::Shutdown)
    }

    /// Whether an operation may end with this exit code.
    fn ends(self, step: &Step, code: u8) -> bool {
        match code {
            70 | 73 => true,
            // What a check has found and could not mend, as its own result on this disk.
            65 => *step == Step::Repair,
            // Where nothing can be written any more, what was committed can't be taken back before the next boot.
            1 => self.lasts(),
            // The configuration of this node is on the same disk.
            78 => self == Self::Shutdown,
            _ => false,
        }
    }

    /// How often and for how long is a matter of taste; on a disk that is only full, all that goes back has to work.
    fn must_do(self, step: &Step) -> bool {
        self == Self::Full && matches!(step, Step::Rollback | Step::Gc)
    }
}

/// How an operation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ended {
    pub code: u8,
    pub text: String,
}

/// Where the fault came, and what was made of it.
#[derive(Debug)]
struct Hit {
    moment: String,
    path: String,
    allowed: Allowed,
    ended: Option<Ended>,
}

/// The fault at every `every`th boundary of each of these steps, each time from the beginning of the step.
///
/// # Errors
/// The test itself failed, or the node failed without any fault.
pub fn fail(place: &Place, steps: &[Step], fault: Fault, every: usize) -> Result<Tally> {
    let mut tally = Tally::new("faults");
    let beginnings = Beginnings::keep(place, steps)?;
    for (number, (step, scene)) in steps.iter().zip(Scene::apart(steps)).enumerate() {
        // The damage is the test's own work.
        if *step == Step::Damage {
            continue;
        }
        for at in (0..).step_by(every.max(1)) {
            let mounted = beginnings.begin(number)?;
            let Some(hit) = one(place, &mounted, step, scene.clone(), fault, at)? else {
                mounted.unmount()?;
                break;
            };
            let ended = hit.ended.clone().context("the operation did not end")?;
            let wrong: Violations = wrong(place, mounted, step, fault, &hit, &ended)?
                .iter()
                .map(|what| {
                    format!(
                        "{} of {}, which ended with {ended:?}: {what}",
                        hit.moment, hit.path
                    )
                })
                .collect();
            tally.count(&format!("{step}, exit {}", ended.code), &wrong);
        }
    }
    Ok(tally)
}

/// What is not as it has to be, once the disk is well again.
fn wrong(
    place: &Place,
    mut mounted: Mounted,
    step: &Step,
    fault: Fault,
    hit: &Hit,
    ended: &Ended,
) -> Result<Violations> {
    let mut end = End::Kill;
    if fault == Fault::Shutdown {
        mounted.unmount()?;
        mounted = place.disks.mount(LIVE, &place.machine.disk())?;
        end = End::Cut("after the shutdown".to_owned());
    }
    let mut wrong = said(ended, fault, step, &place.machine.disk());
    if fault.must_do(step) && ended.code != 0 {
        wrong.push("it has to work on a full disk".to_owned());
    }
    let open = place.machine.roots().transaction().exists();
    if fault == Fault::Full && open {
        wrong.push("the transaction is still open".to_owned());
    }
    // After a boot the journal may be gone with what it was about.
    if end == End::Kill && ended.code == 1 && !open {
        wrong.push("stuck, and nothing leads out of it".to_owned());
    }
    mounted.empty()?;
    wrong.extend(place.inspector.after(&place.machine, &end, &hit.allowed)?);
    mounted.unmount()?;
    Ok(wrong)
}

/// One run of a step with the fault at the boundary of this number; `None` if there are not so many.
fn one(
    place: &Place,
    mounted: &Mounted,
    step: &Step,
    mut scene: Scene,
    fault: Fault,
    at: usize,
) -> Result<Option<Hit>> {
    let (mut seen, mut hit) = (0, None::<Hit>);
    let ended = follow(place, std::slice::from_ref(step), |stop| {
        let found = scene.at(stop);
        let path = match stop {
            Stop::Call { path, .. } => path,
            Stop::Tell(text) => {
                let Some((hit, told)) = hit.as_mut().zip(ended(text)) else {
                    return Ok(Fate::Live);
                };
                hit.allowed = found.map_or(hit.allowed.clone(), |(_, after)| after);
                hit.ended = Some(told);
                return Ok(Fate::Die);
            }
        };
        seen += 1;
        if hit.is_some() {
            let lasts = fault == Fault::ReadOnly;
            return Ok(if lasts {
                Fate::Fail(fault.errno())
            } else {
                Fate::Live
            });
        }
        let (Some((moment, allowed)), true) = (found, seen > at) else {
            return Ok(Fate::Live);
        };
        hit = Some(Hit {
            moment,
            path: path.display().to_string(),
            allowed,
            ended: None,
        });
        match fault {
            Fault::Full => mounted.fill()?,
            Fault::Shutdown => mounted.shut_down()?,
            Fault::NoSpace | Fault::Quota | Fault::Broken | Fault::ReadOnly => {
                return Ok(Fate::Fail(fault.errno()));
            }
        }
        Ok(Fate::Live)
    })?;
    match (ended, hit) {
        (true, None) => Ok(None),
        (false, Some(hit)) => Ok(Some(hit)),
        (ended, hit) => bail!("ended by itself: {ended}, with {hit:?}"),
    }
}

/// What the process tells at the end of a step.
pub(super) fn ended(told: &str) -> Option<Ended> {
    if told == "done" {
        return Some(Ended {
            code: 0,
            text: String::new(),
        });
    }
    let (code, text) = told.strip_prefix("failed ")?.split_once(' ')?;
    Some(Ended {
        code: code.parse().ok()?,
        text: text.to_owned(),
    })
}

/// An operator has to see what went wrong, and where, and a program that it was the disk.
pub(super) fn said(ended: &Ended, fault: Fault, step: &Step, disk: &Path) -> Violations {
    let mut wrong = Violations::new();
    if ended.code == 0 {
        return wrong;
    }
    if !fault.ends(step, ended.code) {
        wrong.push("not an exit code for this".to_owned());
    }
    let reason = std::io::Error::from(fault.errno()).to_string();
    if !ended.text.contains(&reason) && !ended.text.contains("not enough space") {
        wrong.push(format!("{reason:?} is not said"));
    }
    if !ended.text.contains(&*disk.to_string_lossy()) {
        wrong.push("no file is named".to_owned());
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_at_the_end_of_a_step() {
        let text = "can't write /d/x: No space left on device (os error 28)";
        let failed = ended(&format!("failed 73 {text}")).unwrap();
        assert_eq!((failed.code, failed.text.as_str()), (73, text));
        assert_eq!(ended("done").unwrap().code, 0);
        assert_eq!(ended("phase armed"), None);
        let right = said(&failed, Fault::NoSpace, &Step::Gc, Path::new("/d"));
        assert_eq!(right, Violations::new());
        assert_eq!(said(&failed, Fault::Quota, &Step::Gc, Path::new("/e")).len(), 2);
    }
}

//! Moves of a node while a part of its control plane is dead: they are held open, nothing is restarted or reverted, and
//! they are blessed when it is back.

use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use node_agent::api::{Phase, Status};

use crate::cell::Lab;
use crate::nodectl::{self, main_process};
use crate::progress::Progress;

const COMPUTE: &str = "nova-compute";

/// For nodectl to say that it holds the probation open: it pulls and starts a service before that.
const PATIENCE: Duration = Duration::from_secs(180);

/// What nodectl says then.
const HELD: &str = "the probation is held open";

/// Something of the control plane that dies.
#[derive(Debug, Clone, Copy)]
pub struct Outage {
    /// Its unit.
    pub unit: &'static str,
    /// Since when it is dead.
    pub since: Since,
}

/// Since when it is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// Before the node begins to move.
    Before,
    /// Since the new nova-compute runs.
    Started,
}

impl Outage {
    /// Moves the node through it; what nodectl has said in the end. What is dead comes back when the move is held open.
    ///
    /// # Errors
    /// The move was not held open, or ended in any other way than blessed, or nova-compute was started more than once.
    pub fn hits(self, lab: &Lab, arguments: &[&str], progress: &Progress) -> Result<String> {
        let before = main_process(&lab.node, COMPUTE)?;
        if self.since == Since::Before {
            self.systemctl(lab, "stop")?;
        }
        let (held, moved) = std::thread::scope(|scope| {
            let (tell, lines) = channel();
            let moving = scope.spawn(move || {
                nodectl::listening(&lab.node, arguments, |line| {
                    // Nobody listens any more once it is held open.
                    drop(tell.send(line.to_owned()));
                })
            });
            let held = self.is_held(lab, before, &lines, progress);
            // Whatever happened: the move has to end.
            let back = self.systemctl(lab, "start");
            progress.say(format!("{} is back", self.unit));
            let moved = moving.join().expect("the thread ends");
            (held.and_then(|pid| back.map(|()| pid)), moved)
        });
        let said = moved?;
        let pid = held.with_context(|| format!("in the end: {said:?}"))?;
        ensure!(
            !said.errors.contains("blessed although"),
            "it was not waited for: {said:?}"
        );
        let said = said.expect(0)?;
        ensure!(
            main_process(&lab.node, COMPUTE)? == pid && lab.restarts(COMPUTE)? == 0,
            "nova-compute was restarted: {said}"
        );
        Ok(said)
    }

    /// Waits until the move is held open; the new process of nova-compute then.
    fn is_held(self, lab: &Lab, before: u32, lines: &Receiver<String>, progress: &Progress) -> Result<u32> {
        if self.since == Since::Started {
            another_process(lab, before)?;
            self.systemctl(lab, "stop")?;
        }
        progress.say(format!("{} is dead", self.unit));
        let end = Instant::now() + PATIENCE;
        let line = loop {
            let left = end.saturating_duration_since(Instant::now());
            let line = lines
                .recv_timeout(left)
                .with_context(|| format!("nodectl did not say that {HELD}"))?;
            if line.contains(HELD) {
                break line;
            }
        };
        progress.note(&line);
        let status: Status = nodectl::json(&lab.node, &["status"])?;
        let phase = status.transaction.map(|t| t.phase);
        ensure!(phase == Some(Phase::Probation), "held open in {phase:?}");
        let pid = main_process(&lab.node, COMPUTE)?;
        ensure!(pid != before, "nova-compute was not moved");
        Ok(pid)
    }

    /// The unit alone: what needs it has to live with that.
    fn systemctl(self, lab: &Lab, verb: &str) -> Result<()> {
        let alone = ["systemctl", "--job-mode=ignore-dependencies", verb, self.unit];
        lab.cloud.node().run(alone).map(drop)
    }
}

fn another_process(lab: &Lab, before: u32) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while main_process(&lab.node, COMPUTE).map_or(true, |pid| pid == before) {
        ensure!(Instant::now() < end, "no new nova-compute within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

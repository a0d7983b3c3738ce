//! The process that works while the power goes or while it is killed: the engine, step by step.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{BufRead, Read, Seek, SeekFrom, Write};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use libseccomp::{ScmpAction, ScmpFilterContext, ScmpSyscall};
use node_agent::api::{Outcome, OutcomeKind, Phase};
use node_agent::engine::{Depth, Engine, EventSink, UpgradeOptions};
use node_agent::error::{AgentError, ExitCode};

use super::cast::{Cast, DAMAGED};
use super::machine::Machine;
use super::step::{BROKEN, Step};
use crate::tiny;

/// A system call that says it did what it did not do: what the simulator has to notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Lie {
    /// syncfs(2)
    Syncfs,
    /// fsync(2) and fdatasync(2), of files and of directories
    Fsync,
}

/// Does the steps. Before each it waits for a line on standard input, and it tells on standard output where it is:
/// `ready`, `phase PHASE`, `done` or `failed EXIT-CODE WHY`. With `traced` it stops at system calls, see [`super::trace`].
///
/// # Errors
/// A step did not end as it has to when nothing interferes.
pub fn work(machine: &Machine, cast: &Cast, steps: &[Step], lies: &[Lie], traced: bool) -> Result<()> {
    tell("ready");
    let mut lines = std::io::stdin().lock().lines();
    for lie in lies {
        pretend(*lie)?;
    }
    if traced {
        // The first word comes once somebody follows.
        lines.next().context("nobody gives the word")??;
        super::trace::stop_me()?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let (engine, _) = machine.engine()?;
    for (number, step) in steps.iter().enumerate() {
        if !(traced && number == 0) {
            lines.next().context("nobody gives the word any more")??;
        }
        let ended = runtime.block_on(carry_out(&engine, machine, cast, step));
        if let Some(Trouble { code, message }) = ended.as_ref().err().and_then(|e| e.downcast_ref()) {
            tell(&format!("failed {code} {}", message.replace('\n', " ")));
        }
        ended.with_context(|| step.to_string())?;
        tell("done");
    }
    Ok(())
}

fn tell(line: &str) {
    let mut out = std::io::stdout().lock();
    // Whoever listens may have ended; the work goes on.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

fn pretend(lie: Lie) -> Result<()> {
    let calls: &[&str] = match lie {
        Lie::Syncfs => &["syncfs"],
        Lie::Fsync => &["fsync", "fdatasync"],
    };
    let mut filter = ScmpFilterContext::new(ScmpAction::Allow)?;
    for call in calls {
        filter.add_rule(ScmpAction::Errno(0), ScmpSyscall::from_name(call)?)?;
    }
    filter.load().context("load the filter")
}

/// Tells each phase once it is entered.
fn sink() -> EventSink {
    let last = Mutex::new(Phase::Idle);
    Arc::new(move |event| {
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        if *last != event.phase {
            *last = event.phase;
            tell(&format!("phase {}", event.phase));
        }
    })
}

/// How an operation ended that should have ended otherwise.
#[derive(Debug)]
struct Trouble {
    code: u8,
    message: String,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (exit code {})", self.message, self.code)
    }
}

impl std::error::Error for Trouble {}

impl From<AgentError> for Trouble {
    fn from(e: AgentError) -> Self {
        Self {
            code: e.exit_code() as u8,
            message: e.chain(),
        }
    }
}

fn expect(outcome: &Outcome, kind: OutcomeKind) -> Result<(), Trouble> {
    if outcome.kind == kind {
        return Ok(());
    }
    let code = match outcome.kind {
        OutcomeKind::RolledBack => ExitCode::RolledBack,
        OutcomeKind::NothingToDo => ExitCode::NothingToDo,
        OutcomeKind::Done | OutcomeKind::Staged => ExitCode::Done,
    };
    Err(Trouble {
        code: code as u8,
        message: outcome.message.clone(),
    })
}

async fn carry_out(engine: &Engine, machine: &Machine, cast: &Cast, step: &Step) -> Result<()> {
    match step {
        Step::Upgrade(version) => {
            let options = UpgradeOptions::default();
            let outcome = engine
                .upgrade(Some(&tiny::reference(version)), options, sink())
                .await;
            let wanted = if version == BROKEN {
                OutcomeKind::RolledBack
            } else {
                OutcomeKind::Done
            };
            expect(&outcome.map_err(Trouble::from)?, wanted)?;
        }
        Step::Rollback => {
            let outcome = engine.rollback(None, false, sink()).await;
            expect(&outcome.map_err(Trouble::from)?, OutcomeKind::Done)?;
        }
        Step::Gc => {
            engine.gc(false).await.map_err(Trouble::from)?;
        }
        Step::Damage => damage(machine, cast)?,
        Step::Repair => {
            let report = engine.fsck(Depth::Repair).await.map_err(Trouble::from)?;
            ensure!(!report.findings.is_empty(), "fsck did not find the damage");
            let left = report.findings.iter().find(|finding| !finding.repaired);
            if let Some(left) = left {
                let code = ExitCode::Verification as u8;
                let message = format!("{} is not repaired: {}", left.subject, left.problem);
                return Err(Trouble { code, message }.into());
            }
        }
    }
    Ok(())
}

/// One bit of a file of version 1's image, in place, as a bad disk does it.
fn damage(machine: &Machine, cast: &Cast) -> Result<()> {
    let manifest = cast.changing.get("1").context("there is no version 1")?;
    let hex = manifest.trim_start_matches("sha256:");
    let path = machine.roots().store().join("trees").join(hex).join(DAMAGED);
    let before = fs::metadata(&path).with_context(|| format!("look at {}", path.display()))?;
    let mut file = OpenOptions::new().read(true).write(true).open(&path)?;
    let mut byte = [0];
    file.read_exact(&mut byte)?;
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&[byte[0] ^ 1])?;
    file.set_modified(before.modified()?)?;
    file.sync_all()
        .with_context(|| format!("damage {}", path.display()))
}

//! The working process, seen from the outside.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use nix::unistd::Pid;

use super::inside::Place;
use super::step::Step;
use super::work::Lie;

/// Nothing here takes longer unless it hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// The process and what it tells.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
}

/// What the process told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// A phase began.
    Phase(String),
    /// The step is done.
    Done,
    /// It ended or was killed.
    Gone,
}

impl Worker {
    /// Starts it; returns when it waits for the first word. Its errors go to standard error.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(place: &Place, steps: &[Step], lies: &[Lie]) -> Result<Self> {
        Self::start_with(place, steps, lies, &[])
    }

    /// Starts one that stops at system calls, see [`super::trace`], from its first step on.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_traced(place: &Place, steps: &[Step]) -> Result<Self> {
        Self::start_with(place, steps, &[], &["--traced"])
    }

    fn start_with(place: &Place, steps: &[Step], lies: &[Lie], more: &[&str]) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("work").arg("--base").arg(place.base()).args(more);
        for step in steps {
            command.args(["--step", &step.to_string()]);
        }
        for lie in lies.iter().filter_map(ValueEnum::to_possible_value) {
            command.args(["--lie", lie.get_name()]);
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .context("start the working process")?;
        let input = child.stdin.take().context("it has no standard input")?;
        let output = child.stdout.take().context("it has no standard output")?;
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let worker = Self { child, input, lines };
        match worker.lines.recv_timeout(PATIENCE) {
            Ok(line) if line == "ready" => Ok(worker),
            told => bail!("the working process did not get ready: {told:?}"),
        }
    }

    /// Lets it do its next step.
    ///
    /// # Errors
    /// It is gone.
    pub fn go(&mut self) -> Result<()> {
        writeln!(self.input)
            .and_then(|()| self.input.flush())
            .context("the working process is gone")
    }

    /// What it tells within a time; `None` if it tells nothing.
    pub fn told(&self, within: Duration) -> Option<Told> {
        match self.lines.recv_timeout(within) {
            Ok(line) if line == "done" => Some(Told::Done),
            Ok(line) => Some(Told::Phase(line.trim_start_matches("phase ").to_owned())),
            Err(mpsc::RecvTimeoutError::Timeout) => None,
            Err(mpsc::RecvTimeoutError::Disconnected) => Some(Told::Gone),
        }
    }

    /// Its process.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// SIGKILL, and waits until it is gone.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child
            .wait()
            .map(drop)
            .context("wait for the working process")
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It failed; its words are on standard error.
    pub fn finish(mut self) -> Result<()> {
        drop(self.input);
        let status = self.child.wait()?;
        ensure!(status.success(), "the working process: {status}");
        Ok(())
    }
}

//! The fake's units, its script, and what a job does to a unit.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::JobResult;

/// What becomes of one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The job ends so, after the answer to the call.
    Ends(JobResult),
    /// The job ends so before the call is answered: what a short job looks like.
    EndsFirst(JobResult),
    /// The job never ends.
    Hangs,
    /// The call is refused with this D-Bus error name and message.
    Refused {
        /// D-Bus error name, for example `org.freedesktop.systemd1.NoSuchUnit`.
        name: String,
        /// Text for people.
        message: String,
    },
}

/// A unit of the fake, in systemd's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FakeUnit {
    /// `LoadState`.
    pub load: String,
    /// `ActiveState`.
    pub active: String,
    /// `SubState`.
    pub sub: String,
    /// `Result`.
    pub result: String,
    /// `MainPID`, 0 for none.
    pub main_pid: u32,
    /// `NRestarts`.
    pub n_restarts: u32,
    /// `ExecMainCode`.
    pub exec_main_code: i32,
    /// `ExecMainStatus`.
    pub exec_main_status: i32,
    /// `InvocationID`.
    pub invocation_id: Vec<u8>,
}

impl Default for FakeUnit {
    fn default() -> Self {
        Self {
            load: "loaded".to_owned(),
            active: "inactive".to_owned(),
            sub: "dead".to_owned(),
            result: "success".to_owned(),
            main_pid: 0,
            n_restarts: 0,
            exec_main_code: 0,
            exec_main_status: 0,
            invocation_id: Vec::new(),
        }
    }
}

impl FakeUnit {
    /// What a job that ended with `result` leaves behind.
    fn after(&mut self, verb: &str, result: &JobResult, pid: u32) {
        let starts = verb != "stop";
        match (result, starts) {
            (JobResult::Done, true) => {
                self.set("active", "running", "success");
                self.main_pid = pid;
                self.invocation_id = pid.to_be_bytes().repeat(4);
            }
            (JobResult::Done, false) => {
                self.set("inactive", "dead", "success");
                self.main_pid = 0;
            }
            (JobResult::Failed, _) => {
                self.set("failed", "failed", "exit-code");
                self.main_pid = 0;
                self.exec_main_code = nix::libc::CLD_EXITED;
                self.exec_main_status = 1;
            }
            (JobResult::Timeout, _) => {
                self.set("failed", "failed", "timeout");
                self.main_pid = 0;
            }
            (
                JobResult::Canceled
                | JobResult::Dependency
                | JobResult::Skipped
                | JobResult::Invalid
                | JobResult::Assert
                | JobResult::Unsupported
                | JobResult::Collected
                | JobResult::Once
                | JobResult::Unknown(_),
                _,
            ) => {}
        }
    }

    fn set(&mut self, active: &str, sub: &str, result: &str) {
        self.active = active.to_owned();
        self.sub = sub.to_owned();
        self.result = result.to_owned();
    }
}

#[derive(Debug, Default)]
pub(crate) struct World {
    pub units: BTreeMap<String, FakeUnit>,
    pub scripts: HashMap<String, VecDeque<Outcome>>,
    pub calls: Vec<String>,
    pub jobs: u32,
}

/// What a script is found by. A reload concerns no unit.
pub(crate) fn key(verb: &str, unit: &str) -> String {
    if verb == "reload" {
        verb.to_owned()
    } else {
        format!("{verb} {unit}")
    }
}

impl World {
    /// Writes the call down and says what becomes of it.
    pub(crate) fn asked(&mut self, verb: &str, unit: &str) -> Outcome {
        let key = key(verb, unit);
        let outcome = self
            .scripts
            .get_mut(&key)
            .and_then(VecDeque::pop_front)
            .unwrap_or(Outcome::Ends(JobResult::Done));
        self.calls.push(key);
        outcome
    }

    /// A number for a new job.
    pub(crate) fn new_job(&mut self) -> u32 {
        self.jobs += 1;
        self.jobs
    }

    /// The unit's state after a job that ended so.
    pub(crate) fn ended(&mut self, verb: &str, unit: &str, job: u32, result: &JobResult) {
        if let Some(unit) = self.units.get_mut(unit) {
            unit.after(verb, result, 1000 + job);
        }
    }
}

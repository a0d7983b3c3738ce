//! An agent that does what a test says, and documents to answer with.

#![allow(dead_code, reason = "each test program uses its part")]

pub mod bus;

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use node_agent::api::{self, Event, EventKind, Phase};
use node_agent::deployment::Seq;
use node_agent::protocol::{Agent, EventSender, Failure, Query, Report, Request};

/// Longest wait for anything in these tests.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// What the scripted agent does next in an operation.
pub enum Step {
    /// Reports an event.
    Tell(EventKind),
    /// Ends the operation.
    End(Box<Result<Report, Failure>>),
    /// Panics, as a fault in the engine would.
    Panic,
}

/// Carries out operations as told through a channel; records what was asked.
pub struct ScriptedAgent {
    steps: Mutex<Receiver<Step>>,
    pub asked: Mutex<Vec<Request>>,
    pub interrupted: bool,
}

impl ScriptedAgent {
    pub fn new() -> (Arc<Self>, Sender<Step>) {
        Self::with_interrupted(false)
    }

    pub fn with_interrupted(interrupted: bool) -> (Arc<Self>, Sender<Step>) {
        let (sender, steps) = channel();
        let agent = Self {
            steps: Mutex::new(steps),
            asked: Mutex::default(),
            interrupted,
        };
        (Arc::new(agent), sender)
    }
}

impl Agent for ScriptedAgent {
    fn run(&self, request: &Request, events: EventSender) -> Result<Report, Failure> {
        self.asked.lock().unwrap().push(request.clone());
        loop {
            let step = self.steps.lock().unwrap().recv_timeout(DEADLINE);
            match step.expect("the test ends every operation in time") {
                Step::Tell(kind) => events(Event {
                    seq: 0,
                    time: jiff::Timestamp::UNIX_EPOCH,
                    phase: Phase::Activating,
                    kind,
                }),
                Step::End(result) => return *result,
                Step::Panic => panic!("a fault in the engine"),
            }
        }
    }

    fn query(&self, query: &Query) -> Result<Report, Failure> {
        Ok(match query {
            Query::Status => Report::Status(status()),
            Query::History { with_journal, .. } => {
                let mut entry = history_entry();
                entry.journal.retain(|_| *with_journal);
                Report::History(node_agent::protocol::History { entries: vec![entry] })
            }
        })
    }

    fn interrupted(&self) -> Result<bool, Failure> {
        Ok(self.interrupted)
    }
}

pub fn note(text: &str) -> Step {
    Step::Tell(EventKind::Note { message: text.into() })
}

pub fn release() -> api::ReleaseInfo {
    api::ReleaseInfo {
        reference: "registry.example:5000/compute-release:2".into(),
        digest: format!("sha256:{}", "ab".repeat(32)),
        name: "compute".into(),
        version: "2".into(),
        signed: None,
    }
}

pub fn planned(name: &str, action: api::Action) -> api::PlannedService {
    api::PlannedService {
        name: name.into(),
        action,
        reason: "image".into(),
        disruption: api::Disruption::Restart,
    }
}

pub fn outcome(kind: api::OutcomeKind) -> api::Outcome {
    api::Outcome {
        kind,
        from: Some(Seq(1)),
        current: Some(Seq(2)),
        to: Some(Seq(2)),
        release: Some(release()),
        services: vec![planned("nova-compute", api::Action::Restart)],
        failure: None,
        message: "the node runs compute 2".into(),
        duration_ms: 12_345,
    }
}

pub fn status() -> api::Status {
    api::Status {
        deployment: Some(Seq(2)),
        release: Some(release()),
        services: vec![api::ServiceStatus {
            name: "nova-compute".into(),
            state: api::ServiceState::Running,
            pid: Some(4242),
            digest_running: Some("cd".repeat(32)),
            digest_wanted: "cd".repeat(32),
            up_to_date: true,
            pending: false,
            waits_for: vec![],
            since: Some("2026-11-21T08:00:00Z".into()),
            restarts: 0,
            image: format!("sha256:{}", "ef".repeat(32)),
        }],
        transaction: None,
        previous: Some(Seq(1)),
        deployments: vec![],
        pinned: BTreeMap::new(),
        rejected: BTreeMap::new(),
        in_use_trees: vec![],
        warnings: Vec::new(),
        check: Some(api::CheckStatus {
            time: jiff::Timestamp::UNIX_EPOCH,
            light: true,
            objects: 5000,
            bytes: 1 << 27,
            sealed: Some(5000),
            findings: vec![],
        }),
        sealing: Some(api::Sealing::Sealed),
        trust: api::TrustStatus {
            signatures_required: true,
            keys: vec!["release".into()],
            warnings: vec![],
        },
        healthy: true,
    }
}

pub fn history_entry() -> api::HistoryEntry {
    api::HistoryEntry {
        id: "1".into(),
        kind: api::OperationKind::Upgrade,
        from: None,
        to: Some(Seq(1)),
        release: Some(release()),
        started: jiff::Timestamp::UNIX_EPOCH,
        ended: Some(jiff::Timestamp::UNIX_EPOCH),
        result: api::OperationResult::Done,
        reason: None,
        journal: vec!["a line of the journal".into()],
    }
}

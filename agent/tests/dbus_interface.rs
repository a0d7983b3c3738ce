//! The D-Bus interface and its client over a socket pair: no bus, no privileges.

mod common;

use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use common::{DEADLINE, ScriptedAgent, Step, note, outcome};
use node_agent::api::{Event, EventKind, OutcomeKind};
use node_agent::daemon::{self, Client, Operations};
use node_agent::error::ExitCode;
use node_agent::protocol::{Failure, Query, Report, Request, UpgradeMode};
use zbus::connection::Builder;

/// A daemon without a bus: each caller gets a socket of its own.
struct Daemon {
    runtime: tokio::runtime::Runtime,
    operations: Arc<Operations>,
    connections: Mutex<Vec<zbus::Connection>>,
}

impl Daemon {
    fn new(agent: Arc<ScriptedAgent>) -> Self {
        Self {
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap(),
            operations: Arc::new(Operations::new(agent)),
            connections: Mutex::default(),
        }
    }

    fn client(&self) -> Client {
        let (theirs, ours) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        ours.set_nonblocking(true).unwrap();
        let operations = Arc::clone(&self.operations);
        let served = self.runtime.spawn(async move {
            let builder = Builder::unix_stream(ours).server(zbus::Guid::generate()).p2p();
            daemon::serve(builder, &operations).await.unwrap()
        });
        let client = Client::over(Builder::unix_stream(theirs).p2p()).unwrap();
        let connection = self.runtime.block_on(served).unwrap();
        self.connections.lock().unwrap().push(connection);
        client
    }

    /// As if noded had ended: every connection is closed.
    fn hang_up(&self) {
        for connection in self.connections.lock().unwrap().drain(..) {
            self.runtime.block_on(connection.close()).unwrap();
        }
    }
}

fn upgrade() -> Request {
    Request::Upgrade {
        reference: Some("registry.example:5000/compute-release:2".into()),
        mode: UpgradeMode::Full,
        force: false,
        allow_downgrade: false,
    }
}

fn run(client: &Client, request: &Request) -> (Vec<Event>, Result<Report, Failure>) {
    let events = Mutex::new(Vec::new());
    let result = client.run(request, &|event| events.lock().unwrap().push(event), &|_| {});
    (events.into_inner().unwrap(), result)
}

fn texts(events: &[Event]) -> Vec<(u64, String)> {
    events
        .iter()
        .map(|event| match &event.kind {
            EventKind::Note { message } => (event.seq, message.clone()),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn an_operation_tells_its_events_in_order_and_then_its_result() {
    let (agent, steps) = ScriptedAgent::new();
    let daemon = Daemon::new(Arc::clone(&agent));
    for text in ["one", "two", "three"] {
        steps.send(note(text)).unwrap();
    }
    let expected = Report::Outcome(outcome(OutcomeKind::Done));
    steps.send(Step::End(Box::new(Ok(expected.clone())))).unwrap();

    let (events, result) = run(&daemon.client(), &upgrade());

    assert_eq!(result, Ok(expected));
    assert_eq!(
        texts(&events),
        [(1, "one".into()), (2, "two".into()), (3, "three".into())]
    );
    assert_eq!(
        *agent.asked.lock().unwrap(),
        [upgrade()],
        "the request arrived as it was sent"
    );
}

#[test]
fn a_failure_keeps_its_exit_code_hint_and_details() {
    let (agent, steps) = ScriptedAgent::new();
    let daemon = Daemon::new(agent);
    let mut failure = Failure::new(ExitCode::Verification, "release is not signed").with_hint("add its key");
    failure.details = vec!["a".into(), "b".into()];
    steps.send(Step::End(Box::new(Err(failure.clone())))).unwrap();

    assert_eq!(run(&daemon.client(), &upgrade()).1, Err(failure));
}

#[test]
fn while_an_operation_runs_questions_are_answered_and_a_second_one_is_refused() {
    let (agent, steps) = ScriptedAgent::new();
    let daemon = Daemon::new(agent);
    let (first, second) = (daemon.client(), daemon.client());
    let (started, is_started) = mpsc::channel();
    let running = thread::spawn(move || first.run(&upgrade(), &|_| started.send(()).unwrap(), &|_| {}));
    steps.send(note("under way")).unwrap();
    is_started.recv_timeout(DEADLINE).unwrap();

    assert!(matches!(second.query(&Query::Status), Ok(Report::Status(_))));
    assert!(matches!(
        second.query(&Query::History {
            limit: 0,
            with_journal: true
        }),
        Ok(Report::History(_))
    ));
    let refused = run(&second, &Request::Gc { dry_run: true }).1.unwrap_err();
    assert_eq!(refused.code, ExitCode::TryAgain as u8);
    assert!(
        refused.message.contains("upgrade"),
        "names what is running: {}",
        refused.message
    );

    steps
        .send(Step::End(Box::new(Ok(Report::acknowledge("done")))))
        .unwrap();
    running.join().unwrap().unwrap();
    steps
        .send(Step::End(Box::new(Ok(Report::acknowledge("done")))))
        .unwrap();
    assert!(
        run(&second, &Request::Gc { dry_run: true }).1.is_ok(),
        "afterwards the next one runs"
    );
}

#[test]
fn an_operation_outlives_the_one_who_asked_for_it() {
    let (agent, steps) = ScriptedAgent::new();
    let daemon = Daemon::new(agent);
    let first = daemon.client();
    let (started, is_started) = mpsc::channel();
    let asking = thread::spawn(move || first.run(&upgrade(), &|_| started.send(()).unwrap(), &|_| {}));
    steps.send(note("under way")).unwrap();
    is_started.recv_timeout(DEADLINE).unwrap();

    daemon.hang_up();
    let lost = asking.join().unwrap().unwrap_err();
    assert_eq!(lost.code, ExitCode::Unavailable as u8);

    let end = Report::Outcome(outcome(OutcomeKind::Done));
    steps.send(note("still under way")).unwrap();
    steps.send(Step::End(Box::new(Ok(end.clone())))).unwrap();
    let answer = daemon.runtime.block_on(daemon.operations.wait(1));
    assert_eq!(answer.map(Result::from), Some(Ok(end)));
    let mut seen = Vec::new();
    daemon
        .client()
        .follow(Some(1), false, &mut |event| {
            seen.push(event.clone());
            true
        })
        .unwrap();
    assert_eq!(
        texts(&seen),
        [(2, "still under way".into())],
        "what happened meanwhile can be read again"
    );
}

#[test]
fn a_panic_in_the_engine_ends_the_operation_and_not_the_daemon() {
    let (agent, steps) = ScriptedAgent::new();
    let daemon = Daemon::new(agent);
    let client = daemon.client();
    steps.send(Step::Panic).unwrap();
    assert_eq!(
        run(&client, &upgrade()).1.unwrap_err().code,
        ExitCode::Other as u8
    );
    assert!(client.query(&Query::Status).is_ok());
}

#[test]
fn a_follower_sees_old_events_once_and_then_new_ones() {
    let (agent, steps) = ScriptedAgent::new();
    let daemon = Daemon::new(agent);
    for text in ["one", "two"] {
        steps.send(note(text)).unwrap();
    }
    steps
        .send(Step::End(Box::new(Ok(Report::acknowledge("done")))))
        .unwrap();
    run(&daemon.client(), &upgrade()).1.unwrap();

    let follower = daemon.client();
    let (seen, is_seen) = mpsc::channel();
    let following = thread::spawn(move || {
        follower.follow(Some(1), true, &mut |event| {
            seen.send(event.clone()).unwrap();
            event.seq < 3
        })
    });
    assert_eq!(is_seen.recv_timeout(DEADLINE).unwrap().seq, 2);
    let other = daemon.client();
    steps.send(note("three")).unwrap();
    steps
        .send(Step::End(Box::new(Ok(Report::acknowledge("done")))))
        .unwrap();
    run(&other, &upgrade()).1.unwrap();
    assert_eq!(is_seen.recv_timeout(DEADLINE).unwrap().seq, 3);
    following.join().unwrap().unwrap();
}

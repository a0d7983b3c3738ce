//! Every document is valid against its published schema, and the schema does refuse something.

mod common;

use boon::{Compiler, Schemas};
use common::{history_entry, outcome, planned, release, status};
use node_agent::api::{self, Action, EventKind, OutcomeKind, Phase};
use node_agent::deployment::Seq;
use node_agent::error::ExitCode;
use node_agent::protocol::{Acknowledgement, Failed, Failure, History, Request, UpgradeMode};
use node_agent::schema;
use serde_json::{Value, json};

fn check(name: &str, document: &Value) -> Result<(), String> {
    let published = schema::all()
        .into_iter()
        .find(|published| published.name == name)
        .unwrap_or_else(|| panic!("no schema {name}"));
    let mut schemas = Schemas::new();
    let mut compiler = Compiler::new();
    let schema = serde_json::to_value(&published.schema).unwrap();
    compiler.add_resource(name, schema).unwrap();
    let index = compiler.compile(name, &mut schemas).unwrap();
    schemas
        .validate(document, index)
        .map_err(|error| format!("{name}: {error:#}"))
}

/// The document is valid, and is not without any one of its keys that the schema requires, nor as an array.
fn valid(name: &str, document: impl serde::Serialize) {
    let document = serde_json::to_value(document).unwrap();
    check(name, &document).unwrap_or_else(|error| panic!("{error}"));
    assert!(
        check(name, &json!([document])).is_err(),
        "{name} accepts anything"
    );
}

fn plan() -> api::Plan {
    api::Plan {
        guests: vec![api::PlannedGuest {
            name: "web-1".into(),
            machine: Some("pc-q35-7.2".into()),
            qemu: Some("1:7.2+dfsg-7".into()),
        }],
        refused: vec!["nova would refuse it".into()],
        release: release(),
        from: Some(Seq(1)),
        to: Seq(2),
        nothing_to_do: false,
        bytes_to_fetch: 123_456_789,
        bytes_to_store: 400_000_000,
        services: vec![
            planned("nova-compute", Action::Restart),
            planned("libvirtd", Action::Keep),
        ],
        gates: vec![api::PlannedGate {
            service: "nova-compute".into(),
            gate: "heartbeat".into(),
            when: vec!["post-start".into()],
        }],
        probation_sec: 60,
        way_back: api::WayBack {
            open: true,
            notes: vec![],
        },
        warnings: vec![],
    }
}

#[test]
fn results_of_operations() {
    valid("plan", plan());
    valid("outcome", outcome(OutcomeKind::Done));
    let mut rolled_back = outcome(OutcomeKind::RolledBack);
    rolled_back.failure = Some(api::ServiceFailure {
        service: "nova-compute".into(),
        reason: "exited with status 1".into(),
        journal: vec!["a line".into()],
    });
    valid("outcome", rolled_back);
    valid("gc", api::GcReport::default());
    valid("fsck", api::FsckReport::default());
    valid("doctor", api::DoctorReport::default());
    valid(
        "acknowledgement",
        Acknowledgement {
            message: "done".into(),
        },
    );
}

#[test]
fn answers_to_questions() {
    valid("status", status());
    valid(
        "history",
        History {
            entries: vec![history_entry()],
        },
    );
}

#[test]
fn failures() {
    let error = Failure::new(ExitCode::Verification, "not signed").with_hint("sign it");
    valid("failure", Failed { error });
}

#[test]
fn every_kind_of_event() {
    let kinds = [
        EventKind::Begin { message: "m".into() },
        EventKind::Entered,
        EventKind::Progress {
            item: "i".into(),
            done: 1,
            total: None,
        },
        EventKind::Service {
            service: "s".into(),
            step: "starting".into(),
        },
        EventKind::Gate {
            service: "s".into(),
            gate: "g".into(),
            passed: true,
            message: "m".into(),
        },
        EventKind::Warning { message: "m".into() },
        EventKind::Note { message: "m".into() },
        EventKind::End {
            exit_code: 70,
            message: "m".into(),
        },
    ];
    for kind in kinds {
        valid(
            "event",
            api::Event {
                seq: 1,
                time: jiff::Timestamp::UNIX_EPOCH,
                phase: Phase::Idle,
                kind,
            },
        );
    }
}

#[test]
fn every_request_is_valid_and_comes_back_as_it_was() {
    let requests = [
        Request::Upgrade {
            reference: Some("r".into()),
            mode: UpgradeMode::DownloadOnly,
            force: true,
            allow_downgrade: true,
        },
        Request::Plan { reference: None },
        Request::Rollback {
            deployment: Some(Seq(3)),
            force: false,
        },
        Request::Set {
            values: [("a".to_owned(), "b".to_owned())].into(),
        },
        Request::Unset {
            names: vec!["a".into()],
        },
        Request::Start {
            services: vec!["s".into()],
        },
        Request::Stop {
            services: vec!["s".into()],
            force: true,
        },
        Request::Restart {
            services: vec!["s".into()],
            force: true,
        },
        Request::Pin {
            deployment: None,
            reason: "why".into(),
        },
        Request::Unpin {
            deployment: Some(Seq(1)),
        },
        Request::Gc { dry_run: true },
        Request::Fsck {
            repair: false,
            light: true,
        },
        Request::Doctor,
        Request::Recover { boot: true },
    ];
    for request in requests {
        valid("request", &request);
        let text = serde_json::to_string(&request).unwrap();
        assert_eq!(text.parse::<Request>().unwrap(), request);
    }
    for stray in [
        r#"{"operation":"gc","dry_run":true,"x":1}"#,
        r#"{"operation":"format-disk"}"#,
        r#"["doctor"]"#,
        r#"["gc", true]"#,
        r#""doctor""#,
        "",
    ] {
        assert!(stray.parse::<Request>().is_err(), "{stray}");
    }
}

//! What people read, as it stands on a terminal of 80 columns.

mod common;

use std::collections::BTreeMap;

use common::{history_entry, outcome, planned, status};
use node_agent::api::{self, Action, CheckResult, Disruption, OutcomeKind, Phase};
use node_agent::deployment::Seq;
use node_agent::output::{Human, Page, Terminal};
use node_agent::protocol::History;

fn text(document: &impl Human) -> String {
    let mut page = Page::new(Terminal::plain());
    document.human(&mut page);
    let text = page.into_text();
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "wider than 80 columns: {line}");
    }
    text
}

fn plan() -> api::Plan {
    let mut ovs = planned("ovs-vswitchd", Action::Restart);
    ovs.disruption = Disruption::DataplaneAware;
    ovs.reason = "image, files/ovs.conf and the unit".into();
    api::Plan {
        guests: vec![api::PlannedGuest {
            name: "web-1".into(),
            machine: Some("pc-q35-7.2".into()),
            qemu: Some("1:7.2+dfsg-7".into()),
        }],
        refused: vec!["QEMU there does not offer machine type pc-8".into()],
        release: common::release(),
        from: Some(Seq(1)),
        to: Seq(2),
        nothing_to_do: false,
        bytes_to_fetch: 12_345_678,
        bytes_to_store: 45_678_901,
        services: vec![
            planned("ovsdb-server", Action::Keep),
            ovs,
            planned("nova-compute", Action::Restart),
        ],
        gates: vec![api::PlannedGate {
            service: "nova-compute".into(),
            gate: "answers on the message bus".into(),
            when: vec!["post-start".into(), "probation".into()],
        }],
        probation_sec: 60,
        way_back: api::WayBack {
            open: true,
            notes: vec!["guests on machine type pc-q35-7.2 keep running".into()],
        },
        warnings: vec!["virtlogd has a pending update: it changes when no guest needs it any more".into()],
    }
}

fn in_use(byte: &str, current: bool) -> api::ImageInUse {
    api::ImageInUse {
        image: format!("sha256:{}", byte.repeat(32)),
        current,
        by: vec!["guest web-1 (pid 812)".into(), "libvirtd (pid 700)".into()],
    }
}

#[test]
fn plan_of_an_upgrade() {
    insta::assert_snapshot!(text(&plan()));
}

#[test]
fn plan_with_nothing_to_do() {
    let mut plan = plan();
    plan.nothing_to_do = true;
    plan.warnings.clear();
    insta::assert_snapshot!(text(&plan));
}

#[test]
fn outcome_of_an_upgrade() {
    insta::assert_snapshot!(text(&outcome(OutcomeKind::Done)));
}

#[test]
fn outcome_of_an_upgrade_that_went_back() {
    let mut outcome = outcome(OutcomeKind::RolledBack);
    outcome.message = "compute 3 failed; the node is back on compute 2".into();
    outcome.failure = Some(api::ServiceFailure {
        service: "nova-compute".into(),
        reason: "exited with status 1 before it was ready".into(),
        journal: vec!["nova-compute[4242]: ModuleNotFoundError: No module named 'oslo_config'".into()],
    });
    insta::assert_snapshot!(text(&outcome));
}

#[test]
fn status_of_a_node_in_the_middle_of_it() {
    let mut status = status();
    status.healthy = false;
    status.services.push(api::ServiceStatus {
        name: "libvirtd".into(),
        state: api::ServiceState::Failed,
        pid: None,
        digest_running: None,
        digest_wanted: "cd".repeat(32),
        up_to_date: false,
        pending: false,
        waits_for: vec![],
        since: None,
        restarts: 5,
        image: format!("sha256:{}", "12".repeat(32)),
    });
    // Local time would differ from machine to machine.
    status.services[0].since = None;
    status.check = None;
    status.sealing = Some(api::Sealing::Unsealed);
    status.transaction = Some(api::TransactionStatus {
        id: "1".into(),
        kind: api::OperationKind::Upgrade,
        phase: Phase::Probation,
        from: Some(Seq(1)),
        to: Seq(2),
        tries_left: 2,
        started: jiff::Timestamp::UNIX_EPOCH,
    });
    status.pinned = BTreeMap::from([(Seq(1), "last known good".to_owned())]);
    status.rejected = BTreeMap::from([(
        format!("sha256:{}", "99".repeat(32)),
        "nova-compute exits".to_owned(),
    )]);
    status.in_use_trees = vec![in_use("77", false), in_use("ef", true)];
    status.services[0].pending = true;
    status.services[0].waits_for = vec!["guest web-1 (pid 812)".into()];
    status.trust.signatures_required = false;
    insta::assert_snapshot!(text(&status));
}

#[test]
fn history_of_a_node() {
    assert_eq!(
        text(&History { entries: vec![] }),
        "Nothing was done on this node yet.\n"
    );
    let mut entry = history_entry();
    entry.result = api::OperationResult::RolledBack;
    entry.reason = Some("nova-compute: exited with status 1 before it was ready".into());
    let text = text(&History { entries: vec![entry] });
    assert!(
        text.contains("rolled back") && text.contains("compute 2"),
        "{text}"
    );
    let reason = text.lines().last().unwrap_or_default();
    assert!(
        reason.ends_with("  nova-compute: exited with status 1 before it was ready"),
        "the reason is torn: {text}"
    );
}

#[test]
fn reports_of_maintenance() {
    let fsck = api::FsckReport {
        objects: 4973,
        bytes: 403 << 20,
        sealed: Some(4970),
        findings: vec![api::FsckFinding {
            subject: "store/objects/ab/cdef".into(),
            problem: "content has another digest than its name".into(),
            images: vec![format!("sha256:{}", "12".repeat(32))],
            services: vec!["libvirtd".into(), "virtlogd".into()],
            repaired: false,
        }],
    };
    let doctor = api::DoctorReport {
        checks: vec![
            api::DoctorCheck {
                name: "kernel modules".into(),
                result: CheckResult::Failed,
                message: "openvswitch can't be loaded".into(),
                hint: Some("install linux-image-amd64 and reboot into it".into()),
            },
            api::DoctorCheck {
                name: "systemd".into(),
                result: CheckResult::Ok,
                message: "252, running".into(),
                hint: None,
            },
        ],
    };
    let gc = api::GcReport {
        dry_run: true,
        deployments: vec![Seq(3)],
        images: vec![],
        kept_in_use: vec![in_use("77", false)],
        objects: 12,
        bytes: 34_567,
    };
    insta::assert_snapshot!([text(&fsck), text(&doctor), text(&gc)].join("\n"));
}

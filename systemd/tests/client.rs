//! The client against the fake manager: results, refusals, deadlines, and the order of signal and answer.

use std::time::Duration;

use node_systemd::{
    Error, JobResult, Systemd, UnitName,
    fake::{FakeSystemd, Outcome},
    state::{ActiveState, LoadState, MainExit, ServiceResult, SubState, SystemState},
};

const SOON: Duration = Duration::from_secs(10);

fn unit(name: &str) -> UnitName {
    UnitName::parse(name).expect("a unit name")
}

async fn with_unit(name: &str) -> (FakeSystemd, Systemd, UnitName) {
    let (fake, systemd) = FakeSystemd::start().await.expect("the fake starts");
    let unit = unit(name);
    fake.add(&unit);
    (fake, systemd, unit)
}

#[tokio::test]
async fn each_result_of_a_job_is_told_apart() {
    let (fake, systemd, unit) = with_unit("a.service").await;
    for word in [
        "done",
        "canceled",
        "timeout",
        "failed",
        "dependency",
        "skipped",
        "invalid",
        "assert",
        "unsupported",
        "collected",
        "once",
        "a-new-word",
    ] {
        for verb in ["start", "stop", "restart"] {
            let scripted = JobResult::parse(word);
            fake.script(verb, &unit, Outcome::Ends(scripted.clone()));
            let result = match verb {
                "start" => systemd.start(&unit, SOON).await,
                "stop" => systemd.stop(&unit, SOON).await,
                _ => systemd.restart(&unit, SOON).await,
            };
            assert_eq!(result.expect("an answer"), scripted, "{verb} {word}");
        }
    }
    assert_eq!(fake.calls().len(), 36);
}

#[tokio::test]
async fn a_job_that_ends_before_the_answer_is_not_lost() {
    let (fake, systemd, unit) = with_unit("a.service").await;
    for _ in 0..50 {
        fake.script("start", &unit, Outcome::EndsFirst(JobResult::Failed));
        assert_eq!(
            systemd.start(&unit, SOON).await.expect("an answer"),
            JobResult::Failed
        );
    }
}

#[tokio::test]
async fn jobs_at_once_each_get_their_own_result() {
    let (fake, systemd) = FakeSystemd::start().await.expect("the fake starts");
    let units: Vec<UnitName> = (0..100).map(|n| unit(&format!("u{n}.service"))).collect();
    for (n, unit) in units.iter().enumerate() {
        fake.add(unit);
        let result = if n % 3 == 0 {
            JobResult::Failed
        } else {
            JobResult::Done
        };
        let outcome = if n % 2 == 0 {
            Outcome::Ends(result)
        } else {
            Outcome::EndsFirst(result)
        };
        fake.script("start", unit, outcome);
    }
    let starts = units.iter().map(|unit| systemd.start(unit, SOON));
    let results = futures_util::future::join_all(starts).await;
    for (n, result) in results.into_iter().enumerate() {
        let expected = if n % 3 == 0 {
            JobResult::Failed
        } else {
            JobResult::Done
        };
        assert_eq!(result.expect("an answer"), expected, "u{n}");
    }
}

#[tokio::test]
async fn a_job_that_hangs_ends_at_the_deadline_and_names_the_unit() {
    let (fake, systemd, unit) = with_unit("slow.service").await;
    fake.script("start", &unit, Outcome::Hangs);
    let error = systemd
        .start(&unit, Duration::from_millis(100))
        .await
        .expect_err("the job never ends");
    assert!(matches!(error, Error::Deadline { .. }), "{error:?}");
    assert_eq!(
        error.to_string(),
        "systemd did not start slow.service within 0.1 s"
    );
}

#[tokio::test]
async fn refusals_are_told_apart_by_their_name() {
    type Check = fn(&Error) -> bool;
    let cases: [(&str, Check); 6] = [
        ("org.freedesktop.systemd1.NoSuchUnit", |e| {
            matches!(e, Error::NoSuchUnit { .. })
        }),
        ("org.freedesktop.systemd1.UnitMasked", |e| {
            matches!(e, Error::Masked { .. })
        }),
        ("org.freedesktop.systemd1.BadUnitSetting", |e| {
            matches!(e, Error::BadUnit { .. })
        }),
        ("org.freedesktop.systemd1.TransactionIsDestructive", |e| {
            matches!(e, Error::Transaction { .. })
        }),
        ("org.freedesktop.DBus.Error.AccessDenied", |e| {
            matches!(e, Error::AccessDenied { .. })
        }),
        ("org.example.New", |e| matches!(e, Error::Refused { .. })),
    ];
    let (fake, systemd, unit) = with_unit("a.service").await;
    for (name, check) in cases {
        let (name, message) = (name.to_owned(), "because".to_owned());
        fake.script(
            "restart",
            &unit,
            Outcome::Refused {
                name: name.clone(),
                message,
            },
        );
        let error = systemd.restart(&unit, SOON).await.expect_err(&name);
        assert!(check(&error), "{name}: {error:?}");
        assert!(error.to_string().ends_with("because"), "{error}");
    }
}

#[tokio::test]
async fn a_crash_of_systemd_ends_the_wait() {
    let (fake, systemd, unit) = with_unit("a.service").await;
    fake.script("start", &unit, Outcome::Hangs);
    let crash = async {
        while fake.calls().is_empty() {
            tokio::task::yield_now().await;
        }
        drop(fake);
    };
    let (result, ()) = tokio::join!(systemd.start(&unit, SOON), crash);
    let error = result.expect_err("nobody is left to answer");
    assert!(matches!(error, Error::Disconnected { .. }), "{error:?}");
}

#[tokio::test]
async fn status_has_what_the_last_run_left() {
    let (fake, systemd, unit) = with_unit("a.service").await;
    let status = systemd.status(&unit).await.expect("a status");
    assert_eq!(
        (status.load, status.active),
        (LoadState::Loaded, ActiveState::Inactive)
    );
    systemd.start(&unit, SOON).await.expect("starts");
    let status = systemd.status(&unit).await.expect("a status");
    assert!(status.is_running());
    assert_eq!(status.main_pid, Some(1001));
    assert_eq!(status.invocation_id, "000003e9".repeat(4));
    fake.change(&unit, |unit| {
        unit.sub = "auto-restart".to_owned();
        unit.active = "activating".to_owned();
        unit.main_pid = 0;
        (unit.exec_main_code, unit.exec_main_status) = (2, 9);
        unit.result = "signal".to_owned();
        unit.n_restarts = 3;
    });
    let status = systemd.status(&unit).await.expect("a status");
    assert_eq!(status.sub, SubState::AutoRestart);
    assert_eq!((status.main_pid, status.n_restarts), (None, 3));
    assert_eq!(
        (status.main_exit, status.result),
        (MainExit::Killed(9), ServiceResult::Signal)
    );
}

#[tokio::test]
async fn a_unit_without_a_file_has_a_status_and_no_start() {
    let (_fake, systemd) = FakeSystemd::start().await.expect("the fake starts");
    let unit = unit("none.service");
    assert_eq!(
        systemd.status(&unit).await.expect("a status").load,
        LoadState::NotFound
    );
    let error = systemd.start(&unit, SOON).await.expect_err("nothing to start");
    assert!(matches!(error, Error::NoSuchUnit { .. }), "{error:?}");
}

#[tokio::test]
async fn waiting_for_a_state_is_woken_by_the_change() {
    let (fake, systemd, unit) = with_unit("a.service").await;
    let crash = async {
        fake.change(&unit, |unit| unit.active = "failed".to_owned());
        fake.announce(&unit).await.expect("announced");
    };
    let failed = systemd.wait_until(&unit, SOON, |status| status.active == ActiveState::Failed);
    let (status, ()) = tokio::join!(failed, crash);
    assert_eq!(status.expect("it failed").active, ActiveState::Failed);
    let never = systemd
        .wait_until(&unit, Duration::from_millis(50), |status| status.n_restarts > 5)
        .await;
    assert!(matches!(never, Err(Error::Deadline { .. })));
}

#[tokio::test]
async fn the_rest_of_the_verbs() {
    let (fake, systemd, unit) = with_unit("nova-compute.service").await;
    fake.change(&unit, |unit| unit.active = "failed".to_owned());
    systemd.daemon_reload(SOON).await.expect("reloads");
    systemd.reset_failed(&unit).await.expect("resets");
    systemd.enqueue_start(&unit).await.expect("queued");
    let rows = systemd.list(&["nova-*"]).await.expect("a list");
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].name, unit);
    assert!(systemd.list(&["libvirt*"]).await.expect("a list").is_empty());
    assert_eq!(
        systemd.is_system_running().await.expect("a word"),
        SystemState::Running
    );
    assert_eq!(
        fake.calls(),
        [
            "reload",
            "reset-failed nova-compute.service",
            "start nova-compute.service"
        ]
    );
}

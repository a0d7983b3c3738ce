//! Results and states, over the bus and over the private socket.

use std::time::Duration;

use node_systemd::{
    Error, JobResult, RenderedUnit, Systemd, journal,
    state::{ActiveState, LoadState, MainExit, ServiceResult, SubState},
};

use super::{SOON, deploy, output, property, unit};
use crate::common;

const BY_HAND: &str = "wanted_by = []\nrestart = \"no\"\n";

fn services() -> Vec<RenderedUnit> {
    let needy = format!("{BY_HAND}requires = [\"fails.service\"]\nafter = [\"fails.service\"]");
    vec![
        common::unit("a", "aa", BY_HAND),
        common::unit("fails", "bb", BY_HAND),
        common::unit("slow", "cc", &format!("{BY_HAND}timeout_start_sec = 2")),
        common::unit("needy", "dd", &needy),
        common::unit(
            "again",
            "ee",
            "wanted_by = []\nrestart_sec = \"10ms\"\nstart_limit_burst = 3",
        ),
    ]
}

#[tokio::test]
#[ignore = "runs inside the box"]
async fn end_as_they_do_on_a_node() {
    let bus = Systemd::connect().await.expect("the bus");
    let private = Systemd::connect_private().await.expect("the private socket");
    deploy(&bus, 1, &services()).await;
    for systemd in [bus, private] {
        results(&systemd).await;
        states(&systemd).await;
        crash_loop(&systemd).await;
    }
}

async fn results(systemd: &Systemd) {
    let start = async |name: &str| systemd.start(&unit(name), SOON).await.expect("an answer");
    // Starts by hand count against the unit's limit too; forgetting them is what lets it start again.
    systemd.reset_failed(&unit("a")).await.expect("reset");
    for _ in 0..4 {
        let restarted = systemd.restart(&unit("a"), SOON).await.expect("an answer");
        assert_eq!(restarted, JobResult::Done);
    }
    assert_eq!(start("a").await, JobResult::Done, "what runs is started at once");
    assert_eq!(start("fails").await, JobResult::Failed);
    assert_eq!(start("needy").await, JobResult::Dependency);
    assert_eq!(start("slow").await, JobResult::Failed);
    let status = systemd.status(&unit("slow")).await.expect("a status");
    assert_eq!(status.result, ServiceResult::Timeout);
    let late = systemd.start(&unit("slow"), Duration::from_millis(200)).await;
    assert!(matches!(late, Err(Error::Deadline { .. })), "{late:?}");
    let stopped = systemd.stop(&unit("slow"), SOON).await.expect("an answer");
    assert_eq!(stopped, JobResult::Done);
    let missing = systemd.start(&unit("missing"), SOON).await;
    assert!(matches!(missing, Err(Error::NoSuchUnit { .. })), "{missing:?}");
}

async fn states(systemd: &Systemd) {
    let status = async |name: &str| systemd.status(&unit(name)).await.expect("a status");
    let a = status("a").await;
    assert!(a.is_running(), "{a:?}");
    assert_eq!(
        a.main_pid.map(|pid| pid.to_string()),
        Some(property("a", "MainPID"))
    );
    assert_eq!(a.invocation_id, property("a", "InvocationID"));
    assert_eq!(a.control_group, "/system.slice/a.service");
    let fails = status("fails").await;
    assert_eq!(
        (fails.active, fails.result),
        (ActiveState::Failed, ServiceResult::ExitCode)
    );
    assert_eq!(fails.main_exit, MainExit::Exited(7));
    systemd.reset_failed(&unit("fails")).await.expect("reset");
    assert_eq!(status("fails").await.active, ActiveState::Inactive);
    assert_eq!(status("missing").await.load, LoadState::NotFound);
    let rows = systemd.list(&["a.service", "need*"]).await.expect("a list");
    assert!(
        rows.iter()
            .any(|row| row.name == unit("a") && row.sub == SubState::Running),
        "{rows:?}"
    );
    systemd.is_system_running().await.expect("a word");
    assert!(
        systemd
            .version()
            .await
            .expect("a version")
            .starts_with(|c: char| c.is_ascii_digit())
    );
}

/// A service that dies is seen to be restarted.
async fn crash_loop(systemd: &Systemd) {
    let again = unit("again");
    systemd.start(&again, SOON).await.expect("an answer");
    let pid = systemd
        .status(&again)
        .await
        .expect("a status")
        .main_pid
        .expect("it runs");
    output("systemctl", &["kill", "-s", "KILL", "again.service"]);
    let restarted = systemd.wait_until(&again, SOON, |status| {
        status.n_restarts == 1 && status.is_running()
    });
    let restarted = restarted.await.expect("restarted");
    assert_ne!(restarted.main_pid, Some(pid));
    systemd.stop(&again, SOON).await.expect("an answer");
    systemd.reset_failed(&again).await.expect("reset");
}

#[tokio::test]
#[ignore = "runs inside the box"]
async fn many_at_once_each_get_their_own_result() {
    let systemd = Systemd::connect().await.expect("the bus");
    let name = |n: u32| {
        if n.is_multiple_of(2) {
            format!("ok{n}")
        } else {
            format!("fail{n}")
        }
    };
    let units: Vec<_> = (0..40).map(|n| common::unit(&name(n), "aa", BY_HAND)).collect();
    deploy(&systemd, 2, &units).await;
    let starts = units.iter().map(|unit| systemd.start(&unit.name, SOON));
    let results = futures_util::future::join_all(starts).await;
    for (unit, result) in units.iter().zip(results) {
        let fails = unit.name.as_str().starts_with("fail");
        let expected = if fails { JobResult::Failed } else { JobResult::Done };
        assert_eq!(result.expect("an answer"), expected, "{}", unit.name);
    }
    last_words(&systemd).await;
    let stops = units.iter().map(|unit| systemd.stop(&unit.name, SOON));
    for result in futures_util::future::join_all(stops).await {
        assert_eq!(result.expect("an answer"), JobResult::Done);
    }
}

/// The journal of one run has that run's lines and what systemd says about it.
async fn last_words(systemd: &Systemd) {
    let fails = unit("fail1");
    let status = systemd.status(&fails).await.expect("a status");
    let run = journal::Query {
        invocation_id: Some(status.invocation_id),
        ..journal::Query::last(fails.clone(), 20)
    };
    for query in [run, journal::Query::last(fails, 20)] {
        let lines = journal::read(&query, SOON).await.expect("journalctl runs");
        let all: Vec<&str> = lines.iter().map(|line| line.message.as_str()).collect();
        assert!(all.contains(&"these are my last words"), "{all:?}");
        assert!(all.iter().any(|line| line.contains("status=7")), "{all:?}");
    }
}

#[tokio::test]
#[ignore = "runs inside the box"]
async fn go_on_without_a_bus() {
    output("systemctl", &["stop", "dbus.socket", "dbus.service"]);
    let systemd = Systemd::connect().await.expect("the private socket");
    deploy(&systemd, 4, &services()).await;
    let started = systemd.restart(&unit("a"), SOON).await.expect("an answer");
    assert_eq!(started, JobResult::Done);
}

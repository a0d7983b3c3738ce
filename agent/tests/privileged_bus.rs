//! The interface on a real dbus-daemon with the bus policy that is installed: what root may, a member of
//! the group, and an ordinary user.

mod common;

use std::sync::Arc;

use common::bus::{Bus, OPEN};
use common::{ScriptedAgent, Step};
use node_agent::daemon::{self, BUS_NAME, Client, Operations};
use node_agent::error::ExitCode;
use node_agent::protocol::{Query, Report, Request};

/// The daemon on a bus, as long as the runtime lives.
fn serve(bus: &Bus, agent: Arc<ScriptedAgent>) -> (tokio::runtime::Runtime, zbus::Connection) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let operations = Arc::new(Operations::new(agent));
    let builder = bus.connection().name(BUS_NAME);
    let connection = runtime.block_on(daemon::serve(builder, &operations)).unwrap();
    (runtime, connection)
}

const GC: &str = r#"string:{"operation":"gc","dry_run":true}"#;

#[test]
fn root_may_do_everything() {
    let bus = Bus::with_installed_policy();
    let (agent, steps) = ScriptedAgent::new();
    let _daemon = serve(&bus, Arc::clone(&agent));
    let client = Client::over(bus.connection()).unwrap();
    steps.send(common::note("a step")).unwrap();
    steps
        .send(Step::End(Box::new(Ok(Report::acknowledge("done")))))
        .unwrap();

    let seen = std::sync::Mutex::new(0);
    let result = client.run(
        &Request::Gc { dry_run: true },
        &|_| *seen.lock().unwrap() += 1,
        &|_| {},
    );

    assert_eq!(result, Ok(Report::acknowledge("done")));
    assert_eq!(*seen.lock().unwrap(), 1, "root gets the events");
    assert!(matches!(client.query(&Query::Status), Ok(Report::Status(_))));
    let history = client.query(&Query::History {
        limit: 0,
        with_journal: true,
    });
    let Ok(Report::History(history)) = history else {
        panic!("{history:?}")
    };
    assert!(
        !history.entries[0].journal.is_empty(),
        "root sees what the journal said"
    );
}

#[test]
fn an_ordinary_user_may_look_and_not_touch() {
    let bus = Bus::with_installed_policy();
    let (agent, _steps) = ScriptedAgent::new();
    let _daemon = serve(&bus, Arc::clone(&agent));

    assert!(bus.ask("Status", &[]).unwrap().contains("nova-compute"));
    let history = bus.ask("History", &["uint32:0"]).unwrap();
    assert!(
        history.contains("upgrade") && !history.contains("a line of the journal"),
        "{history}"
    );

    for (method, arguments) in [
        ("Start", &[GC][..]),
        ("EventsSince", &["uint64:0"]),
        ("Wait", &["uint64:0"]),
    ] {
        let refused = bus.ask(method, arguments).unwrap_err();
        assert!(
            refused.contains("org.freedesktop.DBus.Error.AccessDenied"),
            "{method}: {refused}"
        );
    }
    let name = format!("string:{BUS_NAME}");
    let taken = bus.call(
        "org.freedesktop.DBus",
        "/org/freedesktop/DBus",
        "org.freedesktop.DBus.RequestName",
        &[&name, "uint32:2"],
    );
    assert!(!taken.status.success(), "nobody else may pretend to be noded");
    assert!(agent.asked.lock().unwrap().is_empty(), "nothing was started");
}

#[test]
fn a_member_of_the_group_may_follow_and_not_touch() {
    may_follow_and_not_touch(&Bus::with_ordinary_user_in_the_group());
}

#[test]
fn so_may_a_member_of_a_group_that_the_operator_names() {
    may_follow_and_not_touch(&Bus::with_the_documented_drop_in());
}

fn may_follow_and_not_touch(bus: &Bus) {
    let (agent, steps) = ScriptedAgent::new();
    let _daemon = serve(bus, Arc::clone(&agent));
    steps.send(common::note("a step")).unwrap();
    steps
        .send(Step::End(Box::new(Ok(Report::acknowledge("done")))))
        .unwrap();
    let client = Client::over(bus.connection()).unwrap();
    client
        .run(&Request::Gc { dry_run: true }, &|_| {}, &|_| {})
        .unwrap();
    let asked = agent.asked.lock().unwrap().len();

    assert!(bus.ask("EventsSince", &["uint64:0"]).unwrap().contains("a step"));
    assert!(bus.ask("Wait", &["uint64:0"]).unwrap().contains("done"));
    let history = bus.ask("History", &["uint32:0"]).unwrap();
    assert!(!history.contains("a line of the journal"), "{history}");
    let refused = bus.ask("Start", &[GC]).unwrap_err();
    assert!(
        refused.contains("org.freedesktop.DBus.Error.AccessDenied"),
        "{refused}"
    );
    assert_eq!(agent.asked.lock().unwrap().len(), asked, "nothing was started");
}

/// Events can carry lines of the journal.
#[test]
fn events_reach_only_those_who_may_follow() {
    for (bus, follows) in [
        (Bus::with_installed_policy(), false),
        (Bus::with_ordinary_user_in_the_group(), true),
    ] {
        let (agent, steps) = ScriptedAgent::new();
        let _daemon = serve(&bus, agent);
        steps.send(common::note("a step")).unwrap();
        steps
            .send(Step::End(Box::new(Ok(Report::acknowledge("done")))))
            .unwrap();
        let client = Client::over(bus.connection()).unwrap();
        let heard = bus.overheard(|| {
            let request = Request::Gc { dry_run: true };
            client.run(&request, &|_| {}, &|_| {}).unwrap();
        });
        assert_eq!(heard.contains("a step"), follows, "{heard}");
    }
}

#[test]
fn a_policy_that_was_opened_by_mistake_opens_nothing() {
    let bus = Bus::new(OPEN);
    let (agent, _steps) = ScriptedAgent::new();
    let _daemon = serve(&bus, Arc::clone(&agent));

    let refused = bus.ask("Start", &[GC]).unwrap_err();

    assert!(
        refused.contains("org.nodectl.Agent1.Error.AccessDenied"),
        "{refused}"
    );
    assert!(agent.asked.lock().unwrap().is_empty(), "nothing was started");
}

#[test]
fn a_request_that_is_none_is_refused() {
    let bus = Bus::with_installed_policy();
    let (agent, _steps) = ScriptedAgent::new();
    let (runtime, _connection) = serve(&bus, Arc::clone(&agent));
    let refused = runtime.block_on(async {
        let connection = bus.connection().build().await.unwrap();
        let proxy = daemon::Agent1Proxy::new(&connection).await.unwrap();
        proxy.start(r#"{"operation":"format-disk"}"#).await.unwrap_err()
    });
    assert!(refused.to_string().contains("format-disk"), "{refused}");
}

#[test]
fn a_daemon_that_is_killed_is_reported_as_lost() {
    let bus = Bus::with_installed_policy();
    let (agent, steps) = ScriptedAgent::new();
    let (runtime, connection) = serve(&bus, agent);
    let client = Client::over(bus.connection()).unwrap();
    steps.send(common::note("a step")).unwrap();
    let killed = std::sync::Mutex::new(Some(connection));

    let result = client.run(
        &Request::Gc { dry_run: true },
        &|_| {
            if let Some(connection) = killed.lock().unwrap().take() {
                runtime.spawn(async move { connection.close().await });
            }
        },
        &|_| {},
    );

    assert_eq!(result.unwrap_err().code, ExitCode::Unavailable as u8);
    steps
        .send(Step::End(Box::new(Ok(Report::acknowledge("done")))))
        .unwrap();
}

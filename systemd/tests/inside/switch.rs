//! A switch of deployments under running services.

use std::path::Path;

use node_systemd::{
    JobResult, Systemd,
    state::{ActiveState, LoadState},
};

use super::{SOON, deploy, property, unit};
use crate::common;

#[tokio::test]
#[ignore = "runs inside the box"]
async fn leaves_running_services_alone() {
    let systemd = Systemd::connect_private().await.expect("the private socket");
    let old = [
        common::unit("stays", "aa", ""),
        common::unit("changes", "aa", ""),
        common::unit("goes", "aa", "kill_mode = \"process\""),
    ];
    deploy(&systemd, 1, &old).await;
    let names = ["stays", "changes", "goes"];
    for name in names {
        let started = systemd.start(&unit(name), SOON).await.expect("an answer");
        assert_eq!(started, JobResult::Done, "{name}");
    }
    let pids = || names.map(|name| property(name, "MainPID"));
    let before = pids();
    let new = [
        common::unit("stays", "aa", ""),
        common::unit("changes", "bb", ""),
        common::unit("comes", "aa", ""),
    ];
    common::write(Path::new("/run/nodectl/retired/goes.service"), &old[2].text);
    deploy(&systemd, 2, &new).await;
    assert_eq!(pids(), before);
    assert_eq!(property("comes", "ActiveState"), "inactive");
    let goes = systemd.status(&unit("goes")).await.expect("a status");
    assert_eq!((goes.load, goes.active), (LoadState::Loaded, ActiveState::Active));
    assert_eq!(property("goes", "KillMode"), "process");
    assert!(property("changes", "ExecStart").contains("--digest=bb"));
    let results = [
        systemd.restart(&unit("changes"), SOON).await,
        systemd.start(&unit("comes"), SOON).await,
        systemd.stop(&unit("goes"), SOON).await,
    ];
    for result in results {
        assert_eq!(result.expect("an answer"), JobResult::Done);
    }
    damage(&systemd).await;
}

/// A deployment that cannot be read takes neither systemd nor what runs down with it.
async fn damage(systemd: &Systemd) {
    let pid = property("stays", "MainPID");
    common::switch(Path::new("/"), 99);
    systemd.daemon_reload(SOON).await.expect("reloads");
    let stays = systemd.status(&unit("stays")).await.expect("a status");
    assert_eq!(stays.active, ActiveState::Active);
    assert_eq!(property("stays", "MainPID"), pid);
    common::switch(Path::new("/"), 2);
    systemd.daemon_reload(SOON).await.expect("reloads");
    let stays = systemd.status(&unit("stays")).await.expect("a status");
    assert_eq!(stays.load, LoadState::Loaded);
    assert_eq!(property("stays", "MainPID"), pid);
}

//! That systemd reads from a unit what the definition said, whatever it said.

use std::path::Path;

use node_systemd::{JobResult, ServiceExec, ServiceUnit, Systemd, render_service};

use super::{SOON, deploy, output, property, unit};
use crate::common;

const AWKWARD: &str = "%n %% $HOME ${X} \"two\" 'one' back\\slash ; # tab\there\nUser=nobody é \\";

#[tokio::test]
#[ignore = "runs inside the box"]
async fn arrive_as_they_were_given() {
    let keep = "for a; do printf '%s\\0' \"$a\"; done > /run/dump.args";
    let command = ["/bin/sh", "-c", keep, "sh", AWKWARD, ";", "", "-"];
    let service = ServiceUnit {
        description: "50% of it; # \"quoted\"".to_owned(),
        exec_stop_post: command.map(str::to_owned).to_vec(),
        ..ServiceUnit::default()
    };
    let secret = Path::new("/etc/nodectl/secrets/pass \"word\" %n");
    let mut exec = ServiceExec::new("aa");
    exec.environment.insert("AWKWARD".to_owned(), AWKWARD.to_owned());
    exec.credentials.push(("password".to_owned(), secret.to_owned()));
    common::write(secret, "secret");
    let systemd = Systemd::connect().await.expect("the bus");
    deploy(
        &systemd,
        3,
        &[render_service("dump", &service, &exec).expect("renders")],
    )
    .await;
    let started = systemd.start(&unit("dump"), SOON).await.expect("an answer");
    assert_eq!(started, JobResult::Done);
    assert_eq!(property("dump", "Description"), service.description);
    let pid = property("dump", "MainPID");
    let credential = output(
        "nsenter",
        &["-t", &pid, "-m", "cat", "/run/credentials/dump.service/password"],
    );
    assert_eq!(credential, "secret");
    let stopped = systemd.stop(&unit("dump"), SOON).await.expect("an answer");
    assert_eq!(stopped, JobResult::Done);
    let environment = texts("/run/dump.env");
    assert!(
        environment.contains(&format!("AWKWARD={AWKWARD}")),
        "{environment:?}"
    );
    assert_eq!(texts("/run/dump.args"), command[4..]);
}

/// The NUL-terminated texts in a file.
fn texts(path: &str) -> Vec<String> {
    let text = std::fs::read_to_string(path).expect("written by the service");
    let text = text.strip_suffix('\0').expect("terminated");
    text.split('\0').map(str::to_owned).collect()
}

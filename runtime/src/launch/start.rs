//! One launch from beginning to end.

use std::path::{Path, PathBuf};

use nix::unistd::Pid;

use super::record::Records;
use super::supervisor::Supervisor;
use super::{
    Bundle, Failed, Readiness, Running, StartError, container, directories, find, limits, prepare, readiness,
};
use crate::process;

/// Where things are on this node.
#[derive(Clone, Debug)]
pub struct Roots {
    /// State root, usually `/var/lib/nodectl`.
    pub state: PathBuf,
    /// Run root, usually `/run/nodectl`.
    pub run: PathBuf,
}

/// Starts the bundle of `service` with this digest under systemd and returns when the service is
/// ready, or has been started if it reports its readiness itself. No process of node-run stays.
///
/// # Errors
/// The step, path and cause of what failed, and what is left to end. The unit has failed then, or will.
pub fn start(service: &str, digest: &str, roots: &Roots) -> Result<(), Failed> {
    let bundle = Bundle::load(&find(&roots.state, service, digest)?)?;
    if bundle.launch.service != service {
        let reason = format!("is for {}, not {service}", bundle.launch.service);
        let path = bundle.path.join("launch.json");
        return Err(StartError::Bundle { path, reason }.into());
    }
    let (pid, supervisor) = run(&bundle, digest, roots)?;
    readiness::wait(&bundle, pid, &supervisor).map_err(|error| Failed {
        error,
        main: Some(pid),
    })
}

/// Everything up to a service that runs as the main process of its unit.
fn run(bundle: &Bundle, digest: &str, roots: &Roots) -> Result<(Pid, Supervisor), StartError> {
    limits::apply(&bundle.launch.limits);
    directories::make(&bundle.launch.directories)?;
    let address = std::env::var_os("NOTIFY_SOCKET");
    let notifies = bundle.launch.readiness == Readiness::Notify;
    let socket = address.as_deref().map(Path::new).filter(|_| notifies);
    let supervisor = Supervisor::connect(address.clone())?;
    let records = Records::open(&roots.run)?;
    let prepared = prepare::prepare(bundle, &roots.run.join("launch"), socket)?;
    let mut created = container::create(bundle, prepared)?;
    let pid = created.pid();
    records.write(&record(bundle, digest, pid.as_raw())?)?;
    supervisor.hand_over(pid)?;
    created.start()?;
    Ok((pid, supervisor))
}

fn record(bundle: &Bundle, digest: &str, pid: i32) -> Result<Running, StartError> {
    let started_at_ticks =
        process::started_at_ticks(pid).map_err(StartError::path("read", format!("/proc/{pid}/stat")))?;
    Ok(Running {
        service: bundle.launch.service.clone(),
        digest: digest.to_owned(),
        bundle: bundle.path.clone(),
        tree: bundle.tree().to_owned(),
        pid,
        started_at_ticks,
    })
}

//! One launch from beginning to end.

use std::path::{Path, PathBuf};

use super::{
    Bundle, Readiness, Running, StartError, container, directories, find, limits, prepare, readiness,
    supervisor,
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
/// The step, path and cause of what failed. The unit has failed then, or will: its main process is
/// gone or gets ended.
pub fn start(service: &str, digest: &str, roots: &Roots) -> Result<(), StartError> {
    let bundle = Bundle::load(&find(&roots.state, service, digest)?)?;
    if bundle.launch.service != service {
        let reason = format!("is for {}, not {service}", bundle.launch.service);
        return Err(StartError::Bundle {
            path: bundle.path.join("launch.json"),
            reason,
        });
    }
    limits::apply(&bundle.launch.limits);
    directories::make(&bundle.launch.directories)?;
    let socket = std::env::var_os("NOTIFY_SOCKET").map(PathBuf::from);
    let notifies = bundle.launch.readiness == Readiness::Notify;
    let socket = socket.as_deref().filter(|_| notifies);
    let prepared = prepare::prepare(&bundle, &roots.run.join("launch"), socket)?;
    let mut created = container::create(&bundle, prepared)?;
    let running = record(&bundle, digest, created.pid().as_raw(), &roots.run)?;
    supervisor::hand_over(created.pid())?;
    created.start()?;
    readiness::wait(&bundle.launch, &running).inspect_err(|_| process::end(created.pid()))
}

fn record(bundle: &Bundle, digest: &str, pid: i32, run: &Path) -> Result<Running, StartError> {
    let started_at_ticks =
        process::started_at_ticks(pid).map_err(StartError::path("read", format!("/proc/{pid}/stat")))?;
    let running = Running {
        service: bundle.launch.service.clone(),
        digest: digest.to_owned(),
        bundle: bundle.path.clone(),
        tree: bundle.tree().to_owned(),
        pid,
        started_at_ticks,
    };
    running.write(run)?;
    Ok(running)
}

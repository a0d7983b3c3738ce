//! Creating and starting the container with libcontainer, as a child of systemd.

use std::cell::OnceCell;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

use caps::CapsHashSet;
use libcontainer::container::Container;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, pipe2};
use oci_spec::runtime::{Capability as OciCapability, Process, Spec};

use super::prepare::Prepared;
use super::workload::{Lifeline, Workload};
use super::{Bundle, Readiness, StartError, privileges};
use crate::spec::capabilities::kernel_set;

/// A container whose process waits for the word to go. It is killed if that never comes.
pub(super) struct Created {
    service: String,
    container: Container,
    pid: Pid,
    report: File,
    _lifeline: OwnedFd,
    started: bool,
}

/// Creates the container: namespaces, mounts and limits are in place and its process waits.
pub(super) fn create(bundle: &Bundle, prepared: Prepared) -> Result<Created, StartError> {
    let service = bundle.launch.service.clone();
    let (report, write) =
        pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|e| StartError::call("make a pipe")(e.into()))?;
    let (lifeline, hold) =
        pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|e| StartError::call("make a pipe")(e.into()))?;
    let notifies = bundle.launch.readiness == Readiness::Notify;
    let mut spec = prepared.spec;
    add_environment(&mut spec, prepared.notify_socket.as_deref());
    privileges::fit(&mut spec)?;
    let workload = Workload {
        final_capabilities: keep_admin(&mut spec, bundle.filter.is_some(), prepared.host_dev),
        filter: bundle.filter.as_deref().map(Rc::from),
        uncover_dev: prepared.host_dev,
        listen_names: std::env::var("LISTEN_FDNAMES").ok(),
        watchdog_usec: std::env::var("WATCHDOG_USEC").ok().filter(|_| notifies),
        report: write.as_raw_fd(),
        lifeline: Lifeline {
            read: lifeline.as_raw_fd(),
            write: hold.as_raw_fd(),
        },
        environment: OnceCell::new(),
    };
    write_config(&prepared.bundle, &spec)?;
    let container = build(&service, &prepared.state, &prepared.bundle, workload)
        .map_err(|source| create_failed(&service, source.into()))?;
    drop((write, lifeline));
    let report = File::from(report);
    match container.pid() {
        Some(pid) => Ok(Created {
            service,
            container,
            pid,
            report,
            _lifeline: hold,
            started: false,
        }),
        None => Err(create_failed(&service, "libcontainer reports no process".into())),
    }
}

fn create_failed(service: &str, source: Box<dyn std::error::Error + Send + Sync>) -> StartError {
    StartError::Create {
        service: service.to_owned(),
        source,
    }
}

fn write_config(bundle: &std::path::Path, spec: &Spec) -> Result<(), StartError> {
    std::fs::create_dir(bundle).map_err(StartError::path("make", bundle))?;
    let path = bundle.join("config.json");
    let write = || -> std::io::Result<()> { std::fs::write(&path, serde_json::to_vec(spec)?) };
    write().map_err(StartError::path("write", &path))
}

fn build(
    service: &str,
    state: &std::path::Path,
    bundle: &std::path::Path,
    workload: Workload,
) -> Result<Container, libcontainer::error::LibcontainerError> {
    ContainerBuilder::new(service.to_owned(), SyscallType::default())
        .with_executor(workload)
        .with_root_path(state)?
        .validate_id()?
        .as_init(bundle)
        .with_systemd(false)
        .as_sibling(true)
        .with_detach(true)
        .build()
}

fn add_environment(spec: &mut Spec, notify_socket: Option<&std::path::Path>) {
    if let (Some(socket), Some(process)) = (notify_socket, spec.process_mut()) {
        let mut environment = process.env().clone().unwrap_or_default();
        environment.push(format!("NOTIFY_SOCKET={}", socket.display()));
        process.set_env(Some(environment));
    }
}

/// Loading a filter without no_new_privs and taking a mount away need CAP_SYS_ADMIN, which
/// libcontainer drops before the workload runs. Where the service does not have it, it is kept for
/// these two steps; the result is what to go down to after them.
fn keep_admin(spec: &mut Spec, filter: bool, host_dev: bool) -> Option<CapsHashSet> {
    let process = spec.process_mut().as_mut()?;
    let filter_needs_it = filter && process.no_new_privileges() != Some(true);
    if !filter_needs_it && !host_dev {
        return None;
    }
    let capabilities = process.capabilities().clone()?;
    let held = capabilities.effective().clone().unwrap_or_default();
    if held.contains(&OciCapability::SysAdmin) {
        return None;
    }
    let mut kept = held.clone();
    kept.insert(OciCapability::SysAdmin);
    set_held(process, capabilities, kept);
    Some(kernel_set(&held))
}

fn set_held(
    process: &mut Process,
    mut capabilities: oci_spec::runtime::LinuxCapabilities,
    held: std::collections::HashSet<OciCapability>,
) {
    capabilities.set_effective(Some(held.clone()));
    capabilities.set_permitted(Some(held));
    process.set_capabilities(Some(capabilities));
}

impl Created {
    /// The process, in the pid namespace of node-run.
    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    /// Lets the process go on and waits until it has executed the service's program.
    pub(super) fn start(&mut self) -> Result<(), StartError> {
        self.container
            .start()
            .map_err(|source| create_failed(&self.service, source.into()))?;
        self.started = true;
        let mut reason = String::new();
        self.report
            .read_to_string(&mut reason)
            .map_err(StartError::call("read the report of the container's process"))?;
        match reason.is_empty() {
            true => Ok(()),
            false => Err(StartError::Execute {
                service: self.service.clone(),
                reason,
            }),
        }
    }
}

impl Drop for Created {
    fn drop(&mut self) {
        if !self.started {
            // Gone already is as good.
            let _ = kill(self.pid, Signal::SIGKILL);
        }
    }
}

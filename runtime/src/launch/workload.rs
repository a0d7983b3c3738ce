//! The last steps inside the container, as its process: environment, filter, capabilities, execve.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::ffi::CString;
use std::io::Write;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use caps::{CapSet, CapsHashSet};
use libcontainer::oci_spec::runtime::Spec;
use libcontainer::workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError};
use nix::mount::{MntFlags, umount2};
use nix::unistd::{AccessFlags, access, execve};

use crate::sys;

/// What node-run wants done in the container's process. libcontainer clones it into there.
#[derive(Clone)]
pub(super) struct Workload {
    /// Compiled filter to load right before execve(2).
    pub filter: Option<Rc<[u8]>>,
    /// Effective and permitted set to end with, where CAP_SYS_ADMIN was kept for these steps only.
    pub final_capabilities: Option<CapsHashSet>,
    /// Whether a tmpfs covers the host's `/dev`.
    pub uncover_dev: bool,
    /// LISTEN_FDNAMES of the unit, which libcontainer does not pass on.
    pub listen_names: Option<String>,
    /// WATCHDOG_USEC of the unit, for services that notify.
    pub watchdog_usec: Option<String>,
    /// Where a failure is reported; closed by a successful execve(2).
    pub report: RawFd,
    /// A pipe whose write end only node-run keeps.
    pub lifeline: Lifeline,
    /// Environment of the program, set by [`Executor::setup_envs`].
    pub environment: OnceCell<HashMap<String, String>>,
}

/// From now until execve(2), the container's process ends with node-run. It would wait for ever
/// otherwise, and under KillMode=process nobody would take it away. (The first process of a private
/// pid namespace is immune to this signal; such services have no use for KillMode=process, since
/// their children end with it anyhow.)
#[derive(Clone, Copy, Debug)]
pub(super) struct Lifeline {
    pub read: RawFd,
    pub write: RawFd,
}

impl Lifeline {
    fn end_with_node_run(self) -> nix::Result<()> {
        nix::unistd::close(self.write)?;
        sys::kill_when_readable(self.read)?;
        // It may have ended before the signal was armed.
        let mut end = [0];
        match nix::unistd::read(self.read, &mut end) {
            Err(nix::errno::Errno::EAGAIN) => Ok(()),
            Ok(_) => Err(nix::errno::Errno::EPIPE),
            Err(e) => Err(e),
        }
    }
}

impl Executor for Workload {
    /// Looks for the program while a failure is still one of the launch.
    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        let process = spec.process().as_ref();
        let environment = process.and_then(|p| p.env().as_ref()).into_iter().flatten();
        let path = environment
            .filter_map(|variable| variable.strip_prefix("PATH="))
            .next_back();
        let program = process
            .and_then(|p| p.args().as_ref()?.first())
            .map_or("", String::as_str);
        find_program(program, path.unwrap_or_default())
            .map(drop)
            .map_err(ExecutorValidationError::ArgValidationError)
    }

    /// systemd's variables name a process; that is this one now, by its number in its own pid
    /// namespace (sd_listen_fds(3), sd_watchdog_enabled(3)).
    fn setup_envs(&self, mut envs: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        self.lifeline
            .end_with_node_run()
            .map_err(|e| ExecutorSetEnvsError::Other(format!("watch node-run: {e}")))?;
        let own = std::process::id().to_string();
        if envs.contains_key("LISTEN_FDS") {
            envs.insert("LISTEN_PID".to_owned(), own.clone());
            if let Some(names) = &self.listen_names {
                envs.insert("LISTEN_FDNAMES".to_owned(), names.clone());
            }
        }
        if let Some(usec) = &self.watchdog_usec {
            envs.insert("WATCHDOG_USEC".to_owned(), usec.clone());
            envs.insert("WATCHDOG_PID".to_owned(), own);
        }
        self.environment
            .set(envs)
            .map_err(|_| ExecutorSetEnvsError::Other("environment set twice".to_owned()))
    }

    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let Err(reason) = self.execute(spec);
        let mut report = std::mem::ManuallyDrop::new(sys::file(self.report));
        // If this fails as well, libcontainer's own log line is all there is.
        let _ = report.write_all(reason.as_bytes());
        Err(ExecutorError::Other(reason))
    }
}

impl Workload {
    fn execute(&self, spec: &Spec) -> Result<std::convert::Infallible, String> {
        if self.uncover_dev {
            umount2("/dev", MntFlags::MNT_DETACH).map_err(|e| format!("uncover /dev: {e}"))?;
        }
        if let Some(filter) = &self.filter {
            sys::load_filter(filter).map_err(|e| format!("load seccomp filter: {e}"))?;
        }
        if let Some(set) = &self.final_capabilities {
            caps::set(None, CapSet::Effective, set).map_err(|e| format!("drop capabilities: {e}"))?;
            caps::set(None, CapSet::Permitted, set).map_err(|e| format!("drop capabilities: {e}"))?;
        }
        let args = spec
            .process()
            .as_ref()
            .and_then(|p| p.args().as_deref())
            .unwrap_or_default();
        let empty = HashMap::new();
        let environment = self.environment.get().unwrap_or(&empty);
        let path = environment.get("PATH").map_or("", String::as_str);
        let program = args.first().map(String::as_str).unwrap_or_default();
        execute(program, args, environment, path)
    }
}

/// Replaces this process by the program, searched for in `path` as execvp(3) does.
pub(crate) fn execute(
    program: &str,
    args: &[String],
    environment: &HashMap<String, String>,
    path: &str,
) -> Result<std::convert::Infallible, String> {
    let found = find_program(program, path)?;
    let text = |s: &str| CString::new(s).map_err(|_| format!("execute {program}: NUL in {s:?}"));
    let args = args.iter().map(|arg| text(arg)).collect::<Result<Vec<_>, _>>()?;
    let variable = |(key, value): (&String, &String)| text(&format!("{key}={value}"));
    let environment = environment.iter().map(variable).collect::<Result<Vec<_>, _>>()?;
    let file = text(&found.to_string_lossy())?;
    execve(&file, &args, &environment).map_err(|e| format!("execute {}: {}", found.display(), e.desc()))
}

fn find_program(program: &str, path: &str) -> Result<PathBuf, String> {
    let executable = |file: &Path| access(file, AccessFlags::X_OK);
    if program.contains('/') {
        let file = PathBuf::from(program);
        return match executable(&file) {
            Ok(()) => Ok(file),
            Err(e) => Err(format!("execute {program}: {}", e.desc())),
        };
    }
    path.split(':')
        .map(|directory| Path::new(directory).join(program))
        .find(|candidate| candidate.is_file() && executable(candidate).is_ok())
        .ok_or_else(|| format!("execute {program}: not found in PATH {path}"))
}

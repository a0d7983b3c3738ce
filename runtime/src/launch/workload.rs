//! The last steps inside the container, as its process: environment, filter, capabilities, execve.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::ffi::CString;
use std::io::Write;
use std::os::fd::RawFd;
use std::path::PathBuf;
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
    /// Environment of the program, set by [`Executor::setup_envs`].
    pub environment: OnceCell<HashMap<String, String>>,
}

impl Executor for Workload {
    fn validate(&self, _spec: &Spec) -> Result<(), ExecutorValidationError> {
        Ok(())
    }

    /// systemd's variables name a process; that is this one now, by its number in its own pid
    /// namespace (sd_listen_fds(3), sd_watchdog_enabled(3)).
    fn setup_envs(&self, mut envs: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
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
    let found = find_program(program, path).ok_or_else(|| match program.contains('/') {
        true => format!("execute {program}: no such executable in the image"),
        false => format!("execute {program}: not found in PATH {path}"),
    })?;
    let text = |s: &str| CString::new(s).map_err(|_| format!("execute {program}: NUL in {s:?}"));
    let args = args.iter().map(|arg| text(arg)).collect::<Result<Vec<_>, _>>()?;
    let variable = |(key, value): (&String, &String)| text(&format!("{key}={value}"));
    let environment = environment.iter().map(variable).collect::<Result<Vec<_>, _>>()?;
    let file = text(&found.to_string_lossy())?;
    execve(&file, &args, &environment).map_err(|e| format!("execute {}: {}", found.display(), e.desc()))
}

fn find_program(program: &str, path: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(|p| p.exists());
    }
    path.split(':')
        .map(|directory| PathBuf::from(directory).join(program))
        .find(|candidate| candidate.is_file() && access(candidate, AccessFlags::X_OK).is_ok())
}

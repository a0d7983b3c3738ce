//! Running a command inside a running service: in its namespaces and cgroup, as its user, with its
//! capabilities and filter. Needs nothing from libcontainer.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use caps::{CapSet, CapsHashSet};
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl;
use nix::sys::signal::{SigHandler, Signal};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Gid, Pid, Uid, chdir, setgid, setgroups, setuid};
use oci_spec::runtime::{Capabilities, Process, User};

use crate::launch::{Bundle, Running, StartError, execute, find};
use crate::spec::capabilities::kernel_set;
use crate::{process, sys};

/// Exit status of a child that did not get inside, as of env(1) and other programs that run another.
const NOT_ENTERED: i32 = 125;

/// A running service that can be entered.
#[derive(Debug)]
pub struct Inside {
    process: OwnedFd,
    namespaces: CloneFlags,
    cgroup: PathBuf,
    definition: Process,
    filter: Option<Vec<u8>>,
}

impl Inside {
    /// The service of a record, if the process of the record is still its process.
    ///
    /// # Errors
    /// The process is gone, or no deployment has the bundle it was started from any more.
    pub fn of(running: &Running, state_root: &Path) -> Result<Self, StartError> {
        let gone = || StartError::NotReady {
            service: running.service.clone(),
            reason: format!("its process {} is gone", running.pid),
        };
        // The deployment that it was started from may be gone. While the service has not changed, later ones have its
        // bundle as well.
        let bundle = Bundle::load(&find(state_root, &running.service, &running.digest)?)?;
        let inside = Self::new(Pid::from_raw(running.pid), &bundle).map_err(|_| gone())?;
        // Asked after the descriptor was taken, so that it is of the very process it names.
        match process::started_at_ticks(running.pid) {
            Ok(ticks) if ticks == running.started_at_ticks => Ok(inside),
            Ok(_) | Err(_) => Err(gone()),
        }
    }

    /// The service whose main process is `pid`, started from `bundle`.
    pub(crate) fn new(pid: Pid, bundle: &Bundle) -> Result<Self, StartError> {
        let process = sys::pidfd(pid).map_err(StartError::call("open the service's process"))?;
        let definition = bundle.spec.process().clone().unwrap_or_default();
        Ok(Self {
            process,
            namespaces: namespaces_to_join(pid.as_raw())?,
            cgroup: cgroup_of(&pid.to_string())?,
            definition,
            filter: bundle.filter.clone(),
        })
    }

    /// Runs a command inside in a child of this process, with this process's standard streams, and
    /// returns its exit status, 128 plus the number for a signal.
    ///
    /// # Errors
    /// The service could not be entered.
    pub fn run_in_child(&self, command: &[String]) -> Result<i32, StartError> {
        match sys::fork().map_err(StartError::call("fork"))? {
            ForkResult::Child => {
                let status = self.run(command).unwrap_or_else(|error| {
                    crate::report(&error);
                    NOT_ENTERED
                });
                std::process::exit(status);
            }
            ForkResult::Parent { child } => match wait(child)? {
                NOT_ENTERED => Err(StartError::call("enter the service")(
                    std::io::ErrorKind::Other.into(),
                )),
                status => Ok(status),
            },
        }
    }

    /// Enters the service with this process, for good, and runs a command there.
    ///
    /// # Errors
    /// The service could not be entered.
    pub fn run(&self, command: &[String]) -> Result<i32, StartError> {
        self.join_cgroup()?;
        setns(self.process.as_fd(), self.namespaces)
            .map_err(|e| StartError::call("join the namespaces of the service")(e.into()))?;
        // A pid namespace is for children only.
        match sys::fork().map_err(StartError::call("fork"))? {
            ForkResult::Child => {
                let Err(reason) = self.become_service(command);
                tracing::error!("{reason}");
                std::process::exit(126);
            }
            ForkResult::Parent { child } => {
                ignore_terminal_signals();
                wait(child)
            }
        }
    }

    fn join_cgroup(&self) -> Result<(), StartError> {
        if self.cgroup == cgroup_of("self")? {
            return Ok(());
        }
        let procs = self.cgroup.join("cgroup.procs");
        std::fs::write(&procs, "0").map_err(StartError::path("join cgroup", procs))
    }

    fn become_service(&self, command: &[String]) -> Result<std::convert::Infallible, String> {
        let cwd = self.definition.cwd();
        let no_new_privileges = self.definition.no_new_privileges() == Some(true);
        chdir(cwd).map_err(|e| format!("enter {}: {e}", cwd.display()))?;
        if no_new_privileges {
            prctl::set_no_new_privs().map_err(|e| format!("set no_new_privs: {e}"))?;
        }
        if let Some(filter) = self.filter.as_ref().filter(|_| !no_new_privileges) {
            sys::load_filter(filter).map_err(|e| format!("load seccomp filter: {e}"))?;
        }
        self.become_user()
            .map_err(|e| format!("become the service's user: {e}"))?;
        if let Some(filter) = self.filter.as_ref().filter(|_| no_new_privileges) {
            sys::load_filter(filter).map_err(|e| format!("load seccomp filter: {e}"))?;
        }
        // Whoever gives up on the command and kills node-run does not leave the command behind.
        prctl::set_pdeathsig(Signal::SIGKILL).map_err(|e| format!("tie to node-run: {e}"))?;
        let environment = self.environment();
        let path = environment.get("PATH").map_or("", String::as_str);
        let program = command.first().map(String::as_str).unwrap_or_default();
        execute(program, command, &environment, path)
    }

    fn become_user(&self) -> Result<(), Box<dyn std::error::Error>> {
        let user: &User = self.definition.user();
        let none = Capabilities::new();
        let sets = self.definition.capabilities().as_ref();
        // What the caller does not have it cannot give: a host may withhold some even from root.
        let held = caps::read(None, CapSet::Permitted)?;
        let set = |pick: fn(&oci_spec::runtime::LinuxCapabilities) -> &Option<Capabilities>| -> CapsHashSet {
            let wanted = kernel_set(sets.and_then(|sets| pick(sets).as_ref()).unwrap_or(&none));
            wanted.intersection(&held).copied().collect()
        };
        for capability in caps::all().difference(&set(|s| s.bounding())) {
            if caps::has_cap(None, CapSet::Bounding, *capability)? {
                caps::drop(None, CapSet::Bounding, *capability)?;
            }
        }
        prctl::set_keepcaps(true)?;
        let groups: Vec<Gid> = user
            .additional_gids()
            .iter()
            .flatten()
            .map(|gid| Gid::from_raw(*gid))
            .collect();
        setgroups(&groups)?;
        setgid(Gid::from_raw(user.gid()))?;
        setuid(Uid::from_raw(user.uid()))?;
        prctl::set_keepcaps(false)?;
        caps::set(None, CapSet::Inheritable, &set(|s| s.inheritable()))?;
        caps::set(None, CapSet::Effective, &CapsHashSet::new())?;
        caps::set(None, CapSet::Permitted, &set(|s| s.permitted()))?;
        caps::set(None, CapSet::Effective, &set(|s| s.effective()))?;
        caps::set(None, CapSet::Ambient, &set(|s| s.ambient()))?;
        Ok(())
    }

    /// The service's environment, and the caller's terminal.
    fn environment(&self) -> HashMap<String, String> {
        let variables = self.definition.env().iter().flatten();
        let mut environment: HashMap<String, String> = variables
            .filter_map(|variable| variable.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        if let Ok(terminal) = std::env::var("TERM") {
            environment.insert("TERM".to_owned(), terminal);
        }
        environment
    }
}

/// The namespaces in which the service is not already together with this process; joining one's
/// own fails for some kinds.
fn namespaces_to_join(pid: i32) -> Result<CloneFlags, StartError> {
    let kinds = [
        ("mnt", CloneFlags::CLONE_NEWNS),
        ("net", CloneFlags::CLONE_NEWNET),
        ("pid", CloneFlags::CLONE_NEWPID),
        ("ipc", CloneFlags::CLONE_NEWIPC),
        ("uts", CloneFlags::CLONE_NEWUTS),
        ("cgroup", CloneFlags::CLONE_NEWCGROUP),
    ];
    let mut flags = CloneFlags::empty();
    for (name, flag) in kinds {
        let of = |process: String| {
            let path = PathBuf::from(format!("/proc/{process}/ns/{name}"));
            std::fs::read_link(&path).map_err(StartError::path("read", path))
        };
        if of(pid.to_string())? != of("self".to_owned())? {
            flags |= flag;
        }
    }
    Ok(flags)
}

/// Directory of the process's cgroup in the unified hierarchy.
fn cgroup_of(process: &str) -> Result<PathBuf, StartError> {
    let path = PathBuf::from(format!("/proc/{process}/cgroup"));
    let text = std::fs::read_to_string(&path).map_err(StartError::path("read", &path))?;
    let own = text.lines().find_map(|line| line.strip_prefix("0::/"));
    own.map(|own| Path::new("/sys/fs/cgroup").join(own))
        .ok_or_else(|| StartError::Bundle {
            path,
            reason: "the process is in no cgroup of the unified hierarchy".to_owned(),
        })
}

/// Those of the terminal go to the command as well, which decides.
fn ignore_terminal_signals() {
    for signal in [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTSTP] {
        sys::set_handler(signal, SigHandler::SigIgn);
    }
}

fn wait(child: Pid) -> Result<i32, StartError> {
    loop {
        match waitpid(child, None) {
            Ok(WaitStatus::Exited(_, status)) => return Ok(status),
            Ok(WaitStatus::Signaled(_, signal, _)) => return Ok(128 + signal as i32),
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(StartError::call("wait for the command")(e.into())),
        }
    }
}

//! Stops a process before each system call that changes what will be on the disk (seccomp(2) RET_TRACE, ptrace(2)).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use libseccomp::{ScmpAction, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// Calls whose first argument is an open file.
const ON_FILE: &[&str] = &[
    "write",
    "pwrite64",
    "writev",
    "pwritev",
    "pwritev2",
    "copy_file_range",
    "sendfile",
    "splice",
    "fallocate",
    "ftruncate",
    "fchmod",
    "fchown",
    "fsetxattr",
    "fremovexattr",
    "fsync",
    "fdatasync",
    "syncfs",
    "sync_file_range",
];

/// Calls with a directory and a name as their first arguments; the changed name may be a later one.
const BY_NAME_AT: &[(&str, usize)] = &[
    ("openat", 0),
    ("mkdirat", 0),
    ("unlinkat", 0),
    ("renameat", 2),
    ("renameat2", 2),
    ("linkat", 2),
    ("fchmodat", 0),
    ("fchownat", 0),
    ("utimensat", 0),
    ("mknodat", 0),
];

/// Calls with names only; the index of the changed one.
const BY_NAME: &[(&str, usize)] = &[
    ("mkdir", 0),
    ("rmdir", 0),
    ("unlink", 0),
    ("rename", 1),
    ("link", 1),
    ("symlink", 1),
    ("chmod", 0),
    ("chown", 0),
    ("lchown", 0),
    ("truncate", 0),
    ("setxattr", 0),
    ("lsetxattr", 0),
    ("creat", 0),
    ("mknod", 0),
];

/// Has the text of the link first, then a directory and a name.
const SYMLINKAT: &str = "symlinkat";

/// Where a process stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// Before a call that changes this file or directory.
    Call {
        /// Name of the call.
        call: String,
        /// What it changes.
        path: PathBuf,
    },
    /// Before it tells this on standard output.
    Tell(String),
}

/// What becomes of a stopped process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It goes on.
    Live,
    /// SIGKILL; the call is not made.
    Die,
    /// The call is not made and says that it succeeded.
    Skip,
    /// The call is not made and fails with this error.
    Fail(Errno),
}

/// Has the calling process stop at each of these calls from now on; [`follow`] has to have been called for it.
///
/// # Errors
/// The kernel refuses the filter.
pub fn stop_me() -> Result<()> {
    let mut filter = ScmpFilterContext::new(ScmpAction::Allow)?;
    let names = ON_FILE
        .iter()
        .chain(BY_NAME_AT.iter().chain(BY_NAME).map(|(name, _)| name));
    for name in names.chain([&SYMLINKAT]) {
        let call = ScmpSyscall::from_name(name)?;
        if *name == "openat" {
            for flag in [libc::O_CREAT, libc::O_TRUNC] {
                let flag = u64::from(flag.cast_unsigned());
                let set = ScmpArgCompare::new(2, ScmpCompareOp::MaskedEqual(flag), flag);
                filter.add_rule_conditional(ScmpAction::Trace(0), call, &[set])?;
            }
        } else if call.as_raw_syscall() >= 0 {
            filter.add_rule(ScmpAction::Trace(0), call)?;
        }
    }
    filter.load().context("load the filter")
}

/// A process that is followed, with all its threads.
#[derive(Debug)]
pub struct Followed {
    process: Pid,
    names: BTreeMap<u64, String>,
}

/// Begins to follow a process that has one thread so far.
///
/// # Errors
/// ptrace(2) is not allowed.
pub fn follow(process: Pid) -> Result<Followed> {
    let options = Options::PTRACE_O_TRACECLONE | Options::PTRACE_O_TRACESECCOMP | Options::PTRACE_O_EXITKILL;
    ptrace::seize(process, options).context("follow the working process")?;
    let mut names = BTreeMap::new();
    for name in ON_FILE
        .iter()
        .chain(BY_NAME_AT.iter().chain(BY_NAME).map(|(name, _)| name))
        .chain([&SYMLINKAT])
    {
        let number = ScmpSyscall::from_name(name)?.as_raw_syscall();
        names.insert(u64::from(number.cast_unsigned()), (*name).to_owned());
    }
    Ok(Followed { process, names })
}

impl Followed {
    /// Calls `at` at every stop that concerns files below `below`, until the process ends. True if it ended by itself,
    /// with success; false if it died as told.
    ///
    /// # Errors
    /// It failed, or `at` did.
    pub fn run(&self, below: &Path, mut at: impl FnMut(&Stop) -> Result<Fate>) -> Result<bool> {
        let mut told_to_die = false;
        loop {
            match waitpid(None, Some(WaitPidFlag::__WALL)).context("wait for the followed process")? {
                WaitStatus::PtraceEvent(thread, _, event) if event == libc::PTRACE_EVENT_SECCOMP => {
                    let fate = match self.stop(thread)? {
                        Some(stop) if concerns(&stop, below) && !told_to_die => at(&stop)?,
                        Some(_) | None => Fate::Live,
                    };
                    match fate {
                        Fate::Live => go_on(thread, None)?,
                        Fate::Skip => {
                            answer(thread, 0)?;
                            go_on(thread, None)?;
                        }
                        Fate::Fail(errno) => {
                            answer(thread, -(errno as i64))?;
                            go_on(thread, None)?;
                        }
                        Fate::Die => {
                            told_to_die = true;
                            nix::sys::signal::kill(self.process, Signal::SIGKILL)?;
                        }
                    }
                }
                WaitStatus::PtraceEvent(thread, _, _) => go_on(thread, None)?,
                WaitStatus::Stopped(thread, signal) => go_on(thread, Some(signal))?,
                WaitStatus::Exited(process, 0) if process == self.process => return Ok(true),
                WaitStatus::Signaled(process, Signal::SIGKILL, _)
                    if process == self.process && told_to_die =>
                {
                    return Ok(false);
                }
                WaitStatus::Exited(process, _) | WaitStatus::Signaled(process, ..)
                    if process == self.process =>
                {
                    bail!("the working process failed while it was followed")
                }
                _ => {}
            }
        }
    }

    fn stop(&self, thread: Pid) -> Result<Option<Stop>> {
        let (number, arguments) = match ptrace::getregs(thread) {
            Ok(registers) => registers_of(&registers),
            // Killed in the meantime.
            Err(Errno::ESRCH) => return Ok(None),
            Err(e) => return Err(e).context("read the registers"),
        };
        let Some(call) = self.names.get(&number) else {
            return Ok(None);
        };
        let reader = Reader {
            process: self.process,
        };
        if call == "write" && arguments[0] == 1 {
            let text = reader.bytes(arguments[1], arguments[2])?;
            return Ok(Some(Stop::Tell(String::from_utf8_lossy(&text).trim().to_owned())));
        }
        let at = |list: &[(&str, usize)]| {
            list.iter()
                .find(|(name, _)| name == call)
                .map(|(_, index)| *index)
        };
        let path = if ON_FILE.contains(&call.as_str()) {
            // These two write to their second file.
            let file = if call == "copy_file_range" || call == "splice" {
                2
            } else {
                0
            };
            reader.open_file(arguments[file])
        } else if let Some(index) = at(BY_NAME_AT) {
            reader.name_in(arguments[index], arguments[index + 1])?
        } else if let Some(index) = at(BY_NAME) {
            reader.name(arguments[index])?
        } else {
            reader.name_in(arguments[1], arguments[2])?
        };
        let call = call.clone();
        Ok(Some(Stop::Call { call, path }))
    }
}

fn concerns(stop: &Stop, below: &Path) -> bool {
    match stop {
        Stop::Call { path, .. } => path.starts_with(below),
        Stop::Tell(_) => true,
    }
}

/// A thread that was killed in the meantime goes nowhere.
fn go_on(thread: Pid, signal: Option<Signal>) -> Result<()> {
    match ptrace::cont(thread, signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(e) => Err(e).context("let the followed process go on"),
    }
}

/// Reads what the arguments of a call stand for.
struct Reader {
    process: Pid,
}

impl Reader {
    fn bytes(&self, address: u64, count: u64) -> Result<Vec<u8>> {
        let memory = File::open(format!("/proc/{}/mem", self.process)).context("open the memory")?;
        let mut bytes = vec![0; usize::try_from(count.min(4096))?];
        let read = memory.read_at(&mut bytes, address).context("read the memory")?;
        bytes.truncate(read);
        Ok(bytes)
    }

    /// A null terminated string; it may end right before memory that is not there.
    fn name(&self, address: u64) -> Result<PathBuf> {
        let mut name = Vec::new();
        let page = 4096 - address % 4096;
        for (start, count) in [(address, page), (address + page, 4096)] {
            let bytes = self.bytes(start, count)?;
            if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
                name.extend(&bytes[..end]);
                break;
            }
            name.extend(bytes);
        }
        Ok(PathBuf::from(String::from_utf8_lossy(&name).into_owned()))
    }

    fn name_in(&self, directory: u64, address: u64) -> Result<PathBuf> {
        if address == 0 {
            // futimens(3) has no name.
            return Ok(self.open_file(directory));
        }
        let name = self.name(address)?;
        // Join leaves an absolute name alone.
        Ok(self.open_file(directory).join(name))
    }

    /// Empty for what is no open file, AT_FDCWD among it.
    fn open_file(&self, number: u64) -> PathBuf {
        let link = format!("/proc/{}/fd/{}", self.process, number & 0xffff_ffff);
        fs::read_link(link).unwrap_or_default()
    }
}

/// The kernel makes no call of number -1, and returns what stands in the register of the result.
#[cfg(target_arch = "x86_64")]
fn answer(thread: Pid, result: i64) -> Result<()> {
    let mut registers = ptrace::getregs(thread).context("read the registers")?;
    (registers.orig_rax, registers.rax) = (u64::MAX, result.cast_unsigned());
    ptrace::setregs(thread, registers).context("write the registers")
}

#[cfg(target_arch = "aarch64")]
fn answer(_: Pid, _: i64) -> Result<()> {
    bail!("calls can be left out on x86_64 only")
}

#[cfg(target_arch = "x86_64")]
fn registers_of(registers: &libc::user_regs_struct) -> (u64, [u64; 6]) {
    let r = registers;
    (r.orig_rax, [r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9])
}

#[cfg(target_arch = "aarch64")]
fn registers_of(registers: &libc::user_regs_struct) -> (u64, [u64; 6]) {
    let r = &registers.regs;
    (r[8], [r[0], r[1], r[2], r[3], r[4], r[5]])
}

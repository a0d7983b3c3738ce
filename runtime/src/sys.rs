//! The system calls that have no safe wrapper, and all `unsafe` code of this crate.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

use nix::unistd::Pid;

/// Propagation types of mount_setattr(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MountPropagation {
    Private,
    Slave,
    Shared,
}

fn c_path(path: &Path) -> io::Result<CString> {
    use std::os::unix::ffi::OsStrExt;
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

fn flag(value: i64) -> u32 {
    // All flags used here are bits of an unsigned 32-bit argument.
    u32::try_from(value).unwrap_or_default()
}

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    let fd = i32::try_from(check(result)?).map_err(|_| io::ErrorKind::InvalidData)?;
    // SAFETY: the kernel just gave us this descriptor and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A detached copy of the mount at `path`, open_tree(2); with what is mounted beneath if `recursive`.
pub(crate) fn clone_mount(path: &Path, recursive: bool) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let mut flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= flag(libc::AT_RECURSIVE.into());
    }
    // SAFETY: `path` is a NUL-terminated string that outlives the call.
    owned(unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) })
}

/// Sets propagation and, if asked, read-only on a detached mount, mount_setattr(2).
pub(crate) fn set_mount_attributes(
    mount: BorrowedFd<'_>,
    propagation: MountPropagation,
    read_only: bool,
    recursive: bool,
) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: if read_only { libc::MOUNT_ATTR_RDONLY } else { 0 },
        attr_clr: 0,
        propagation: match propagation {
            MountPropagation::Private => libc::MS_PRIVATE,
            MountPropagation::Slave => libc::MS_SLAVE,
            MountPropagation::Shared => libc::MS_SHARED,
        },
        userns_fd: 0,
    };
    let mut flags = flag(libc::AT_EMPTY_PATH.into());
    if recursive {
        flags |= flag(libc::AT_RECURSIVE.into());
    }
    // SAFETY: the path is a NUL-terminated constant, the structure has the size given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    check(result).map(drop)
}

/// Attaches a detached mount at what `target` stands for, move_mount(2).
pub(crate) fn attach_mount(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: both paths are NUL-terminated constants.
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            target.as_raw_fd(),
            c"".as_ptr(),
            libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH,
        )
    };
    check(result).map(drop)
}

/// Loads a compiled filter for this process and its children, seccomp(2). Needs CAP_SYS_ADMIN or
/// no_new_privs.
pub(crate) fn load_filter(program: &[u8]) -> io::Result<()> {
    const SET_MODE_FILTER: libc::c_ulong = 1;
    let mut instructions: Vec<libc::sock_filter> = program
        .chunks_exact(size_of::<libc::sock_filter>())
        .map(|i| libc::sock_filter {
            code: u16::from_ne_bytes([i[0], i[1]]),
            jt: i[2],
            jf: i[3],
            k: u32::from_ne_bytes([i[4], i[5], i[6], i[7]]),
        })
        .collect();
    let filter = libc::sock_fprog {
        len: u16::try_from(instructions.len()).map_err(|_| io::ErrorKind::InvalidData)?,
        filter: instructions.as_mut_ptr(),
    };
    // SAFETY: `filter` points to `len` instructions that outlive the call; the kernel copies them.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            SET_MODE_FILTER,
            0 as libc::c_ulong,
            &raw const filter,
        )
    };
    check(result).map(drop)
}

/// A descriptor that stands for a process, pidfd_open(2).
pub(crate) fn pidfd(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: no pointers are passed.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) })
}

/// Forks; the program is single-threaded, so the child may go on as usual.
pub(crate) fn fork() -> io::Result<nix::unistd::ForkResult> {
    // SAFETY: node-run has one thread, so no lock can be held by another one.
    unsafe { nix::unistd::fork() }.map_err(Into::into)
}

/// Owns a descriptor that a wrapper of nix opened for us and returned as a number.
pub(crate) fn own(fd: std::os::fd::RawFd) -> OwnedFd {
    // SAFETY: the callers pass what openat2(2) just returned; nobody else has it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// A file over a descriptor that somebody else owns; the caller must not drop it.
pub(crate) fn file(fd: std::os::fd::RawFd) -> std::fs::File {
    // SAFETY: the descriptor is open for as long as the workload exists, and the caller wraps the
    // file in ManuallyDrop, so it is not closed here.
    unsafe { std::fs::File::from_raw_fd(fd) }
}

/// Sets what this process does on a signal.
pub(crate) fn set_handler(signal: nix::sys::signal::Signal, to: nix::sys::signal::SigHandler) {
    // SAFETY: the callers pass only `SigIgn` and `SigDfl`, which run no code of ours. It cannot fail:
    // the signal is a valid one that may be ignored.
    let _ = unsafe { nix::sys::signal::signal(signal, to) };
}

/// Has the kernel kill this process when a pipe becomes readable or loses its last writer, fcntl(2)
/// F_SETSIG.
pub(crate) fn kill_when_readable(pipe: std::os::fd::RawFd) -> nix::Result<()> {
    use nix::errno::Errno;
    // <asm-generic/fcntl.h>; the libc crate lacks it for this target.
    const F_SETSIG: libc::c_int = 10;
    // SAFETY: these commands take plain numbers; a bad descriptor is reported as an error.
    let results = unsafe {
        [
            libc::fcntl(pipe, libc::F_SETOWN, libc::getpid()),
            libc::fcntl(pipe, F_SETSIG, libc::SIGKILL),
            libc::fcntl(pipe, libc::F_SETFL, libc::O_ASYNC | libc::O_NONBLOCK),
        ]
    };
    results
        .into_iter()
        .try_for_each(|result| Errno::result(result).map(drop))
}

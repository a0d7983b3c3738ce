//! Telling systemd what happens, sd_notify(3).

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
use nix::unistd::{Pid, pipe2};
use sd_notify::NotifyState;

use super::StartError;

/// Hands the unit over to its main process and waits until systemd has seen it. Only then may the
/// process run: if it ended before, systemd would refuse it as main process and take node-run's own
/// exit status, success, for the service's.
pub(super) fn hand_over(main: Pid) -> Result<(), StartError> {
    let failed = StartError::call("tell systemd the main process");
    let pid = u32::try_from(main.as_raw()).unwrap_or_default();
    match sd_notify::notify(&[NotifyState::MainPid(pid)]).and_then(|()| barrier()) {
        Ok(()) => Ok(()),
        Err(e) => Err(failed(e)),
    }
}

/// Waits until systemd has processed all messages so far: it closes its end of the pipe then.
fn barrier() -> io::Result<()> {
    const PATIENCE: Duration = Duration::from_secs(30);
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET").map(PathBuf::from) else {
        return Ok(());
    };
    let (read, write): (OwnedFd, OwnedFd) = pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    send_barrier(&socket, &write)?;
    drop(write);
    let timeout = PollTimeout::try_from(PATIENCE).unwrap_or(PollTimeout::MAX);
    loop {
        match poll(&mut [PollFd::new(read.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in 30 s")),
            Ok(_) => return Ok(()),
            Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// The message has to hold nothing else and exactly one descriptor.
fn send_barrier(socket: &Path, write: &OwnedFd) -> io::Result<()> {
    let own = UnixDatagram::unbound()?;
    let text = [io::IoSlice::new(b"BARRIER=1")];
    let descriptors = [write.as_raw_fd()];
    let control = [ControlMessage::ScmRights(&descriptors)];
    let to = UnixAddr::new(socket)?;
    sendmsg(
        own.as_raw_fd(),
        &text,
        &control,
        MsgFlags::MSG_NOSIGNAL,
        Some(&to),
    )?;
    Ok(())
}

/// The service is ready.
pub(super) fn ready() -> Result<(), StartError> {
    sd_notify::notify(&[NotifyState::Ready]).map_err(StartError::call("tell systemd READY=1"))
}

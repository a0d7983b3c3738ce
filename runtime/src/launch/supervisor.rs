//! Telling systemd what happens, sd_notify(3). The socket is connected while its path is still in
//! sight.

use std::ffi::OsString;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::unistd::{Pid, pipe2};

use super::StartError;

/// How long systemd may take to process what it was told.
const PATIENCE: Duration = Duration::from_secs(30);

/// The supervisor of this process, if it has one.
pub(super) struct Supervisor(Option<UnixDatagram>);

impl Supervisor {
    /// Connects to `$NOTIFY_SOCKET`; without one nobody wants to be told.
    pub(super) fn connect(address: Option<OsString>) -> Result<Self, StartError> {
        let Some(address) = address else {
            return Ok(Self(None));
        };
        let connect = || -> io::Result<UnixDatagram> {
            let to = match address.as_bytes().strip_prefix(b"@") {
                Some(name) => SocketAddr::from_abstract_name(name)?,
                None => SocketAddr::from_pathname(&address)?,
            };
            let socket = UnixDatagram::unbound()?;
            socket.connect_addr(&to)?;
            Ok(socket)
        };
        connect()
            .map(|socket| Self(Some(socket)))
            .map_err(StartError::path("connect to", &address))
    }

    /// Hands the unit over to its main process and waits until systemd has seen it. Only then may
    /// the process run: if it ended before, systemd would refuse it as main process and take
    /// node-run's own exit status, success, for the service's.
    pub(super) fn hand_over(&self, main: Pid) -> Result<(), StartError> {
        self.tell(&format!("MAINPID={main}"))
            .and_then(|()| self.barrier())
            .map_err(StartError::call("tell systemd the main process"))
    }

    /// The service is ready.
    pub(super) fn ready(&self) -> Result<(), StartError> {
        self.tell("READY=1")
            .map_err(StartError::call("tell systemd READY=1"))
    }

    fn tell(&self, message: &str) -> io::Result<()> {
        match &self.0 {
            Some(socket) => socket.send(message.as_bytes()).map(drop),
            None => Ok(()),
        }
    }

    /// Waits until systemd has processed all messages so far: it closes its end of a pipe then. The
    /// message has to hold nothing else and exactly one descriptor.
    fn barrier(&self) -> io::Result<()> {
        let Some(socket) = &self.0 else { return Ok(()) };
        let (read, write): (OwnedFd, OwnedFd) = pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        let descriptors = [write.as_raw_fd()];
        let control = [ControlMessage::ScmRights(&descriptors)];
        let text = [IoSlice::new(b"BARRIER=1")];
        sendmsg::<()>(socket.as_raw_fd(), &text, &control, MsgFlags::MSG_NOSIGNAL, None)?;
        drop(write);
        let timeout = PollTimeout::try_from(PATIENCE).unwrap_or(PollTimeout::MAX);
        loop {
            match poll(&mut [PollFd::new(read.as_fd(), PollFlags::POLLIN)], timeout) {
                Ok(0) => return Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in 30 s")),
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}

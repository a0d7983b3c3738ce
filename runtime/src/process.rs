//! Facts about processes, and ending one.

use std::io;
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::sys;

/// When a process started, in clock ticks since boot (field 22 of proc_pid_stat(5)). With its pid
/// this names it for good.
///
/// # Errors
/// There is no such process.
pub fn started_at_ticks(pid: i32) -> io::Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The command in field 2 may hold spaces and parentheses; field 3 follows the last one.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let field = rest
        .split_ascii_whitespace()
        .nth(19)
        .and_then(|ticks| ticks.parse().ok());
    field.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no start time in it"))
}

/// Asks a process to end, and ends it if it has not after five seconds.
pub(crate) fn end(pid: Pid) {
    const PATIENCE_MILLISECONDS: u16 = 5000;
    let Ok(process) = sys::pidfd(pid) else { return };
    // Each of these fails only if the process is gone, which is the aim.
    let _ = kill(pid, Signal::SIGTERM);
    let ended = poll(
        &mut [PollFd::new(process.as_fd(), PollFlags::POLLIN)],
        PATIENCE_MILLISECONDS,
    );
    if ended != Ok(1) {
        let _ = kill(pid, Signal::SIGKILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_is_of_the_process() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(started_at_ticks(own).unwrap() > started_at_ticks(1).unwrap());
        assert_eq!(
            started_at_ticks(i32::MAX).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }
}

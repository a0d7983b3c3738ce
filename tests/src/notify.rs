//! The receiving end of sd_notify(3): how a machine's supervisor tells that it is up, or has ended.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// What a supervisor has said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The machine's systemd has finished its boot.
    Ready,
    /// The supervisor is gone; the machine is off. Carries what it said about the reason.
    Ended(String),
}

/// A bound notification socket.
#[derive(Debug)]
pub struct Listener(UnixDatagram);

impl Listener {
    /// Binds the socket, taking the place of an earlier listener's.
    ///
    /// # Errors
    /// The socket cannot be bound.
    pub fn bind(path: &Path) -> Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("remove {}", path.display()));
            }
            Ok(()) | Err(_) => {}
        }
        let socket = UnixDatagram::bind(path).with_context(|| format!("bind {}", path.display()))?;
        Ok(Self(socket))
    }

    /// Waits for the next event.
    ///
    /// # Errors
    /// Nothing was said before the deadline.
    pub fn next(&self, deadline: Instant) -> Result<Event> {
        let mut buffer = [0; 4096];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("nothing heard from the machine before the deadline");
            }
            self.0
                .set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
            match self.0.recv(&mut buffer) {
                Ok(length) => {
                    if let Some(event) = parse(&String::from_utf8_lossy(&buffer[..length])) {
                        return Ok(event);
                    }
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => return Err(error).context("receive a notification"),
            }
        }
    }
}

fn parse(message: &str) -> Option<Event> {
    message.lines().find_map(|line| match line.split_once('=')? {
        ("READY", "1") => Some(Event::Ready),
        ("X_ENDED", why) => Some(Event::Ended(why.to_owned())),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_two_events_count() {
        assert_eq!(parse("X_NSPAWN_LEADER_PID=12\nSTATUS=Booting"), None);
        assert_eq!(parse("READY=1\nSTATUS=up"), Some(Event::Ready));
        assert_eq!(parse("X_ENDED=exit 1"), Some(Event::Ended("exit 1".to_owned())));
        assert_eq!(parse("READY=0"), None);
    }

    #[test]
    fn silence_ends_at_the_deadline() {
        let directory = tempfile::tempdir().unwrap();
        let listener = Listener::bind(&directory.path().join("notify")).unwrap();
        let began = Instant::now();
        assert!(listener.next(began + Duration::from_millis(20)).is_err());
        assert!(began.elapsed() < Duration::from_secs(5));
    }
}

//! A line of progress for work that takes longer than a glance.

use std::io::Write;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_secs(2);
const EVERY: Duration = Duration::from_secs(5);

/// Work under way. Tells on standard error, after two seconds and then every five, what it is doing.
#[derive(Debug)]
pub struct Progress {
    began: Instant,
    detail: Arc<Mutex<String>>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    /// Starts the clock.
    pub fn start() -> Self {
        let began = Instant::now();
        let detail = Arc::new(Mutex::new(String::new()));
        let (stop, stopped) = channel();
        let shared = Arc::clone(&detail);
        let thread = std::thread::spawn(move || {
            let mut wait = FIRST;
            while stopped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                let text = shared.lock().unwrap_or_else(PoisonError::into_inner).clone();
                report(began.elapsed(), &text);
                wait = EVERY;
            }
        });
        Self {
            began,
            detail,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Says what is being done now; shown at the next beat.
    pub fn say(&self, detail: impl Into<String>) {
        *self.detail.lock().unwrap_or_else(PoisonError::into_inner) = detail.into();
    }

    /// Prints a line at once.
    pub fn note(&self, text: &str) {
        report(self.elapsed(), text);
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the reporting thread has been printed already and changes nothing here.
            drop(thread.join());
        }
    }
}

fn report(elapsed: Duration, detail: &str) {
    let detail: String = detail.chars().filter(|c| !c.is_control()).take(160).collect();
    let mut out = std::io::stderr().lock();
    // Nothing can be said about a closed standard error.
    drop(writeln!(out, "   … {:>4.0} s  {detail}", elapsed.as_secs_f64()));
}

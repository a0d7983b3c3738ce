//! A line of progress for work that takes longer than a glance.

use std::io::Write;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_secs(2);
const EVERY: Duration = Duration::from_secs(5);

type Detail = Arc<Mutex<String>>;

/// Work under way. Tells on standard error, after two seconds and then every five, what it is doing.
#[derive(Debug)]
pub struct Progress {
    began: Instant,
    detail: Detail,
    /// What the reporting thread reads: the own detail, or that of work it waits for.
    shown: Arc<Mutex<Detail>>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    /// Starts the clock.
    pub fn start() -> Self {
        let mut progress = Self::quiet();
        let (stop, stopped) = channel();
        let (began, shown) = (progress.began, Arc::clone(&progress.shown));
        progress.stop = Some(stop);
        progress.thread = Some(std::thread::spawn(move || {
            let mut wait = FIRST;
            while stopped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                let detail = Arc::clone(&locked(&shown));
                let text = locked(&detail).clone();
                report(began.elapsed(), &text);
                wait = EVERY;
            }
        }));
        progress
    }

    /// Work in the background, which tells nothing until somebody waits for it: see [`Progress::follow`].
    pub fn quiet() -> Self {
        let detail = Detail::default();
        let shown = Arc::new(Mutex::new(Arc::clone(&detail)));
        Self {
            began: Instant::now(),
            detail,
            shown,
            stop: None,
            thread: None,
        }
    }

    /// From now on tells what `other` is doing.
    pub fn follow(&self, other: &Self) {
        *locked(&self.shown) = Arc::clone(&other.detail);
    }

    /// Says what is being done now; shown at the next beat.
    pub fn say(&self, detail: impl Into<String>) {
        *locked(&self.detail) = detail.into();
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

/// A text stays readable whatever became of the thread that wrote it.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn report(elapsed: Duration, detail: &str) {
    let detail: String = detail.chars().filter(|c| !c.is_control()).take(160).collect();
    let mut out = std::io::stderr().lock();
    // Nothing can be said about a closed standard error.
    drop(writeln!(out, "   … {:>4.0} s  {detail}", elapsed.as_secs_f64()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_follower_shows_what_the_other_does() {
        let (waiting, background) = (Progress::quiet(), Progress::quiet());
        waiting.say("waiting");
        background.say("building");
        assert_eq!(*locked(&locked(&waiting.shown)), "waiting");
        waiting.follow(&background);
        background.say("booting");
        assert_eq!(*locked(&locked(&waiting.shown)), "booting");
    }
}

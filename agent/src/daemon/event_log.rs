//! The events of all operations since the daemon started: numbered, bounded, replayable.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::api::{Event, EventKind};

/// Events kept for those who ask later; about two upgrades of a large node.
const CAPACITY: usize = 4096;
/// Least time between two reports of progress on the same item.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// The events since the daemon started.
#[derive(Debug)]
pub struct EventLog {
    inner: Mutex<Inner>,
    newest: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Inner {
    events: VecDeque<Event>,
    last: u64,
    progress: HashMap<String, Instant>,
}

impl Default for EventLog {
    fn default() -> Self {
        Self {
            inner: Mutex::default(),
            newest: watch::Sender::new(0),
        }
    }
}

impl EventLog {
    /// Numbers an event and keeps it. Progress that says little more than the last report is dropped, so that a fast
    /// download does not flood the bus.
    pub fn push(&self, mut event: Event) {
        let newest = {
            let mut inner = self.lock();
            if inner.is_too_soon(&event.kind, Instant::now()) {
                return;
            }
            inner.last += 1;
            event.seq = inner.last;
            if inner.events.len() == CAPACITY {
                inner.events.pop_front();
            }
            inner.events.push_back(event);
            inner.last
        };
        self.newest.send_replace(newest);
    }

    /// Number of the newest event; 0 before the first.
    pub fn last(&self) -> u64 {
        self.lock().last
    }

    /// Events with a higher number, oldest first.
    pub fn since(&self, seq: u64) -> Vec<Event> {
        let inner = self.lock();
        let known = inner.events.partition_point(|event| event.seq <= seq);
        inner.events.range(known..).cloned().collect()
    }

    /// Wakes when there are new events.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change is complete before the lock is released, also in a thread that panics later.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn is_too_soon(&mut self, kind: &EventKind, now: Instant) -> bool {
        let EventKind::Progress { item, done, total } = kind else {
            if matches!(kind, EventKind::Begin { .. } | EventKind::End { .. }) {
                self.progress.clear();
            }
            return false;
        };
        if *total == Some(*done) {
            self.progress.remove(item);
            return false;
        }
        match self.progress.get(item) {
            Some(last) if now.duration_since(*last) < PROGRESS_INTERVAL => true,
            Some(_) | None => {
                self.progress.insert(item.clone(), now);
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Phase;

    fn event(kind: EventKind) -> Event {
        Event {
            seq: 0,
            time: jiff::Timestamp::UNIX_EPOCH,
            phase: Phase::Idle,
            kind,
        }
    }

    fn note(text: &str) -> Event {
        event(EventKind::Note { message: text.into() })
    }

    fn progress(done: u64) -> Event {
        event(EventKind::Progress {
            item: "layer".into(),
            done,
            total: Some(100),
        })
    }

    #[test]
    fn events_are_numbered_without_gaps_and_replayed_from_any_number() {
        let log = EventLog::default();
        assert_eq!(log.last(), 0);
        for text in ["a", "b", "c"] {
            log.push(note(text));
        }
        let seqs = |since| log.since(since).iter().map(|event| event.seq).collect::<Vec<_>>();
        assert_eq!(seqs(0), [1, 2, 3]);
        assert_eq!(seqs(2), [3]);
        assert!(seqs(3).is_empty());
        assert!(seqs(99).is_empty());
    }

    #[test]
    fn only_the_newest_events_are_kept() {
        let log = EventLog::default();
        for _ in 0..CAPACITY + 10 {
            log.push(note("x"));
        }
        let events = log.since(0);
        assert_eq!(events.len(), CAPACITY);
        assert_eq!(events[0].seq, 11);
    }

    #[test]
    fn progress_is_thinned_out_but_its_end_is_told() {
        let log = EventLog::default();
        for done in [1, 2, 3, 100] {
            log.push(progress(done));
        }
        let told: Vec<_> = log
            .since(0)
            .into_iter()
            .map(|event| match event.kind {
                EventKind::Progress { done, .. } => done,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(told, [1, 100]);
    }

    #[test]
    fn a_subscriber_learns_of_new_events() {
        let log = EventLog::default();
        let mut newest = log.subscribe();
        newest.mark_unchanged();
        log.push(note("a"));
        assert!(newest.has_changed().unwrap());
        assert_eq!(*newest.borrow_and_update(), 1);
    }
}

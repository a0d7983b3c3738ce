//! Events of an operation on their way to whoever watches.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::api::{Event, EventKind, Phase};
use crate::ports::Clock;

/// Where the events of an operation go, in order. Must not block for long.
pub type EventSink = Arc<dyn Fn(Event) + Send + Sync>;

/// A sink for callers that do not watch.
pub fn silent() -> EventSink {
    Arc::new(|_| {})
}

/// Numbers events and stamps them with time and phase.
pub struct Reporter {
    sink: EventSink,
    clock: Arc<dyn Clock>,
    seq: AtomicU64,
    phase: Mutex<Phase>,
}

impl std::fmt::Debug for Reporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reporter")
            .field("seq", &self.seq)
            .finish_non_exhaustive()
    }
}

impl Reporter {
    /// A reporter whose first event has number 1.
    pub fn new(sink: EventSink, clock: Arc<dyn Clock>) -> Self {
        Reporter {
            sink,
            clock,
            seq: AtomicU64::new(0),
            phase: Mutex::new(Phase::Idle),
        }
    }

    /// Tells that the transaction entered a phase.
    pub fn enter(&self, phase: Phase) {
        let before = std::mem::replace(
            &mut *self.phase.lock().unwrap_or_else(PoisonError::into_inner),
            phase,
        );
        if before != phase {
            self.tell(EventKind::Entered);
        }
    }

    /// Tells anything.
    pub fn tell(&self, kind: EventKind) {
        let phase = *self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        let seq = self.seq.fetch_add(1, Ordering::SeqCst) + 1;
        (self.sink)(Event {
            seq,
            time: self.clock.now(),
            phase,
            kind,
        });
    }

    /// Tells what the operator should know.
    pub fn warn(&self, message: impl Into<String>) {
        self.tell(EventKind::Warning {
            message: message.into(),
        });
    }

    /// Tells what happens to a service.
    pub fn service(&self, service: &str, step: &str) {
        self.tell(EventKind::Service {
            service: service.into(),
            step: step.into(),
        });
    }
}

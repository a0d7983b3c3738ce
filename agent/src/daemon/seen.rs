//! Which events a follower has seen: what is replayed and what is signalled overlap.

/// The newest event that was seen, and of which daemon.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Seen {
    last: u64,
    daemon: Option<String>,
}

impl Seen {
    /// Everything up to a number.
    pub(super) fn up_to(last: u64) -> Self {
        Self { last, daemon: None }
    }

    /// The newest number.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Whether an event is new, and takes note of it. A daemon that was started again has another unique name on the bus
    /// and counts from 1 again.
    pub(super) fn is_new(&mut self, daemon: Option<String>, seq: u64) -> bool {
        if self.daemon.is_some() && self.daemon != daemon {
            self.last = 0;
        }
        self.daemon = daemon;
        let new = seq > self.last;
        self.last = self.last.max(seq);
        new
    }
}

#[cfg(test)]
mod tests {
    use super::Seen;

    #[test]
    fn an_event_is_new_once_and_a_new_daemon_counts_anew() {
        let mut seen = Seen::up_to(3);
        let daemon = |name: &str| Some(name.to_owned());
        let story = [
            (":1.1", 2, false),
            (":1.1", 3, false),
            (":1.1", 4, true),
            (":1.1", 4, false),
            (":1.2", 1, true),
            (":1.2", 1, false),
            (":1.2", 2, true),
        ];
        for (name, seq, new) in story {
            assert_eq!(seen.is_new(daemon(name), seq), new, "{name} {seq}");
        }
        assert_eq!(seen.last(), 2);
    }

    #[test]
    fn without_a_bus_there_is_one_daemon() {
        let mut seen = Seen::default();
        assert!(seen.is_new(None, 1));
        assert!(!seen.is_new(None, 1));
        assert!(seen.is_new(None, 2));
    }
}

//! What a long operation tells while it runs. Events are facts with numbers; how they look is for
//! the reader (a terminal, D-Bus, JSON lines) to decide.

use serde::Serialize;

use crate::digest::Digest;

/// One thing that happened. Byte counts are of compressed bytes as transferred.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The plan is known.
    Planned {
        /// Images that are not in the store.
        images: u64,
        /// Layers that are not in the store.
        layers: u64,
        /// Bytes still to fetch.
        bytes: u64,
    },
    /// A layer's transfer begins.
    LayerStarted {
        /// The compressed blob.
        blob: Digest,
        /// Its size in bytes.
        size: u64,
        /// Bytes of it that an earlier attempt left behind.
        resumed: u64,
    },
    /// More of a layer has arrived. Sent at most about once per megabyte.
    LayerProgress {
        /// The compressed blob.
        blob: Digest,
        /// Bytes of it so far.
        bytes: u64,
    },
    /// A transfer broke and is taken up again.
    Retrying {
        /// What is asked for again.
        what: String,
        /// Why, in one line.
        reason: String,
        /// How long the pause before it is, in milliseconds.
        pause_ms: u64,
    },
    /// A layer is unpacked and its digests are right.
    LayerDone {
        /// The compressed blob.
        blob: Digest,
    },
    /// An image's tree is complete.
    ImageDone {
        /// Its manifest.
        manifest: Digest,
    },
    /// Everything is being made durable.
    Committing,
}

/// Takes events. Called from several threads; must not block for long.
pub trait Progress: Send + Sync {
    /// Takes one event.
    fn event(&self, event: Event);
}

/// Takes no interest.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _event: Event) {}
}

impl<F: Fn(Event) + Send + Sync> Progress for F {
    fn event(&self, event: Event) {
        self(event);
    }
}

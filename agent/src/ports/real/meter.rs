//! Adds up the progress of the layers of a pull.

use std::collections::BTreeMap;

use node_images::digest::Digest;
use node_images::progress::Event;

use crate::ports::Progress;

/// The sum over all layers.
#[derive(Debug, Default)]
pub(super) struct Meter {
    total: u64,
    layers: BTreeMap<Digest, (u64, u64)>,
}

impl Meter {
    /// Takes an event of the pull, and tells how far all of it is.
    pub fn hear(&mut self, event: &Event, progress: Progress<'_>) {
        match event {
            Event::Planned { bytes, .. } => self.total = *bytes,
            Event::LayerStarted { blob, size, resumed } => {
                self.layers.insert(*blob, (*resumed, *size));
            }
            Event::LayerProgress { blob, bytes } => {
                if let Some((done, _)) = self.layers.get_mut(blob) {
                    *done = *bytes;
                }
            }
            Event::LayerDone { blob } => {
                if let Some((done, size)) = self.layers.get_mut(blob) {
                    *done = *size;
                }
            }
            Event::Retrying { what, reason, .. } => {
                return progress(
                    &format!("{what}: {reason}, trying again"),
                    self.done(),
                    Some(self.total),
                );
            }
            Event::ImageDone { .. } => {}
            Event::Committing => return progress("making it durable", self.total, Some(self.total)),
        }
        progress("images", self.done(), Some(self.total));
    }

    fn done(&self) -> u64 {
        self.layers.values().map(|(done, _)| done).sum()
    }
}

//! Importing a layer in two threads: one reads (and so decompresses) and hashes, the other unpacks.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use crate::digest::{Digest, Hasher};
use crate::error::ImportError;
use crate::layer::{self, LayerIndex, ObjectSink, Policy};

/// Size of a piece, and how many may wait: what an import holds of the stream at most is 2 MiB.
const PIECE: usize = 256 << 10;
const WAITING: usize = 6;

/// A layer that is what it was asked to be.
pub(super) struct Imported {
    pub index: LayerIndex,
    pub archive_bytes: u64,
}

/// Imports the archive `tar` and checks its digest.
pub(super) fn import(
    tar: impl Read + Send,
    diff_id: &Digest,
    policy: &Policy,
    sink: &(dyn ObjectSink + Sync),
) -> Result<Imported, ImportError> {
    let limit = policy.limits.unpacked_bytes;
    let (sender, receiver) = sync_channel(WAITING);
    let (result, pumped) = thread::scope(|scope| {
        let pump = scope.spawn(move || pump(tar, limit, &sender));
        let mut pieces = Pieces::new(receiver);
        let result = layer::import(&mut pieces, diff_id, policy, sink);
        let drained = match &result {
            // What is broken may be broken because it is not the layer that was asked for: say that first.
            Ok(_) | Err(ImportError::Malformed { .. } | ImportError::Entry { .. }) => pieces.drain(),
            Err(_) => Ok(()),
        };
        drop(pieces);
        let result = match drained {
            Ok(()) => result,
            Err(source) => Err(ImportError::Read {
                diff_id: *diff_id,
                source,
            }),
        };
        (result, pump.join())
    });
    let pumped = match pumped {
        Ok(pumped) => pumped,
        Err(panic) => std::panic::resume_unwind(panic),
    };
    match pumped.end {
        End::OverLimit => Err(ImportError::Limit {
            diff_id: *diff_id,
            what: "bytes",
            limit,
        }),
        End::Whole if pumped.digest != *diff_id => Err(ImportError::Digest {
            expected: *diff_id,
            actual: pumped.digest,
        }),
        End::Whole | End::Broken | End::Unwanted => Ok(Imported {
            index: result?,
            archive_bytes: pumped.bytes,
        }),
    }
}

/// How the reading thread ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// At the end of the stream.
    Whole,
    /// The stream failed; the other side was told.
    Broken,
    /// The other side had enough.
    Unwanted,
    /// There was more than the policy allows.
    OverLimit,
}

struct Pumped {
    digest: Digest,
    bytes: u64,
    end: End,
}

fn pump(mut tar: impl Read, limit: u64, sender: &SyncSender<io::Result<Vec<u8>>>) -> Pumped {
    let mut hasher = Hasher::new();
    let mut bytes = 0;
    let end = loop {
        let mut piece = Vec::with_capacity(PIECE);
        match tar.by_ref().take(PIECE as u64).read_to_end(&mut piece) {
            Ok(0) => break End::Whole,
            Ok(n) => bytes += n as u64,
            Err(error) => {
                // If nobody listens any more, the other side failed first and has the error that matters.
                let _ = sender.send(Err(error));
                break End::Broken;
            }
        }
        if bytes > limit {
            let _ = sender.send(Err(io::ErrorKind::FileTooLarge.into()));
            break End::OverLimit;
        }
        hasher.update(&piece);
        if sender.send(Ok(piece)).is_err() {
            break End::Unwanted;
        }
    };
    Pumped {
        digest: hasher.finish(),
        bytes,
        end,
    }
}

/// The stream as the unpacking thread sees it.
struct Pieces {
    receiver: Receiver<io::Result<Vec<u8>>>,
    piece: Vec<u8>,
    used: usize,
}

impl Pieces {
    fn new(receiver: Receiver<io::Result<Vec<u8>>>) -> Self {
        Self {
            receiver,
            piece: Vec::new(),
            used: 0,
        }
    }

    /// Reads to the end, so that the digest is known.
    fn drain(&mut self) -> io::Result<()> {
        for piece in &self.receiver {
            piece?;
        }
        Ok(())
    }
}

impl Read for Pieces {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.used == self.piece.len() {
            match self.receiver.recv() {
                Ok(piece) => self.piece = piece?,
                Err(_) => return Ok(0),
            }
            self.used = 0;
        }
        let rest = &self.piece[self.used..];
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        self.used += n;
        Ok(n)
    }
}

//! From a channel of compressed chunks to a reader of the uncompressed layer.

use std::io::{self, BufRead, Read};

use bytes::{Buf, Bytes};
use flate2::bufread::MultiGzDecoder;
use tokio::sync::mpsc;

/// Largest zstd window, as a power of two: 8 MiB, what level 19 uses. Larger ones (`--long`,
/// `--ultra`) would break the promise about memory and are refused by the decoder.
const ZSTD_WINDOW_LOG: u32 = 23;

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// By media type (image-spec `layer.md`, and Docker's names).
    pub fn of(media_type: &str) -> Option<Self> {
        match media_type {
            "application/vnd.oci.image.layer.v1.tar"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar"
            | "application/vnd.docker.image.rootfs.diff.tar" => Some(Compression::None),
            "application/vnd.oci.image.layer.v1.tar+gzip"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
            | "application/vnd.docker.image.rootfs.diff.tar.gzip" => Some(Compression::Gzip),
            "application/vnd.oci.image.layer.v1.tar+zstd"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"
            | "application/vnd.docker.image.rootfs.diff.tar.zstd" => Some(Compression::Zstd),
            _ => None,
        }
    }

    /// A reader of the uncompressed bytes.
    pub fn reader(self, chunks: ChunkReader) -> io::Result<Box<dyn Read + Send>> {
        match self {
            Compression::None => Ok(Box::new(chunks)),
            Compression::Gzip => Ok(Box::new(MultiGzDecoder::new(chunks))),
            Compression::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(chunks)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                Ok(Box::new(decoder))
            }
        }
    }
}

/// Reads what is sent into a channel. An error in the channel is an error of the reader; the end of
/// the channel without [`End`] before it is one too, so that a feeder that dies is never mistaken for
/// the end of the layer.
pub(super) struct ChunkReader {
    chunks: mpsc::Receiver<Chunk>,
    current: Bytes,
    ended: bool,
}

/// What goes through the channel.
pub(super) enum Chunk {
    Bytes(Bytes),
    /// All bytes have come and their digest is right.
    End,
    Failed(io::Error),
}

impl ChunkReader {
    pub fn new(chunks: mpsc::Receiver<Chunk>) -> Self {
        ChunkReader {
            chunks,
            current: Bytes::new(),
            ended: false,
        }
    }
}

impl BufRead for ChunkReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() && !self.ended {
            match self.chunks.blocking_recv() {
                Some(Chunk::Bytes(bytes)) => self.current = bytes,
                Some(Chunk::End) => self.ended = true,
                Some(Chunk::Failed(error)) => return Err(error),
                None => {
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "the transfer stopped",
                    ));
                }
            }
        }
        Ok(&self.current)
    }

    fn consume(&mut self, amount: usize) {
        self.current.advance(amount);
    }
}

impl Read for ChunkReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let amount = available.len().min(buffer.len());
        buffer[..amount].copy_from_slice(&available[..amount]);
        self.consume(amount);
        Ok(amount)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn through(compression: Compression, chunks: Vec<Chunk>) -> io::Result<Vec<u8>> {
        let (sender, receiver) = mpsc::channel(chunks.len().max(1));
        for chunk in chunks {
            sender.try_send(chunk).unwrap_or_else(|_| panic!("there is room"));
        }
        drop(sender);
        let mut bytes = Vec::new();
        compression
            .reader(ChunkReader::new(receiver))?
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn pieces(bytes: &[u8]) -> Vec<Chunk> {
        let chunks = bytes
            .chunks(7)
            .map(|piece| Chunk::Bytes(Bytes::copy_from_slice(piece)));
        chunks.chain([Chunk::End]).collect()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).expect("compressed");
        encoder.finish().expect("compressed")
    }

    #[test]
    fn every_compression_comes_back() {
        let text = b"layer ".repeat(1000);
        let zstd = zstd::encode_all(&text[..], 3).expect("compressed");
        for (compression, bytes) in [
            (Compression::None, text.clone()),
            (Compression::Gzip, gzip(&text)),
            (Compression::Zstd, zstd),
        ] {
            assert_eq!(
                through(compression, pieces(&bytes)).expect("read"),
                text,
                "{compression:?}"
            );
        }
    }

    #[test]
    fn gzip_in_several_members_is_one_layer() {
        let both = [gzip(b"one "), gzip(b"two")].concat();
        assert_eq!(
            through(Compression::Gzip, pieces(&both)).expect("read"),
            b"one two"
        );
    }

    #[test]
    fn a_feeder_that_stops_is_no_end() {
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let mut chunks = pieces(&gzip(b"x"));
            chunks.pop();
            through(compression, chunks).expect_err("no end");
        }
        let failed = vec![Chunk::Failed(io::Error::other("reset"))];
        assert_eq!(
            through(Compression::None, failed)
                .expect_err("failed")
                .to_string(),
            "reset"
        );
    }

    #[test]
    fn a_huge_zstd_window_is_refused() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).expect("encoder");
        encoder.window_log(27).expect("window");
        encoder.long_distance_matching(true).expect("long");
        encoder.write_all(&vec![7u8; 1 << 20]).expect("compressed");
        let bytes = encoder.finish().expect("compressed");
        through(Compression::Zstd, pieces(&bytes)).expect_err("refused");
    }
}

//! Compresses a layer while it is written, and says what came out.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use zstd::stream::write::Encoder;

use super::definition::Compression;
use super::tarball;
use super::tree::Tree;
use crate::digest::{Digest, HashingWriter};

/// Compression level of gzip.
const GZIP_LEVEL: u32 = 6;
/// Compression level of Zstandard: as small as gzip's best at several times its speed.
const ZSTD_LEVEL: i32 = 9;

/// One layer: what a manifest and an image configuration say about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Media type of the blob.
    pub media_type: String,
    /// Digest of the blob.
    pub digest: Digest,
    /// Size of the blob in bytes.
    pub size: u64,
    /// Digest of the uncompressed tar.
    pub diff_id: Digest,
    /// Size of the uncompressed tar in bytes.
    pub unpacked: u64,
}

/// Writes `tree`, with contents from the tar file `contents`, as a compressed layer to `out`.
///
/// # Errors
/// Those of reading and writing.
pub fn write_layer(tree: &Tree, contents: &File, compression: Compression, out: &File) -> io::Result<Layer> {
    let blob = HashingWriter::new(BufWriter::with_capacity(1 << 18, out));
    let (media_type, diff_id, unpacked, blob) = match compression {
        Compression::Gzip => {
            let encoder = GzEncoder::new(blob, flate2::Compression::new(GZIP_LEVEL));
            let (diff_id, unpacked, encoder) = write_tar(tree, contents, encoder)?;
            ("gzip", diff_id, unpacked, encoder.finish()?)
        }
        Compression::Zstd => {
            let mut encoder = Encoder::new(blob, ZSTD_LEVEL)?;
            encoder.include_checksum(true)?;
            let (diff_id, unpacked, encoder) = write_tar(tree, contents, encoder)?;
            ("zstd", diff_id, unpacked, encoder.finish()?)
        }
    };
    let (digest, size, mut writer) = blob.finish();
    writer.flush()?;
    Ok(Layer {
        media_type: format!("application/vnd.oci.image.layer.v1.tar+{media_type}"),
        digest,
        size,
        diff_id,
        unpacked,
    })
}

fn write_tar<W: Write>(tree: &Tree, contents: &File, encoder: W) -> io::Result<(Digest, u64, W)> {
    let buffered = BufWriter::with_capacity(1 << 18, HashingWriter::new(encoder));
    let buffered = tarball::write(tree, contents, buffered)?;
    let writer = buffered.into_inner().map_err(io::IntoInnerError::into_error)?;
    Ok(writer.finish())
}

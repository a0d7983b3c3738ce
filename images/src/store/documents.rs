//! Reading and writing the store's JSON documents: layer indexes and image records.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::layout::Layout;
use super::record::{ImageRecord, RECORD_VERSION};
use crate::digest::{Digest, Hasher};
use crate::durable;
use crate::error::StoreError;
use crate::layer::{INDEX_VERSION, LayerIndex};

/// Writes a layer's index and its sum, not durably: the commit's barrier does that.
pub(super) fn write_layer(path: &Path, index: &LayerIndex) -> Result<(), StoreError> {
    let file = File::create(path).map_err(StoreError::io("create", path))?;
    let mut writer = Summed {
        file: BufWriter::with_capacity(64 << 10, file),
        hasher: Hasher::new(),
    };
    serde_json::to_writer(&mut writer, index)
        .map_err(io::Error::from)
        .and_then(|()| writer.flush())
        .map_err(StoreError::io("write", path))?;
    let sum = sum_of(path);
    fs::write(&sum, writer.hasher.finish().hex()).map_err(StoreError::io("write", &sum))
}

/// What the digests of a tree's files do not cover, its directories and links, only the index knows. So it has a sum.
pub(super) fn sum_of(layer: &Path) -> PathBuf {
    layer.with_extension("sum")
}

struct Summed<W> {
    file: W,
    hasher: Hasher,
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A layer that an older version wrote has no sum.
fn check_sum(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let sum = sum_of(path);
    match fs::read(&sum) {
        Ok(expected) if expected == Digest::of(bytes).hex().as_bytes() => Ok(()),
        Ok(_) => Err(inconsistent(
            path,
            format!("{} is the sum of something else", sum.display()),
        )),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(StoreError::io("read", &sum)(e)),
    }
}

/// A layer's index, if the store has the layer.
pub(super) fn read_layer(layout: &Layout, diff_id: &Digest) -> Result<Option<LayerIndex>, StoreError> {
    let path = layout.layer(diff_id);
    let Some((index, bytes)) = read::<LayerIndex>(&path)? else {
        return Ok(None);
    };
    check_sum(&path, &bytes)?;
    check_version(&path, index.version, INDEX_VERSION)?;
    if index.diff_id != *diff_id {
        return Err(inconsistent(
            &path,
            format!("it is the index of {}", index.diff_id),
        ));
    }
    Ok(Some(index))
}

/// Writes an image's record durably.
pub(super) fn write_record(layout: &Layout, record: &ImageRecord) -> Result<(), StoreError> {
    let mut json = serde_json::json!(record).to_string();
    json.push('\n');
    Ok(durable::write_file(
        &layout.image(&record.manifest),
        json.as_bytes(),
        0o644,
    )?)
}

/// An image's record, if the store has the image. Its documents are checked against their digests.
pub(super) fn read_record(layout: &Layout, manifest: &Digest) -> Result<Option<ImageRecord>, StoreError> {
    let path = layout.image(manifest);
    let Some((record, _)) = read::<ImageRecord>(&path)? else {
        return Ok(None);
    };
    check_version(&path, record.version, RECORD_VERSION)?;
    if record.manifest != *manifest || Digest::of(record.manifest_json.as_bytes()) != *manifest {
        return Err(inconsistent(&path, "the manifest has another digest".to_owned()));
    }
    let config = Digest::of(record.config_json.as_bytes()).to_string();
    if !record.manifest_json.contains(&config) {
        return Err(inconsistent(&path, "the config is not the manifest's".to_owned()));
    }
    Ok(Some(record))
}

/// The digests that the file names `<hex>` or `<hex>.json` in `dir` stand for; other names are passed over.
pub(super) fn digests_in(dir: &Path) -> Result<Vec<Digest>, StoreError> {
    let mut digests = Vec::new();
    for entry in fs::read_dir(dir).map_err(StoreError::io("list", dir))? {
        let name = entry.map_err(StoreError::io("list", dir))?.file_name();
        let name = name.to_string_lossy();
        if let Ok(digest) = Digest::from_hex(name.strip_suffix(".json").unwrap_or(&name)) {
            digests.push(digest);
        }
    }
    digests.sort();
    Ok(digests)
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<(T, Vec<u8>)>, StoreError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(StoreError::io("read", path)(e)),
    };
    let document = serde_json::from_slice(&bytes).map_err(|source| StoreError::Document {
        path: path.to_owned(),
        source,
    })?;
    Ok(Some((document, bytes)))
}

fn check_version(path: &Path, version: u32, known: u32) -> Result<(), StoreError> {
    if version > known {
        return Err(StoreError::Format {
            path: path.to_owned(),
            needs: format!("document version {version}"),
        });
    }
    Ok(())
}

fn inconsistent(path: &Path, problem: String) -> StoreError {
    StoreError::Inconsistent {
        path: path.to_owned(),
        problem,
    }
}

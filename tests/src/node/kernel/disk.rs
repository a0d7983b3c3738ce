//! The disk of a machine: an ext4 file system in a sparse file, filled from the layers of its root.

use std::fs::{self, File};

use anyhow::{Context, Result};

use crate::cache;
use crate::command::{command, output};
use crate::node::record::Record;

/// Apparent size; the file takes what is written.
const BYTES: u64 = 12 << 30;

/// The layers are seen as one tree in a mount namespace that ends with the command.
const FILL: &str = r#"mount -t overlay root -o "ro,lowerdir=$1" "$2"
exec mke2fs -q -t ext4 -O verity -E lazy_itable_init=1,lazy_journal_init=1,nodiscard -d "$2" "$3""#;

/// Makes the disk of a new machine from its upper layer, which is removed, over the layers below.
pub(in crate::node) fn make(record: &Record) -> Result<()> {
    let (image, upper) = (record.image(), record.upper());
    File::create(&image)
        .and_then(|file| file.set_len(BYTES))
        .with_context(|| format!("create {}", image.display()))?;
    let seen = record.disk().join("root");
    let layers: Vec<String> = std::iter::once(&upper)
        .chain(&record.layers)
        .map(|layer| layer.display().to_string())
        .collect();
    output(
        command("unshare", ["--mount", "--propagation=private", "--"])
            .args(["sh", "-ec", FILL, "fill"])
            .arg(layers.join(":"))
            .arg(&seen)
            .arg(&image),
    )
    .with_context(|| format!("fill {}", image.display()))?;
    cache::remove(&upper)?;
    fs::remove_dir(&seen).with_context(|| format!("remove {}", seen.display()))
}

//! The guest: Debian's cloud kernel and an initramfs that prints a heartbeat on the serial console.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cache::{self, Key};
use crate::initramfs::{Initramfs, copy, find};
use crate::progress::Progress;
use crate::roots::unpack;

const INIT: &str = include_str!("../guest/init");

/// Depends on the current kernel package.
const KERNEL: &str = "linux-image-cloud-amd64";

const MODULES: &[&str] = &[
    "failover",
    "net_failover",
    "virtio",
    "virtio_net",
    "virtio_pci",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_ring",
];

const DISK_BYTES: u64 = 1 << 20;

/// The hash of everything that decides how the guest turns out, except the state of the Debian archive.
pub fn key() -> Key {
    let mut parts = vec![INIT.as_bytes(), KERNEL.as_bytes()];
    parts.extend(MODULES.iter().map(|name| name.as_bytes()));
    Key::of(parts)
}

/// The directory with `vmlinuz`, `initramfs.gz` and `disk.raw`; made if the cache has none.
///
/// # Errors
/// The Debian packages cannot be fetched or unpacked, or have no kernel where it is expected.
pub fn image(progress: &Progress) -> Result<PathBuf> {
    cache::entry("guest", &key(), |scratch| build(scratch, progress))
}

fn build(scratch: &Path, progress: &Progress) -> Result<()> {
    let parts = scratch.join("parts");
    fs::create_dir(&parts).with_context(|| format!("create {}", parts.display()))?;
    let debian = parts.join("debian");
    unpack(&[KERNEL, "busybox-static"], &debian, progress)?;
    progress.say("guest: packing the initramfs");
    let initramfs = Initramfs {
        init: INIT,
        modules: MODULES,
        from: &debian.join("lib/modules"),
        busybox: &debian.join("bin/busybox"),
    };
    initramfs.pack(&parts.join("tree"), &scratch.join("initramfs.gz"))?;
    copy(
        &find(&debian.join("boot"), "vmlinuz-*")?,
        &scratch.join("vmlinuz"),
    )?;
    fs::File::create(scratch.join("disk.raw"))?
        .set_len(DISK_BYTES)
        .context("size the disk")?;
    cache::remove(&parts)
}

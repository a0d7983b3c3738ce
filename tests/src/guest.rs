//! The guest: Debian's cloud kernel and an initramfs that prints a heartbeat on the serial console.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::cache::{self, Key};
use crate::command::{self, command};
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
    let tree = parts.join("tree");
    for directory in ["bin", "dev", "modules"] {
        fs::create_dir_all(tree.join(directory)).context("create the tree of the initramfs")?;
    }
    let program = tree.join("bin/busybox");
    copy(&debian.join("bin/busybox"), &program)?;
    for name in MODULES {
        let found = find(&debian.join("lib/modules"), &format!("{name}.ko"))?;
        copy(Path::new(found.trim()), &tree.join(format!("modules/{name}.ko")))?;
    }
    let init = tree.join("init");
    fs::write(&init, INIT).context("write init")?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755)).context("make init executable")?;
    let pack =
        "set -e; find . | LC_ALL=C sort | \"$1\" cpio -o -H newc -R 0:0 2>/dev/null | gzip -n -9 >\"$2\"";
    let target = scratch.join("initramfs.gz");
    command::output(
        command("sh", ["-c", pack, "pack"])
            .arg(&program)
            .arg(&target)
            .current_dir(&tree),
    )?;
    let vmlinuz = find(&debian.join("boot"), "vmlinuz-*")?;
    copy(Path::new(vmlinuz.trim()), &scratch.join("vmlinuz"))?;
    fs::File::create(scratch.join("disk.raw"))?
        .set_len(DISK_BYTES)
        .context("size the disk")?;
    cache::remove(&parts)
}

/// The one file of that name below a directory; the search ends at the first.
fn find(directory: &Path, name: &str) -> Result<String> {
    let found = command::output(
        Command::new("find")
            .arg(directory)
            .args(["-name", name, "-type", "f", "-print", "-quit"]),
    )?;
    if found.is_empty() {
        anyhow::bail!("no {name} in {}", directory.display());
    }
    Ok(found)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to)
        .map(drop)
        .with_context(|| format!("copy {} to {}", from.display(), to.display()))
}

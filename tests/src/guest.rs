//! The guest: Debian's cloud kernel and an initramfs that prints a heartbeat on the serial console.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::cache::{self, Key};
use crate::command::{self, command};
use crate::progress::Progress;

const INIT: &str = include_str!("../guest/init");

/// The package whose only use is to name the current kernel package.
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
/// The Debian packages cannot be fetched or unpacked.
pub fn image(progress: &Progress) -> Result<PathBuf> {
    cache::entry("guest", &key(), |scratch| build(scratch, progress))
}

fn build(scratch: &Path, progress: &Progress) -> Result<()> {
    let parts = tempfile::tempdir().context("create a temporary directory")?;
    progress.say("guest: fetching kernel and busybox");
    let kernel = unpack(&kernel_package()?, parts.path())?;
    let busybox = unpack("busybox-static", parts.path())?;
    progress.say("guest: packing the initramfs");
    let tree = parts.path().join("tree");
    for directory in ["bin", "dev", "modules"] {
        fs::create_dir_all(tree.join(directory)).context("create the tree of the initramfs")?;
    }
    let program = tree.join("bin/busybox");
    copy(&busybox.join("bin/busybox"), &program)?;
    for name in MODULES {
        let found = find(&kernel.join("lib/modules"), &format!("{name}.ko"))?;
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
    let vmlinuz = find(&kernel.join("boot"), "vmlinuz-*")?;
    copy(Path::new(vmlinuz.trim()), &scratch.join("vmlinuz"))?;
    fs::File::create(scratch.join("disk.raw"))?
        .set_len(DISK_BYTES)
        .context("size the disk")
}

/// The package that the kernel meta-package depends on now.
fn kernel_package() -> Result<String> {
    let shown = command::output(&mut command("apt-cache", ["show", "--no-all-versions", KERNEL]))?;
    dependency(&shown)
        .with_context(|| format!("{KERNEL} names no kernel package (is `apt-get update` needed?)"))
}

fn dependency(shown: &str) -> Option<String> {
    let depends = shown.lines().find_map(|line| line.strip_prefix("Depends: "))?;
    let first = depends
        .split([',', ' '])
        .find(|word| word.starts_with("linux-image-"))?;
    Some(first.to_owned())
}

fn unpack(package: &str, parts: &Path) -> Result<PathBuf> {
    let fetched = parts.join(format!("{package}.deb.d"));
    let target = parts.join(package);
    for directory in [&fetched, &target] {
        fs::create_dir(directory).with_context(|| format!("create {}", directory.display()))?;
    }
    let mut download = command(
        "apt-get",
        ["-q", "-o", "APT::Sandbox::User=root", "download", package],
    );
    command::output(download.current_dir(&fetched))?;
    let deb = find(&fetched, "*.deb")?;
    command::output(Command::new("dpkg-deb").arg("-x").arg(deb.trim()).arg(&target))?;
    Ok(target)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_meta_package_names_the_kernel() {
        let shown =
            "Package: linux-image-cloud-amd64\nDepends: linux-image-6.1.0-51-cloud-amd64 (= 6.1.192-2)\n";
        assert_eq!(
            dependency(shown).as_deref(),
            Some("linux-image-6.1.0-51-cloud-amd64")
        );
        assert_eq!(dependency("Package: x\n"), None);
    }
}

//! What machines on a kernel of their own need beside a root file system: the kernels, the way in, and a root whose
//! systemd gives itself an address and says when it is up.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cache::{self, Key};
use crate::command::{command, output};
use crate::initramfs::{Initramfs, copy, find};
use crate::progress::Progress;
use crate::roots::{Recipe, unpack};

const UML: &str = "user-mode-linux";

const BUSYBOX: &str = "busybox-static";

const INIT: &str = include_str!("../kernel-node/init");

/// What it takes to see a virtio disk and network card; ext4 is in the kernel itself.
const MODULES: &[&str] = &[
    "failover",
    "net_failover",
    "virtio",
    "virtio_blk",
    "virtio_net",
    "virtio_pci",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_ring",
];

/// Files of the root: path, text.
const FILES: &[(&str, &str)] = &[
    (
        "usr/local/lib/testnode/network",
        include_str!("../kernel-node/network"),
    ),
    (
        "etc/systemd/system/testnode-network.service",
        include_str!("../kernel-node/testnode-network.service"),
    ),
    (
        "etc/systemd/system/testnode-ready.service",
        include_str!("../kernel-node/testnode-ready.service"),
    ),
    (
        "etc/ssh/sshd_config.d/testnode.conf",
        include_str!("../kernel-node/sshd.conf"),
    ),
];

/// Links of the root: path, target.
const LINKS: &[(&str, &str)] = &[
    (
        "etc/systemd/system/sysinit.target.wants/testnode-network.service",
        "../testnode-network.service",
    ),
    (
        "etc/systemd/system/multi-user.target.wants/testnode-ready.service",
        "../testnode-ready.service",
    ),
    // Nobody sits at the console.
    ("etc/systemd/system/getty@tty1.service", "/dev/null"),
    ("etc/systemd/system/serial-getty@ttyS0.service", "/dev/null"),
    // The host has the disk's space; what these do in a machine of minutes is noise in measurements.
    ("etc/systemd/system/e2scrub_all.timer", "/dev/null"),
    ("etc/systemd/system/e2scrub_reap.service", "/dev/null"),
    ("etc/systemd/system/fstrim.timer", "/dev/null"),
];

/// A directory of the cache.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Kernels(PathBuf);

impl Kernels {
    /// Made if the cache has none.
    ///
    /// # Errors
    /// The Debian packages cannot be fetched, or lack what is expected in them.
    pub fn cached(progress: &Progress) -> Result<Self> {
        let root = Recipe::own_kernel().root(progress)?;
        let entry = cache::entry("kernels", &key(), |scratch| build(scratch, &root, progress))?;
        Ok(Self(entry))
    }

    /// user-mode-linux: a kernel that is a program of the host.
    pub fn uml(&self) -> PathBuf {
        self.0.join("linux.uml")
    }

    /// Debian's kernel for virtual machines.
    pub fn vmlinuz(&self) -> PathBuf {
        self.0.join("vmlinuz")
    }

    /// The initial RAM file system for [`Kernels::vmlinuz`].
    pub fn initramfs(&self) -> PathBuf {
        self.0.join("initramfs.gz")
    }

    /// The private key that opens every machine over [`Kernels::layers`].
    pub fn key(&self) -> PathBuf {
        self.0.join("key")
    }

    /// The read-only layers of a node's root, topmost first.
    ///
    /// # Errors
    /// As [`Recipe::root`].
    pub fn layers(&self, progress: &Progress) -> Result<Vec<PathBuf>> {
        Ok(vec![self.0.join("tree"), Recipe::own_kernel().root(progress)?])
    }
}

fn key() -> Key {
    let root = Recipe::own_kernel().key();
    let mut words = vec![root.as_str(), UML, BUSYBOX, INIT];
    words.extend(MODULES);
    words.extend(FILES.iter().chain(LINKS).flat_map(|(path, text)| [*path, *text]));
    Key::of(words.into_iter().map(str::as_bytes))
}

fn build(scratch: &Path, root: &Path, progress: &Progress) -> Result<()> {
    let parts = scratch.join("parts");
    fs::create_dir(&parts).with_context(|| format!("create {}", parts.display()))?;
    let debian = parts.join("debian");
    unpack(&[UML, BUSYBOX], &debian, progress)?;
    copy(&debian.join("usr/bin/linux.uml"), &scratch.join("linux.uml"))?;
    copy(&find(&root.join("boot"), "vmlinuz-*")?, &scratch.join("vmlinuz"))?;
    let initramfs = Initramfs {
        init: INIT,
        modules: MODULES,
        from: &root.join("usr/lib/modules"),
        busybox: &debian.join("bin/busybox"),
    };
    initramfs.pack(&parts.join("initramfs"), &scratch.join("initramfs.gz"))?;
    let key = scratch.join("key");
    output(
        command(
            "ssh-keygen",
            ["-q", "-t", "ed25519", "-N", "", "-C", "testnode", "-f"],
        )
        .arg(&key),
    )?;
    let tree = scratch.join("tree");
    write_tree(&tree)?;
    let authorized = tree.join("root/.ssh/authorized_keys");
    copy(&scratch.join("key.pub"), &authorized)?;
    // sshd ignores keys that others could have written.
    for directory in ["root", "root/.ssh"] {
        fs::set_permissions(tree.join(directory), fs::Permissions::from_mode(0o700))?;
    }
    let modules = tree.join("usr/lib/modules");
    fs::create_dir_all(&modules).with_context(|| format!("create {}", modules.display()))?;
    output(
        command("cp", ["-a", "--no-target-directory"])
            .arg(debian.join("usr/lib/uml/modules"))
            .arg(&modules),
    )?;
    cache::remove(&parts)
}

fn write_tree(tree: &Path) -> Result<()> {
    let parent = |path: &Path| {
        let parent = path.parent().unwrap_or(tree);
        fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))
    };
    parent(&tree.join("root/.ssh/authorized_keys"))?;
    for (path, text) in FILES {
        let path = tree.join(path);
        parent(&path)?;
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    for (path, target) in LINKS {
        let path = tree.join(path);
        parent(&path)?;
        symlink(target, &path).with_context(|| format!("link {}", path.display()))?;
    }
    Ok(())
}

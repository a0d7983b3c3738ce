//! Debian root file systems for machines, built by mmdebstrap and cached by their recipe.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cache::{self, Key};
use crate::command::{command, output, stream};
use crate::paths;
use crate::progress::Progress;

const SUITE: &str = "bookworm";

/// What every machine needs to boot and to be looked at.
const BASE: &[&str] = &[
    "ca-certificates",
    "dbus",
    "iproute2",
    "iputils-ping",
    "kmod",
    "less",
    "procps",
    "systemd",
    "systemd-sysv",
];

/// A node: machined for libvirt's guests, and nothing that nodectl is to bring itself.
const NODE: &[&str] = &[
    "libseccomp2",
    "libssl3",
    "openssl",
    "python3-minimal",
    "systemd-container",
];

/// What a machine on a kernel of its own has besides: the kernel, its devices, and a way in.
const OWN_KERNEL: &[&str] = &["e2fsprogs", "linux-image-cloud-amd64", "openssh-server", "udev"];

const CONTROL_PLANE: &[&str] = &[
    "glance-api",
    "keystone",
    "mariadb-server",
    "neutron-server",
    "nova-api",
    "nova-conductor",
    "nova-scheduler",
    "placement-api",
    "python3-openstackclient",
    "python3-pymysql",
    "rabbitmq-server",
];

/// Packages enable their services; here they may only start once they are configured.
const HELD_BACK: &[&str] = &[
    "glance-api",
    "keystone",
    "mariadb",
    "nova-api",
    "nova-api-metadata",
    "nova-conductor",
    "nova-scheduler",
    "rabbitmq-server",
];

/// Never read on a machine that lives for minutes.
const LEFT_OUT: &[&str] = &[
    "/usr/share/doc/*",
    "/usr/share/info/*",
    "/usr/share/locale/*",
    "/usr/share/man/*",
];

/// Units of the root itself; a box without CAP_SYS_RESOURCE refuses higher limits than its own.
const LIMITS: &[(&str, &str)] = &[(
    "etc/systemd/system/service.d/10-limits.conf",
    "[Service]\nLimitNOFILE=16384\nOOMScoreAdjust=0\n",
)];

/// Debs already fetched are linked in before apt runs and new ones linked out after it: one download per package.
const KEEP_DEBS: [&str; 2] = [
    r#"--setup-hook=mkdir -p "$1/var/cache/apt/archives" "$NODECTL_DEBS" && find "$NODECTL_DEBS" -maxdepth 1 -name '*.deb' -exec ln -t "$1/var/cache/apt/archives" {} +"#,
    r#"--customize-hook=cd "$1/var/cache/apt/archives" && find . -name '*.deb' -exec ln -f -t "$NODECTL_DEBS" {} + && find . -name '*.deb' -delete"#,
];

/// A root file system to be had.
#[derive(Debug, Clone)]
pub struct Recipe {
    name: &'static str,
    packages: Vec<&'static str>,
    held_back: &'static [&'static str],
    files: &'static [(&'static str, &'static str)],
}

impl Recipe {
    /// The root of a node: Debian 12 with systemd and machined, without any container daemon.
    pub fn node() -> Self {
        Self {
            name: "node",
            packages: [BASE, NODE].concat(),
            held_back: &[],
            files: LIMITS,
        }
    }

    /// The root of a node on a kernel of its own: what [`Recipe::node`] has, Debian's cloud kernel, udev and sshd. Limits
    /// are what systemd makes them.
    pub fn own_kernel() -> Self {
        Self {
            name: "node-own-kernel",
            packages: [BASE, NODE, OWN_KERNEL].concat(),
            held_back: &[],
            files: &[],
        }
    }

    /// The packages of the control plane, not configured.
    pub fn control_plane() -> Self {
        Self {
            name: "control-plane",
            packages: [BASE, CONTROL_PLANE].concat(),
            held_back: HELD_BACK,
            files: LIMITS,
        }
    }

    /// The hash of everything that decides what is in the root, except the state of the Debian archive.
    pub fn key(&self) -> Key {
        let mut words = vec![SUITE];
        words.extend(self.files.iter().flat_map(|(path, text)| [*path, *text]));
        words.extend(LEFT_OUT);
        words.extend(&self.packages);
        words.extend(self.held_back);
        Key::of(words.into_iter().map(str::as_bytes))
    }

    /// The directory with the root; built if the cache has none. It is a lower layer: never write to it.
    ///
    /// # Errors
    /// mmdebstrap fails; the error carries its last lines.
    pub fn root(&self, progress: &Progress) -> Result<PathBuf> {
        cache::entry(self.name, &self.key(), |scratch| self.build(scratch, progress))
    }

    fn build(&self, scratch: &Path, progress: &Progress) -> Result<()> {
        let told = |line: &str| progress.say(format!("root {}: {line}", self.name));
        mmdebstrap("minbase", &self.packages, scratch, told)?;
        for (path, text) in self.files {
            write(scratch, path, text)?;
        }
        if !self.held_back.is_empty() {
            let root = format!("--root={}", scratch.display());
            output(command("systemctl", ["--quiet", &root, "disable"]).args(self.held_back))?;
        }
        // Every machine gets its own; what is here would be shared, or count as a first boot.
        write(scratch, "etc/machine-id", "")?;
        // mmdebstrap makes the directory itself private when it was.
        fs::set_permissions(scratch, fs::Permissions::from_mode(0o755))
            .with_context(|| format!("set the mode of {}", scratch.display()))
    }
}

/// Unpacks packages and what they depend on, without installing anything: for files that are in packages.
///
/// # Errors
/// As [`Recipe::root`].
pub fn unpack(packages: &[&str], target: &Path, progress: &Progress) -> Result<()> {
    let told = |line: &str| progress.say(format!("unpack {}: {line}", packages.join(", ")));
    mmdebstrap("extract", packages, target, told)
}

/// mmdebstrap mounts file systems in the root it makes, and its children outlive it. In namespaces of its own, which
/// end with this process, whatever ends it, nothing of either is left on the host.
const CONTAINED: &[&str] = &[
    "--pdeathsig=KILL",
    "--",
    "unshare",
    "--mount",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
    "--",
];

/// `target` has to be on the file system of the cache: packages are linked.
fn mmdebstrap(variant: &str, packages: &[&str], target: &Path, told: impl Fn(&str)) -> Result<()> {
    let mut mmdebstrap = command("setpriv", CONTAINED);
    mmdebstrap
        .args(["mmdebstrap", "--mode=root", "--format=directory"])
        .arg(format!("--variant={variant}"))
        .arg("--skip=download/empty,essential/unlink,cleanup/apt/cache")
        .arg("--dpkgopt=force-unsafe-io")
        .arg("--aptopt=Acquire::Languages \"none\"")
        // A frozen mirror is older than the validity its release files promise.
        .arg("--aptopt=Acquire::Check-Valid-Until \"false\"")
        .args(
            LEFT_OUT
                .iter()
                .map(|glob| format!("--dpkgopt=path-exclude={glob}")),
        )
        .args(KEEP_DEBS)
        .arg(format!("--include={}", packages.join(",")))
        .arg(SUITE)
        .arg(target)
        .env("NODECTL_DEBS", paths::cache().join("apt"))
        .env("TMPDIR", "/var/tmp");
    stream(&mut mmdebstrap, |line| told(line.trim_start_matches("I: ")))
}

fn write(root: &Path, path: &str, text: &str) -> Result<()> {
    let path = root.join(path);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
    }
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_no_container_daemon_and_no_service_of_ours() {
        let node = Recipe::node();
        for word in [
            "docker",
            "podman",
            "containerd",
            "runc",
            "crun",
            "libvirt",
            "openvswitch",
            "nova",
            "qemu",
        ] {
            assert!(
                node.packages.iter().all(|package| !package.contains(word)),
                "{word}"
            );
        }
    }

    #[test]
    fn recipes_have_keys_of_their_own() {
        assert_ne!(Recipe::node().key(), Recipe::control_plane().key());
        assert_ne!(Recipe::node().key(), Recipe::own_kernel().key());
        assert_eq!(Recipe::node().key(), Recipe::node().key());
    }
}

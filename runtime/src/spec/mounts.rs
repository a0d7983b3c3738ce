//! Mounts: what a service sees besides its image.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Mount as OciMount, MountBuilder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::container::Container;
use super::users::Accounts;
use super::values::Mode;
use super::{RenderedFile, Resolved, SpecError, absolute, capabilities, oci};

/// Something made visible inside: a host path, or a tmpfs where no source is given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// Absolute host path of a directory, file or socket; absent for a tmpfs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<PathBuf>,
    /// Absolute path inside the service.
    pub target: PathBuf,
    /// No writes through this mount.
    #[serde(default)]
    pub read_only: bool,
    /// Mounts beneath the source come along.
    #[serde(default)]
    pub recursive: bool,
    /// Whether later mounts travel between host and service.
    #[serde(default)]
    pub propagation: Propagation,
    /// A missing source is no error: the mount is left out then.
    #[serde(default)]
    pub optional: bool,
    /// Size of a tmpfs as tmpfs(5) takes it (`64M`, `10%`); absent means half the memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// Mode of a tmpfs, 0755 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Owner of a tmpfs by the image's passwd, or a number; root if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Group of a tmpfs by the image's group file, or a number; root if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

/// Mount propagation of mount_namespaces(7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Propagation {
    /// Neither way.
    #[default]
    Private,
    /// From the host into the service.
    Slave,
    /// Both ways: what the service mounts there appears on the host.
    Shared,
}

/// All mounts in the order in which they are made: the standard ones the definition does not
/// replace, its own, and the rendered files.
pub(super) fn render(r: &Resolved<'_>, accounts: &Accounts) -> Result<Vec<OciMount>, SpecError> {
    let own = &r.container.mounts;
    let replaced = |target: &Path| {
        own.iter().any(|mount| mount.target == target)
            || target.starts_with("/dev") && own.iter().any(|mount| mount.target == Path::new("/dev"))
    };
    let mut all = Vec::new();
    for (target, typ, options) in STANDARD {
        if !replaced(Path::new(target)) {
            all.push(file_system(Path::new(target), typ, options.iter().copied())?);
        }
    }
    for mount in own {
        all.push(render_own(mount, accounts)?);
    }
    for file in r.files {
        all.push(render_file(file)?);
    }
    Ok(all)
}

type Standard = (&'static str, &'static str, &'static [&'static str]);

/// What every service gets. Without the tmpfs on /dev, runtimes would make device nodes in the
/// image's tree.
const STANDARD: [Standard; 8] = [
    ("/proc", "proc", &["nosuid", "noexec", "nodev"]),
    ("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
    (
        "/dev",
        "tmpfs",
        &["nosuid", "strictatime", "mode=755", "size=65536k"],
    ),
    (
        "/dev/pts",
        "devpts",
        &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
    ),
    ("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777"]),
    ("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
    ("/run", "tmpfs", &["nosuid", "nodev", "mode=755"]),
    ("/tmp", "tmpfs", &["nosuid", "nodev", "mode=1777"]),
];

fn file_system<'a>(
    target: &Path,
    typ: &str,
    options: impl Iterator<Item = &'a str>,
) -> Result<OciMount, SpecError> {
    MountBuilder::default()
        .destination(target)
        .typ(typ)
        .source(typ)
        .options(options.map(str::to_owned).collect::<Vec<_>>())
        .build()
        .map_err(oci("mount"))
}

fn render_own(mount: &Mount, accounts: &Accounts) -> Result<OciMount, SpecError> {
    let section = || format!("mount {}", mount.target.display());
    let target = mount_point(&section, &mount.target)?;
    match &mount.source {
        Some(source) => {
            let tmpfs_only =
                mount.size.is_some() || mount.mode.is_some() || mount.user.is_some() || mount.group.is_some();
            if tmpfs_only {
                let reason = "size, mode, user and group are for a tmpfs, this has a source";
                return Err(SpecError::invalid(section(), reason));
            }
            bind(&absolute(&section, source)?, &target, &bind_options(mount))
        }
        None => tmpfs(mount, &target, accounts),
    }
}

fn bind_options(mount: &Mount) -> Vec<&'static str> {
    let propagation = match (mount.propagation, mount.recursive) {
        (Propagation::Private, false) => "private",
        (Propagation::Private, true) => "rprivate",
        (Propagation::Slave, false) => "slave",
        (Propagation::Slave, true) => "rslave",
        (Propagation::Shared, false) => "shared",
        (Propagation::Shared, true) => "rshared",
    };
    let write = match (mount.read_only, mount.recursive) {
        (false, _) => "rw",
        (true, false) => "ro",
        (true, true) => "rro",
    };
    vec![if mount.recursive { "rbind" } else { "bind" }, propagation, write]
}

fn bind(source: &Path, target: &Path, options: &[&str]) -> Result<OciMount, SpecError> {
    MountBuilder::default()
        .destination(target)
        .typ("bind")
        .source(source)
        .options(
            options
                .iter()
                .map(|option| (*option).to_owned())
                .collect::<Vec<_>>(),
        )
        .build()
        .map_err(oci("mount"))
}

fn tmpfs(mount: &Mount, target: &Path, accounts: &Accounts) -> Result<OciMount, SpecError> {
    let section = || format!("mount {}", mount.target.display());
    let account = |source| SpecError::Account {
        section: section(),
        source,
    };
    if mount.optional || mount.recursive || mount.propagation != Propagation::Private {
        let reason = "optional, recursive and propagation are for a mount with a source";
        return Err(SpecError::invalid(section(), reason));
    }
    let mode = mount.mode.map_or(0o755, Mode::bits);
    let mut options = vec!["nosuid".to_owned(), "nodev".to_owned(), format!("mode={mode:o}")];
    if mount.read_only {
        options.push("ro".to_owned());
    }
    if let Some(size) = &mount.size {
        if !size.chars().all(|c| c.is_ascii_alphanumeric() || c == '%') || size.is_empty() {
            return Err(SpecError::invalid(
                section(),
                format!("`{size}` is not a tmpfs size"),
            ));
        }
        options.push(format!("size={size}"));
    }
    if let Some(user) = &mount.user {
        options.push(format!("uid={}", accounts.uid(user).map_err(account)?));
    }
    if let Some(group) = &mount.group {
        options.push(format!("gid={}", accounts.gid(group).map_err(account)?));
    }
    file_system(target, "tmpfs", options.iter().map(String::as_str))
}

fn render_file(file: &RenderedFile) -> Result<OciMount, SpecError> {
    let section = || format!("file {}", file.bundle_relative);
    let source = Path::new(&file.bundle_relative);
    let inside = absolute(&section, &Path::new("/").join(source));
    if source.is_absolute() || inside.is_err() {
        return Err(SpecError::Path {
            section: section(),
            path: source.to_owned(),
        });
    }
    bind(
        source,
        &mount_point(&section, &file.target)?,
        &["bind", "private", "ro"],
    )
}

/// Where a service may have something mounted: neither on the root nor on what shows processes.
fn mount_point(section: &dyn Fn() -> String, target: &Path) -> Result<PathBuf, SpecError> {
    let target = absolute(section, target)?;
    if target == Path::new("/") || target.starts_with("/proc") {
        return Err(SpecError::invalid(section(), "cannot be mounted over"));
    }
    Ok(target)
}

/// Mount propagation of the root: mounts travel to the host only if a mount asks for it.
pub(super) fn root_propagation(mounts: &[Mount]) -> &'static str {
    let shared = mounts
        .iter()
        .any(|mount| mount.propagation == Propagation::Shared);
    if shared { "shared" } else { "slave" }
}

/// Whether a service is trusted with the kernel's knobs anyhow.
fn administers(container: &Container) -> bool {
    ["CAP_SYS_ADMIN", "CAP_NET_ADMIN"]
        .iter()
        .any(|name| capabilities::has(&container.capabilities, name))
}

/// Parts of /proc that uid 0 could write to without any capability.
pub(super) fn read_only_paths(container: &Container) -> Vec<String> {
    let paths: &[&str] = match administers(container) {
        true => &[],
        false => &[
            "/proc/bus",
            "/proc/fs",
            "/proc/irq",
            "/proc/sys",
            "/proc/sysrq-trigger",
        ],
    };
    paths.iter().map(|path| (*path).to_owned()).collect()
}

/// Parts of /proc and /sys that leak facts about the host to uid 0 without any capability.
pub(super) fn masked_paths(container: &Container) -> Vec<String> {
    let paths: &[&str] = match administers(container) {
        true => &[],
        false => &["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
    };
    paths.iter().map(|path| (*path).to_owned()).collect()
}

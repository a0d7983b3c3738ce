//! From the container section of a service definition to an OCI runtime configuration. Pure: the
//! image's facts come in as values and the configuration goes out as one.

pub mod capabilities;
pub mod container;
pub mod devices;
pub mod document;
pub mod mounts;
mod namespaces;
mod process;
pub mod seccomp;
pub mod users;
pub mod values;

#[cfg(test)]
pub(crate) mod tests;

use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use oci_spec::image::ImageConfiguration;
use oci_spec::runtime::{LinuxBuilder, RootBuilder, Spec, SpecBuilder};

use container::{Container, HostNamespace};
pub(crate) use process::executable;
use users::{AccountError, Accounts};

/// A container section with the facts of the image and node it will run from.
#[derive(Debug)]
pub struct Resolved<'a> {
    /// Name of the service.
    pub service: &'a str,
    /// The section.
    pub container: &'a Container,
    /// Configuration of the image.
    pub image_config: &'a ImageConfiguration,
    /// Tree of the image on this node, absolute.
    pub rootfs: &'a Path,
    /// Text of the image's `/etc/passwd`; empty if it has none.
    pub passwd: &'a str,
    /// Text of the image's `/etc/group`; empty if it has none.
    pub group: &'a str,
    /// Files of the bundle made visible inside, read-only.
    pub files: &'a [RenderedFile],
    /// Host name inside if the UTS namespace is private; absent means the service's name.
    pub hostname: Option<&'a str>,
    /// Whether the bundle gets a compiled filter (`seccomp.bpf`).
    pub seccomp: bool,
}

/// A rendered file of a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenderedFile {
    /// Path relative to the bundle, for example `files/nova.conf`.
    pub bundle_relative: String,
    /// Absolute path inside the service.
    pub target: PathBuf,
}

/// A container section that cannot run as it is.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// A user or group that the image does not know.
    #[error("{section}: unknown account")]
    Account {
        /// Where in the section.
        section: String,
        /// Which.
        source: AccountError,
    },
    /// A path that has to be absolute and without `..`.
    #[error("{section}: path {path} is not absolute and plain")]
    Path {
        /// Where in the section.
        section: String,
        /// The path.
        path: PathBuf,
    },
    /// Neither the definition nor the image says what to execute.
    #[error("process.args is empty and the image has neither entrypoint nor command")]
    NoCommand,
    /// A value that contradicts another one or is out of range.
    #[error("{section}: {reason}")]
    Invalid {
        /// Where in the section.
        section: String,
        /// What is wrong.
        reason: String,
    },
    /// The OCI types refused a value.
    #[error("cannot build the OCI {what}")]
    Oci {
        /// Which part.
        what: &'static str,
        /// Why.
        source: oci_spec::OciSpecError,
    },
}

impl SpecError {
    fn invalid(section: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid {
            section: section.into(),
            reason: reason.into(),
        }
    }
}

fn oci(what: &'static str) -> impl FnOnce(oci_spec::OciSpecError) -> SpecError {
    move |source| SpecError::Oci { what, source }
}

/// The path, spelled in one way (`//a/./b/` is `/a/b`), if it is absolute and has neither `..`, so
/// that it cannot lead out of what it is joined to, nor a NUL, which no system call takes.
pub(crate) fn absolute(section: &dyn Fn() -> String, path: &Path) -> Result<PathBuf, SpecError> {
    let plain = path
        .components()
        .all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
    if path.is_absolute() && plain && !path.as_os_str().as_bytes().contains(&0) {
        Ok(path.components().collect())
    } else {
        Err(SpecError::Path {
            section: section(),
            path: path.to_owned(),
        })
    }
}

impl Resolved<'_> {
    /// The accounts of the image.
    pub fn accounts(&self) -> Accounts {
        Accounts::parse(self.passwd, self.group)
    }

    pub(crate) fn shares(&self, namespace: HostNamespace) -> bool {
        self.container.share.contains(&namespace)
    }
}

/// The OCI runtime configuration (`config.json`) of a resolved service. The root file system is
/// read-only, the mount namespace private, and the cgroup path a name of its own that is never
/// empty or `/`: runtimes kill everything in that cgroup when they clean up.
///
/// # Errors
/// Unknown accounts, bad paths, contradicting values.
pub fn oci_spec(resolved: &Resolved<'_>) -> Result<Spec, SpecError> {
    let accounts = resolved.accounts();
    let container = resolved.container;
    let mut linux = LinuxBuilder::default()
        .namespaces(namespaces::namespaces(&container.share)?)
        .devices(devices::render(&container.devices, &accounts)?)
        .cgroups_path(format!("/nodectl/{}", resolved.service))
        .rootfs_propagation(mounts::root_propagation(&container.mounts))
        .masked_paths(mounts::masked_paths(container))
        .readonly_paths(mounts::read_only_paths(container));
    let sysctl = namespaces::sysctl(container)?;
    if !sysctl.is_empty() {
        linux = linux.sysctl(sysctl);
    }
    let root = RootBuilder::default()
        .path(absolute(&|| "rootfs".to_owned(), resolved.rootfs)?)
        .readonly(true)
        .build()
        .map_err(oci("root"))?;
    let mut linux = linux.build().map_err(oci("linux section"))?;
    // The builder's defaults; resources are the unit's business.
    linux.set_resources(None);
    let mut spec = SpecBuilder::default()
        // The one that every runtime in use accepts; nothing newer is used.
        .version("1.0.2")
        .root(root)
        .mounts(mounts::render(resolved, &accounts)?)
        .process(process::render(resolved, &accounts)?)
        .linux(linux)
        .build()
        .map_err(oci("configuration"))?;
    spec.set_hostname(namespaces::hostname(resolved)?);
    Ok(spec)
}

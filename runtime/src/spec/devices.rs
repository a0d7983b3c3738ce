//! Device nodes of the private `/dev`.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxDevice, LinuxDeviceBuilder, LinuxDeviceType};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::users::Accounts;
use super::values::Mode;
use super::{SpecError, absolute, oci};

/// A device node made in the service's private `/dev`, next to the standard ones of the OCI
/// runtime specification (config-linux.md, default devices).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// Absolute path under `/dev`, for example `/dev/net/tun`.
    pub path: PathBuf,
    /// Character or block device.
    #[serde(default)]
    pub kind: DeviceKind,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Mode, 0660 if absent.
    #[serde(default = "mode_0660")]
    pub mode: Mode,
    /// Owner by the image's passwd, or a number; root if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Group by the image's group file, or a number; root if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

/// Kind of a device node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceKind {
    /// Character device.
    #[default]
    Char,
    /// Block device.
    Block,
}

fn mode_0660() -> Mode {
    Mode::new(0o660)
}

/// The OCI form of the devices.
pub(super) fn render(devices: &[Device], accounts: &Accounts) -> Result<Vec<LinuxDevice>, SpecError> {
    devices
        .iter()
        .map(|device| render_one(device, accounts))
        .collect()
}

fn render_one(device: &Device, accounts: &Accounts) -> Result<LinuxDevice, SpecError> {
    let section = || format!("device {}", device.path.display());
    let path = absolute(&section, &device.path)?;
    if !path.starts_with("/dev") || path == Path::new("/dev") {
        return Err(SpecError::invalid(section(), "is not under /dev"));
    }
    let account = |source| SpecError::Account {
        section: section(),
        source,
    };
    let uid = device
        .user
        .as_deref()
        .map_or(Ok(0), |user| accounts.uid(user))
        .map_err(account)?;
    let gid = device
        .group
        .as_deref()
        .map_or(Ok(0), |group| accounts.gid(group))
        .map_err(account)?;
    LinuxDeviceBuilder::default()
        .path(path)
        .typ(match device.kind {
            DeviceKind::Char => LinuxDeviceType::C,
            DeviceKind::Block => LinuxDeviceType::B,
        })
        .major(i64::from(device.major))
        .minor(i64::from(device.minor))
        .file_mode(device.mode.bits())
        .uid(uid)
        .gid(gid)
        .build()
        .map_err(oci("device"))
}

//! Reads what decides the plan from the host. Never fails: what cannot be read becomes a message.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{Inputs, UnitSource};
use crate::name::UnitName;

/// A unit file larger than this is not one of ours.
const LARGEST_UNIT: u64 = 1 << 20;

/// Where things are below the root of the file system; another root than `/` only in tests.
#[derive(Clone, Debug)]
pub struct Paths {
    state: PathBuf,
    retired: PathBuf,
    fstab: PathBuf,
    mountinfo: PathBuf,
    command_lines: [PathBuf; 2],
}

impl Paths {
    /// The paths of an ordinary node below `root`.
    #[must_use]
    pub fn below(root: &Path) -> Self {
        Self {
            state: root.join("var/lib/nodectl"),
            retired: root.join("run/nodectl/retired"),
            fstab: root.join("etc/fstab"),
            mountinfo: root.join("proc/self/mountinfo"),
            // In a container the arguments of PID 1 take the place of the kernel command line.
            command_lines: [root.join("proc/cmdline"), root.join("proc/1/cmdline")],
        }
    }
}

/// Reads everything; the second value says what could not be read.
#[must_use]
pub fn read(paths: &Paths) -> (Inputs, Vec<String>) {
    let mut messages = Vec::new();
    let disabled = paths.command_lines.iter().any(|path| is_disabled(path));
    if disabled {
        messages.push("nodectl.disable on the kernel command line: no services".to_owned());
    }
    let adrift = is_adrift(&paths.state);
    if adrift {
        messages.push("there are deployments, but none is current".to_owned());
    }
    let inputs = Inputs {
        disabled,
        adrift,
        current: read_current(paths, &mut messages),
        retired: read_units(&paths.retired, &mut messages).unwrap_or_default(),
        transaction_open: paths.state.join("transaction.json").exists(),
    };
    (inputs, messages)
}

fn is_adrift(state: &Path) -> bool {
    let deployments = fs::read_dir(state.join("deployments")).into_iter().flatten();
    let mut names = deployments.flatten().map(|entry| entry.file_name());
    !state.join("current").is_dir() && names.any(|name| !name.as_encoded_bytes().starts_with(b"."))
}

fn is_disabled(command_line: &Path) -> bool {
    fs::read(command_line).is_ok_and(|bytes| says_disable(&String::from_utf8_lossy(&bytes)))
}

/// True if the words contain `nodectl.disable`, alone or with a value that means yes.
fn says_disable(command_line: &str) -> bool {
    command_line
        .split(|c: char| c.is_whitespace() || c == '\0')
        .filter_map(|word| word.strip_prefix("nodectl.disable"))
        .any(|rest| matches!(rest, "" | "=1" | "=yes" | "=true" | "=on"))
}

fn read_current(paths: &Paths, messages: &mut Vec<String>) -> Option<Vec<UnitSource>> {
    if let Some(mount_point) = mount_still_missing(paths) {
        messages.push(format!(
            "{mount_point} is not mounted yet: the services start after it"
        ));
        return None;
    }
    // Resolved once, so that a switch meanwhile cannot mix two deployments.
    let current = paths.state.join("current");
    match fs::canonicalize(&current) {
        Ok(deployment) => read_units(&deployment.join("units"), messages),
        Err(error) => {
            if current.is_symlink() || error.kind() != io::ErrorKind::NotFound {
                messages.push(format!("cannot follow {}: {error}", current.display()));
            }
            None
        }
    }
}

/// The units in a directory, by name. `None` if the directory cannot be read; no message if it is not there.
fn read_units(directory: &Path, messages: &mut Vec<String>) -> Option<Vec<UnitSource>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                messages.push(format!("cannot read {}: {error}", directory.display()));
            }
            return None;
        }
    };
    let mut units = Vec::new();
    for entry in entries {
        match entry.map_err(|e| e.to_string()).and_then(|e| read_unit(&e)) {
            Ok(unit) => units.push(unit),
            Err(reason) => messages.push(format!("{}: {reason}, left out", directory.display())),
        }
    }
    units.sort_by(|a, b| a.name.cmp(&b.name));
    Some(units)
}

fn read_unit(entry: &fs::DirEntry) -> Result<UnitSource, String> {
    let file_name = entry.file_name();
    let shown = file_name.to_string_lossy();
    let name = UnitName::parse(&shown).map_err(|error| error.to_string())?;
    let metadata = entry.metadata().map_err(|error| format!("{name}: {error}"))?;
    if !metadata.is_file() {
        return Err(format!("{name} is not a regular file"));
    }
    if metadata.len() > LARGEST_UNIT {
        return Err(format!("{name} is larger than {LARGEST_UNIT} bytes"));
    }
    let text = fs::read_to_string(entry.path()).map_err(|error| format!("{name}: {error}"))?;
    if text.trim().is_empty() || text.contains('\0') {
        return Err(format!("{name} is empty or not a text"));
    }
    Ok(UnitSource { name, text })
}

/// A mount point of fstab that the state directory lies under and that is not mounted: what is seen
/// below it now is not what will be there.
fn mount_still_missing(paths: &Paths) -> Option<String> {
    let fstab = fs::read_to_string(&paths.fstab).unwrap_or_default();
    let mountinfo = fs::read_to_string(&paths.mountinfo).unwrap_or_default();
    missing_mount(&fstab, &mountinfo, Path::new(crate::render::STATE_ROOT)).map(str::to_owned)
}

/// Pure part of [`mount_still_missing`]: fstab(5) and proc_pid_mountinfo(5) as texts.
fn missing_mount<'a>(fstab: &'a str, mountinfo: &str, state: &Path) -> Option<&'a str> {
    let mounted = |point: &str| {
        mountinfo
            .lines()
            .filter_map(|line| line.split(' ').nth(4))
            .any(|mounted| mounted == point)
    };
    fstab
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let (point, options) = (fields.nth(1)?, fields.nth(1).unwrap_or_default());
            let by_hand = options.split(',').any(|option| option == "noauto");
            (!by_hand).then_some(point.trim_end_matches('/'))
        })
        .filter(|point| !point.is_empty() && state.starts_with(point))
        .find(|point| !mounted(point))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_switch_on_the_kernel_command_line() {
        for line in [
            "quiet nodectl.disable\n",
            "nodectl.disable=1",
            "/sbin/init\0nodectl.disable=yes\0",
        ] {
            assert!(says_disable(line), "{line:?}");
        }
        for line in [
            "",
            "nodectl.disable=0",
            "nodectl.disabled",
            "x-nodectl.disable",
            "nodectl.disable=no",
        ] {
            assert!(!says_disable(line), "{line:?}");
        }
    }

    #[test]
    fn a_mount_of_fstab_that_is_missing() {
        let root = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n";
        let var = "23 22 8:2 / /var rw - ext4 /dev/sda2 rw\n";
        let state = Path::new("/var/lib/nodectl");
        let cases: [(&str, String, Option<&str>); 8] = [
            ("", root.into(), None),
            ("/dev/sda1 / ext4 defaults 0 1", root.into(), None),
            ("/dev/sda2 /var ext4 defaults 0 2", root.into(), Some("/var")),
            ("/dev/sda2 /var/ ext4 defaults 0 2", root.into(), Some("/var")),
            ("/dev/sda2 /var ext4 defaults 0 2", format!("{root}{var}"), None),
            ("/dev/sda2 /var ext4 rw,noauto 0 2", root.into(), None),
            (
                "#/dev/sda2 /var ext4 defaults\n/dev/sda3 /variety ext4\nbad",
                root.into(),
                None,
            ),
            (
                "/dev/sda2 /var ext4 rw\n/dev/sda3 /var/lib/nodectl xfs rw",
                format!("{root}{var}"),
                Some("/var/lib/nodectl"),
            ),
        ];
        for (fstab, mountinfo, expected) in cases {
            assert_eq!(missing_mount(fstab, &mountinfo, state), expected, "{fstab}");
        }
    }
}

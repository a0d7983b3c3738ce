//! Which entries of the configuration node-run mounts itself, as plain data. libcontainer looks at
//! every mount from many sides, which costs more than the mount; what is left to it has to be
//! mounted from inside the service's namespaces.

use std::path::{Path, PathBuf};

use nix::mount::MsFlags;
use oci_spec::runtime::{LinuxNamespaceType, Mount, Spec};

use super::mounts::Entry;

/// Arguments of mount(2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileSystem {
    pub target: PathBuf,
    pub kind: String,
    pub flags: MsFlags,
    pub data: String,
}

impl FileSystem {
    /// `None` if an option is not known here.
    pub(super) fn of(mount: &Mount) -> Option<Self> {
        let mut flags = MsFlags::empty();
        let mut data = Vec::new();
        for option in mount.options().iter().flatten() {
            match flag(option) {
                Some(flag) => flags |= flag,
                None if option.contains('=') || option == "newinstance" => data.push(option.as_str()),
                None => return None,
            }
        }
        Some(Self {
            target: mount.destination().clone(),
            kind: mount.typ().clone()?,
            flags,
            data: data.join(","),
        })
    }
}

fn flag(option: &str) -> Option<MsFlags> {
    match option {
        "rw" => Some(MsFlags::empty()),
        "ro" => Some(MsFlags::MS_RDONLY),
        "nosuid" => Some(MsFlags::MS_NOSUID),
        "nodev" => Some(MsFlags::MS_NODEV),
        "noexec" => Some(MsFlags::MS_NOEXEC),
        "noatime" => Some(MsFlags::MS_NOATIME),
        "strictatime" => Some(MsFlags::MS_STRICTATIME),
        _ => None,
    }
}

/// What is to be done with one entry, in the order of the configuration.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// node-run mounts this file system.
    Mount(FileSystem),
    /// node-run attaches this bind mount.
    Bind,
    /// libcontainer mounts it.
    Leave,
}

/// The steps for all entries. What lies on or under something that is left is left as well, so that
/// the order is kept.
pub(super) fn steps(entries: &[Entry], spec: &Spec) -> Vec<Step> {
    let mut left: Vec<&Path> = Vec::new();
    let mut steps = Vec::new();
    for entry in entries {
        let target = entry.target();
        let entangled = left
            .iter()
            .any(|other| target.starts_with(other) || other.starts_with(target));
        let step = match entry {
            _ if entangled => Step::Leave,
            Entry::Bind(_) => Step::Bind,
            Entry::FileSystem(mount) if is_of_namespace(mount, spec) => Step::Leave,
            Entry::FileSystem(mount) => FileSystem::of(mount).map_or(Step::Leave, Step::Mount),
        };
        if step == Step::Leave {
            left.push(target);
        }
        steps.push(step);
    }
    steps
}

/// Whether a file system shows a namespace that the service has for itself.
fn is_of_namespace(mount: &Mount, spec: &Spec) -> bool {
    let namespaces = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.namespaces().as_ref());
    let private = |typ| {
        namespaces
            .into_iter()
            .flatten()
            .any(|namespace| namespace.typ() == typ)
    };
    match mount.typ().as_deref() {
        Some("tmpfs" | "devpts") => false,
        Some("proc") => private(LinuxNamespaceType::Pid),
        Some("sysfs") => private(LinuxNamespaceType::Network),
        Some("mqueue") => private(LinuxNamespaceType::Ipc),
        Some(_) | None => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::mounts::entries;
    use oci_spec::runtime::{LinuxBuilder, LinuxNamespaceBuilder, MountBuilder, SpecBuilder};

    fn mount(kind: &str, target: &str, options: &[&str]) -> Mount {
        MountBuilder::default()
            .destination(target)
            .source(kind)
            .typ(kind)
            .options(options.iter().map(|o| (*o).to_owned()).collect::<Vec<_>>())
            .build()
            .unwrap()
    }

    fn spec(private: &[LinuxNamespaceType]) -> Spec {
        let namespace =
            |typ: &LinuxNamespaceType| LinuxNamespaceBuilder::default().typ(*typ).build().unwrap();
        let namespaces: Vec<_> = private.iter().map(namespace).collect();
        let linux = LinuxBuilder::default().namespaces(namespaces).build().unwrap();
        SpecBuilder::default().linux(linux).build().unwrap()
    }

    fn left(mounts: &[Mount], spec: &Spec) -> Vec<String> {
        let entries = entries(mounts, Path::new("/b"));
        let pairs = entries.iter().zip(steps(&entries, spec));
        pairs
            .filter(|(_, step)| *step == Step::Leave)
            .map(|(entry, _)| entry.target().display().to_string())
            .collect()
    }

    #[test]
    fn only_what_shows_a_private_namespace_is_left() {
        let mounts = [
            mount("proc", "/proc", &["nosuid"]),
            mount("sysfs", "/sys", &["ro"]),
            mount("tmpfs", "/dev", &["mode=755"]),
            mount("mqueue", "/dev/mqueue", &[]),
            mount("devpts", "/dev/pts", &["newinstance"]),
        ];
        let all = [
            LinuxNamespaceType::Pid,
            LinuxNamespaceType::Network,
            LinuxNamespaceType::Ipc,
        ];
        assert_eq!(left(&mounts, &spec(&all)), ["/proc", "/sys", "/dev/mqueue"]);
        assert_eq!(left(&mounts, &spec(&all[..1])), ["/proc"]);
        assert_eq!(left(&mounts, &spec(&[])), Vec::<String>::new());
    }

    #[test]
    fn what_lies_on_something_left_follows_it() {
        let bind = mount("bind", "/sys/fs/cgroup", &["rbind"]);
        let mounts = [
            mount("sysfs", "/sys", &[]),
            bind,
            mount("mqueue", "/dev/mqueue", &[]),
            mount("tmpfs", "/dev", &[]),
            mount("tmpfs", "/run", &["tmpcopyup"]),
        ];
        let private = spec(&[LinuxNamespaceType::Network, LinuxNamespaceType::Ipc]);
        assert_eq!(
            left(&mounts, &private),
            ["/sys", "/sys/fs/cgroup", "/dev/mqueue", "/dev", "/run"]
        );
    }

    #[test]
    fn options_become_flags_and_data() {
        let found =
            FileSystem::of(&mount("tmpfs", "/run", &["nosuid", "ro", "mode=755", "size=1M"])).unwrap();
        assert_eq!(found.flags, MsFlags::MS_NOSUID | MsFlags::MS_RDONLY);
        assert_eq!(found.data, "mode=755,size=1M");
    }
}

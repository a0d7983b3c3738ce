//! The mounts of a bundle as plain data: what libcontainer shall make, and what node-run does itself
//! because libcontainer 0.7 ignores propagation on bind mounts and would populate a `/dev` that
//! belongs to the host.

use std::path::{Path, PathBuf};

use oci_spec::runtime::Mount;

use crate::sys::MountPropagation;

/// A bind mount of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bind {
    /// Host path; relative ones were joined to the bundle.
    pub source: PathBuf,
    pub target: PathBuf,
    pub recursive: bool,
    pub read_only: bool,
    pub propagation: MountPropagation,
}

/// One entry of the configuration, in order.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Entry {
    /// From the host: node-run takes it before it hides anything.
    Bind(Bind),
    /// A file system of its own: left to libcontainer, which is in the right namespaces for it.
    FileSystem(Mount),
}

impl Entry {
    pub(super) fn target(&self) -> &Path {
        match self {
            Self::Bind(bind) => &bind.target,
            Self::FileSystem(mount) => mount.destination(),
        }
    }
}

/// The entries of an OCI mount list.
pub(super) fn entries(mounts: &[Mount], bundle: &Path) -> Vec<Entry> {
    mounts.iter().map(|mount| entry(mount, bundle)).collect()
}

fn entry(mount: &Mount, bundle: &Path) -> Entry {
    let options: Vec<&str> = mount.options().iter().flatten().map(String::as_str).collect();
    let has = |names: &[&str]| options.iter().any(|option| names.contains(option));
    match mount.source() {
        Some(source) if has(&["bind", "rbind"]) => Entry::Bind(Bind {
            source: bundle.join(source),
            target: mount.destination().clone(),
            recursive: has(&["rbind"]),
            read_only: has(&["ro", "rro"]),
            propagation: if has(&["shared", "rshared"]) {
                MountPropagation::Shared
            } else if has(&["slave", "rslave"]) {
                MountPropagation::Slave
            } else {
                MountPropagation::Private
            },
        }),
        Some(_) | None => Entry::FileSystem(mount.clone()),
    }
}

/// Whether the host's `/dev` is the service's.
pub(super) fn has_host_dev(entries: &[Entry]) -> bool {
    entries
        .iter()
        .any(|e| matches!(e, Entry::Bind(bind) if bind.target == Path::new("/dev")))
}

/// Whether the mount of an open file passes mounts on: proc_pid_fdinfo(5) names it, its line in
/// proc_pid_mountinfo(5) has a field `shared:`.
pub(super) fn is_shared(fdinfo: &str, mountinfo: &str) -> bool {
    let id = fdinfo
        .lines()
        .find_map(|line| line.strip_prefix("mnt_id:"))
        .map(str::trim);
    let line = mountinfo
        .lines()
        .find(|line| id.is_some() && line.split(' ').next() == id);
    let fields = line.into_iter().flat_map(|line| line.split(' ').skip(6));
    let mut optional = fields.take_while(|field| *field != "-");
    optional.any(|field| field.starts_with("shared:"))
}

/// Where a host path shows inside the service, if it does.
pub(super) fn visible_at(entries: &[Entry], host: &Path) -> Option<PathBuf> {
    let mut inside = None;
    for entry in entries {
        if inside
            .as_deref()
            .is_some_and(|path: &Path| path.starts_with(entry.target()))
        {
            inside = None;
        }
        if let Entry::Bind(bind) = entry
            && let Ok(rest) = host.strip_prefix(&bind.source)
        {
            let path = bind.target.join(rest);
            inside = Some(if rest.as_os_str().is_empty() {
                bind.target.clone()
            } else {
                path
            });
        }
    }
    inside
}

/// What a target is mounted onto: the last earlier entry whose target it is beneath, or the
/// image's tree (`None`).
fn parent_of(entries: &[Entry], index: usize) -> Option<&Entry> {
    let target = entries.get(index)?.target();
    let beneath = |entry: &&Entry| target.starts_with(entry.target()) && target != entry.target();
    entries.get(..index)?.iter().rev().find(beneath)
}

/// A mount point that would have to be made on the host, below the source of another mount: a
/// launch does not do that, since nobody would take it away again.
pub(super) fn on_host_and_missing(entries: &[Entry], exists: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    entries.iter().enumerate().find_map(|(index, entry)| {
        let Some(Entry::Bind(parent)) = parent_of(entries, index) else {
            return None;
        };
        let rest = entry.target().strip_prefix(&parent.target).ok()?;
        let on_host = parent.source.join(rest);
        (!exists(&on_host)).then_some(on_host)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::MountBuilder;

    fn bind(source: &str, target: &str, options: &[&str]) -> Mount {
        MountBuilder::default()
            .destination(target)
            .source(source)
            .typ("bind")
            .options(options.iter().map(|o| (*o).to_owned()).collect::<Vec<_>>())
            .build()
            .unwrap()
    }

    fn tmpfs(target: &str) -> Mount {
        MountBuilder::default()
            .destination(target)
            .source("tmpfs")
            .typ("tmpfs")
            .build()
            .unwrap()
    }

    #[test]
    fn options_become_attributes_and_sources_absolute() {
        let mounts = [
            bind("files/a", "/etc/a", &["bind", "private", "ro"]),
            bind("/run", "/run", &["rbind", "rslave", "rw"]),
            bind("/srv", "/srv", &["rbind", "rshared", "rro"]),
            tmpfs("/tmp"),
        ];
        let all = entries(&mounts, Path::new("/b"));
        let facts: Vec<_> = all
            .iter()
            .filter_map(|entry| match entry {
                Entry::Bind(b) => Some((b.source.to_str()?, b.recursive, b.read_only, b.propagation)),
                Entry::FileSystem(_) => None,
            })
            .collect();
        assert_eq!(
            facts,
            [
                ("/b/files/a", false, true, MountPropagation::Private),
                ("/run", true, false, MountPropagation::Slave),
                ("/srv", true, true, MountPropagation::Shared),
            ]
        );
    }

    #[test]
    fn visibility_follows_the_order_of_mounts() {
        let notify = Path::new("/run/systemd/notify");
        let at = |mounts: &[Mount]| visible_at(&entries(mounts, Path::new("/b")), notify);
        let run = bind("/run", "/run", &["rbind"]);
        assert_eq!(at(std::slice::from_ref(&run)).as_deref(), Some(notify));
        assert_eq!(at(&[tmpfs("/run")]), None);
        assert_eq!(at(&[run.clone(), tmpfs("/run/systemd")]), None);
        let moved = bind("/run", "/host/run", &["bind"]);
        assert_eq!(
            at(&[moved, tmpfs("/run")]).unwrap(),
            Path::new("/host/run/systemd/notify")
        );
        let socket = bind("/run/systemd/notify", "/run/n", &["bind"]);
        assert_eq!(at(&[tmpfs("/run"), socket]).unwrap(), Path::new("/run/n"));
    }

    #[test]
    fn a_target_lies_on_the_last_mount_above_it() {
        let all = entries(
            &[tmpfs("/run"), tmpfs("/run/a"), tmpfs("/run/a/b"), tmpfs("/etc")],
            Path::new("/"),
        );
        assert_eq!(parent_of(&all, 2).map(Entry::target), Some(Path::new("/run/a")));
        assert_eq!(parent_of(&all, 3), None);
        assert_eq!(parent_of(&all, 0), None);
    }

    #[test]
    fn shared_mounts_are_told_from_others() {
        let table = "21 1 8:1 / / rw shared:1 - ext4 /dev/a rw\n\
                     22 21 0:5 / /a rw master:1 - tmpfs shared:7 rw\n\
                     23 21 0:6 / /b rw - tmpfs t rw\n\
                     2 21 0:7 / /c rw master:1 shared:9 - tmpfs t rw\n";
        let shared = |id: u32| is_shared(&format!("pos:\t0\nmnt_id:\t{id}\nino:\t3\n"), table);
        assert_eq!([21, 22, 23, 2, 3].map(shared), [true, false, false, true, false]);
        assert!(!is_shared("", table));
    }

    #[test]
    fn mount_points_on_the_host_have_to_exist() {
        let run = bind("/run", "/host", &["rbind"]);
        let all = entries(
            &[tmpfs("/tmp"), run, tmpfs("/host/a"), tmpfs("/tmp/x")],
            Path::new("/"),
        );
        assert_eq!(on_host_and_missing(&all, |_| true), None);
        assert_eq!(on_host_and_missing(&all, |_| false).unwrap(), Path::new("/run/a"));
    }
}

//! The private mount namespace in which a container is created: the root, the sources of its mounts
//! and libcontainer's own state, all in memory that vanishes with node-run, and nothing else. The
//! host's mounts are out of sight, which makes libcontainer's many looks at the mount table cheap;
//! so is the cgroup file system, so that it takes no cgroup action at all: the service stays in its
//! unit's cgroup, and no clean-up can kill what else is in there.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{chdir, pivot_root};
use oci_spec::runtime::{Mount, MountBuilder, Spec};

use super::mounts::{self, Bind, Entry};
use super::skeleton::{self, MountPoint};
use super::{Bundle, StartError, credentials};
use crate::sys::{self, MountPropagation};

const ROOT: &str = "/root";
const NOTIFY_INSIDE: &str = "/run/host/notify";

/// What the preparation leaves for libcontainer.
pub(super) struct Prepared {
    /// OCI bundle with the effective configuration's mounts and root.
    pub spec: Spec,
    /// Where its `config.json` goes.
    pub bundle: PathBuf,
    /// Root path for libcontainer's state.
    pub state: PathBuf,
    /// Whether the tmpfs on `/dev` hides the host's, which the service shall see.
    pub host_dev: bool,
    /// Where the supervisor's notify socket shows inside.
    pub notify_socket: Option<PathBuf>,
}

/// A bind mount taken from the host before anything was changed.
struct Taken {
    bind: Bind,
    mount: OwnedFd,
    directory: bool,
}

enum Source {
    Taken(Taken),
    FileSystem(Mount),
}

/// Prepares the mount namespace of this process. `stage` is a directory of the host that serves as
/// mount point and stays empty there; `notify` is the supervisor's socket if the service shall have
/// it.
pub(super) fn prepare(bundle: &Bundle, stage: &Path, notify: Option<&Path>) -> Result<Prepared, StartError> {
    std::fs::create_dir_all(stage).map_err(StartError::path("make", stage))?;
    let mut entries = present_entries(bundle)?;
    find_sysctls(&bundle.spec)?;
    let notify_socket = notify.map(|socket| show(&mut entries, socket)).transpose()?;
    unshare(CloneFlags::CLONE_NEWNS).map_err(|e| StartError::call("unshare mounts")(e.into()))?;
    let host_dev = mounts::has_host_dev(&entries);
    let sources = take(&entries)?;
    let tree = take_mount(bundle.tree(), MountPropagation::Private, true, false)?;
    let proc = take_mount(Path::new("/proc"), MountPropagation::Private, false, false)?;
    cover(stage)?;

    let secrets = make(stage, "credentials")?;
    let secrets = credentials::render(&bundle.launch.credential_files, &secrets)?;
    place_root(bundle, stage, &tree, wanted(&entries, &sources, &secrets))?;
    let mut list = place_sources(sources, stage, host_dev)?;
    for (source, target) in secrets {
        list.push(bind_mount(&after_move(stage, &source), &target, false)?);
    }
    move_into(stage, &proc)?;
    let mut spec = bundle.spec.clone();
    spec.set_mounts(Some(list));
    if let Some(linux) = spec.linux_mut() {
        linux.set_resources(None);
    }
    if let Some(oci_root) = spec.root_mut() {
        oci_root.set_path(ROOT.into());
    }
    Ok(Prepared {
        spec,
        bundle: "/bundle".into(),
        state: "/state".into(),
        host_dev,
        notify_socket,
    })
}

/// A directory of the stage.
fn make(stage: &Path, name: &str) -> Result<PathBuf, StartError> {
    let path = stage.join(name);
    std::fs::create_dir_all(&path).map_err(StartError::path("make", &path))?;
    Ok(path)
}

/// Where a path of the stage is once the stage is the root.
fn after_move(stage: &Path, path: &Path) -> PathBuf {
    Path::new("/").join(path.strip_prefix(stage).unwrap_or(path))
}

/// From here on nothing that is mounted travels to the host; the stage is memory.
fn cover(stage: &Path) -> Result<(), StartError> {
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none)
        .map_err(|e| StartError::path("make slave", "/")(e.into()))?;
    mount(
        Some("tmpfs"),
        stage,
        Some("tmpfs"),
        MsFlags::MS_NOSUID,
        Some("mode=0700"),
    )
    .map_err(|e| StartError::path("mount tmpfs on", stage)(e.into()))
}

/// Makes the stage the root of this mount namespace and lets go of all else.
fn move_into(stage: &Path, proc: &OwnedFd) -> Result<(), StartError> {
    let target = make(stage, "proc")?;
    sys::attach_mount(proc.as_fd(), &target).map_err(StartError::path("mount on", &target))?;
    // What libcontainer takes for a host without any cgroup controller.
    make(stage, "sys/fs/cgroup")?;
    let failed = |e: nix::errno::Errno| StartError::path("move into", stage)(e.into());
    chdir(stage).map_err(failed)?;
    // The old root ends on top of the new one; pivot_root(2), NOTES.
    pivot_root(".", ".").map_err(failed)?;
    umount2(".", MntFlags::MNT_DETACH).map_err(failed)?;
    chdir("/").map_err(failed)
}

/// libcontainer does not tell which kernel parameter it could not find.
fn find_sysctls(spec: &Spec) -> Result<(), StartError> {
    let sysctls = spec.linux().as_ref().and_then(|linux| linux.sysctl().as_ref());
    for key in sysctls.into_iter().flat_map(|sysctls| sysctls.keys()) {
        let path = Path::new("/proc/sys").join(key.replace('.', "/"));
        std::fs::metadata(&path).map_err(StartError::path("find kernel parameter", &path))?;
    }
    Ok(())
}

/// Makes the notify socket visible, unless it already is.
fn show(entries: &mut Vec<Entry>, socket: &Path) -> Result<PathBuf, StartError> {
    if let Some(inside) = mounts::visible_at(entries, socket) {
        return Ok(inside);
    }
    let run_is_private = entries
        .iter()
        .any(|e| matches!(e, Entry::FileSystem(_)) && e.target() == Path::new("/run"));
    if !run_is_private || !socket.is_absolute() {
        let reason = "cannot be shown inside: /run is neither private nor the host's".to_owned();
        return Err(StartError::Bundle {
            path: socket.to_owned(),
            reason,
        });
    }
    entries.push(Entry::Bind(Bind {
        source: socket.to_owned(),
        target: NOTIFY_INSIDE.into(),
        recursive: false,
        read_only: false,
        propagation: MountPropagation::Private,
    }));
    Ok(NOTIFY_INSIDE.into())
}

/// The entries of the configuration without optional ones whose source is missing.
fn present_entries(bundle: &Bundle) -> Result<Vec<Entry>, StartError> {
    let listed = bundle.spec.mounts().as_deref().unwrap_or_default();
    let mut entries = mounts::entries(listed, &bundle.path);
    entries.retain(|entry| match entry {
        Entry::Bind(bind) => bind.source.exists() || !bundle.launch.optional_mounts.contains(&bind.target),
        Entry::FileSystem(_) => true,
    });
    match mounts::on_host_and_missing(&entries, Path::exists) {
        None => Ok(entries),
        Some(path) => {
            let reason = "is a mount point on the host and missing there".to_owned();
            Err(StartError::Bundle { path, reason })
        }
    }
}

fn take(entries: &[Entry]) -> Result<Vec<Source>, StartError> {
    entries.iter().map(take_one).collect()
}

fn take_one(entry: &Entry) -> Result<Source, StartError> {
    match entry {
        Entry::FileSystem(mount) => Ok(Source::FileSystem(mount.clone())),
        Entry::Bind(bind) => {
            let found = std::fs::metadata(&bind.source);
            let directory = found
                .map_err(StartError::path("find mount source", &bind.source))?
                .is_dir();
            let mount = take_mount(&bind.source, bind.propagation, bind.read_only, bind.recursive)?;
            Ok(Source::Taken(Taken {
                bind: bind.clone(),
                mount,
                directory,
            }))
        }
    }
}

fn take_mount(
    path: &Path,
    propagation: MountPropagation,
    read_only: bool,
    recursive: bool,
) -> Result<OwnedFd, StartError> {
    let mount = sys::clone_mount(path, recursive).map_err(StartError::path("take mount", path))?;
    sys::set_mount_attributes(mount.as_fd(), propagation, read_only, recursive)
        .map_err(StartError::path("set mount attributes of", path))?;
    Ok(mount)
}

/// The mount points that have to be in the image's tree: those that no other mount provides.
fn wanted(entries: &[Entry], sources: &[Source], secrets: &[(PathBuf, PathBuf)]) -> Vec<MountPoint> {
    let on_tree = |target: &Path| {
        !entries
            .iter()
            .any(|entry| target.starts_with(entry.target()) && target != entry.target())
    };
    let mut points: Vec<MountPoint> = sources
        .iter()
        .map(|source| match source {
            Source::Taken(taken) => MountPoint {
                target: taken.bind.target.clone(),
                directory: taken.directory,
            },
            Source::FileSystem(mount) => MountPoint {
                target: mount.destination().clone(),
                directory: true,
            },
        })
        .filter(|point| on_tree(&point.target))
        .collect();
    let files = secrets
        .iter()
        .map(|(_, target)| target)
        .filter(|target| on_tree(target));
    points.extend(files.map(|t| MountPoint {
        target: t.clone(),
        directory: false,
    }));
    points
}

/// The image's tree, read-only, with the mount points it lacks laid over it.
fn place_root(
    bundle: &Bundle,
    stage: &Path,
    tree: &OwnedFd,
    wanted: Vec<MountPoint>,
) -> Result<(), StartError> {
    let root = make(stage, "root")?;
    let missing = skeleton::missing(bundle.tree(), wanted)?;
    if missing.is_empty() {
        return sys::attach_mount(tree.as_fd(), &root).map_err(StartError::path("mount root on", &root));
    }
    let layer = make(stage, "skeleton")?;
    skeleton::make(bundle.tree(), &layer, &missing)?;
    // By its own path, so that the mount table tells which tree is in use.
    let layers = format!("lowerdir={}:{}", layer.display(), bundle.tree().display());
    mount(
        Some("overlay"),
        &root,
        Some("overlay"),
        MsFlags::MS_RDONLY,
        Some(layers.as_str()),
    )
    .map_err(|e| StartError::path("lay mount points over", bundle.tree())(e.into()))
}

/// Attaches the taken mounts where libcontainer finds them. The host's /dev goes onto the root at
/// once and gets covered by a tmpfs for libcontainer to populate, which the workload takes away.
fn place_sources(sources: Vec<Source>, stage: &Path, host_dev: bool) -> Result<Vec<Mount>, StartError> {
    let staged = make(stage, "sources")?;
    let root = stage.join("root");
    let mut list = Vec::new();
    for (number, source) in sources.into_iter().enumerate() {
        match source {
            Source::FileSystem(mount) => list.push(mount),
            Source::Taken(taken) if host_dev && taken.bind.target.starts_with("/dev") => {
                let target = root.join(taken.bind.target.strip_prefix("/").unwrap_or(&taken.bind.target));
                sys::attach_mount(taken.mount.as_fd(), &target)
                    .map_err(StartError::path("mount on", &taken.bind.target))?;
                if taken.bind.target == Path::new("/dev") {
                    list.push(cover_dev()?);
                }
            }
            Source::Taken(taken) => {
                let path = staged.join(number.to_string());
                let made = match taken.directory {
                    true => std::fs::create_dir(&path),
                    false => std::fs::File::create_new(&path).map(drop),
                };
                made.and_then(|()| sys::attach_mount(taken.mount.as_fd(), &path))
                    .map_err(StartError::path("attach mount of", &taken.bind.source))?;
                list.push(bind_mount(
                    &after_move(stage, &path),
                    &taken.bind.target,
                    taken.bind.recursive,
                )?);
            }
        }
    }
    Ok(list)
}

fn bind_mount(source: &Path, target: &Path, recursive: bool) -> Result<Mount, StartError> {
    let option = if recursive { "rbind" } else { "bind" };
    let builder = MountBuilder::default()
        .destination(target)
        .source(source)
        .typ("bind");
    built(builder.options(vec![option.to_owned()]))
}

fn cover_dev() -> Result<Mount, StartError> {
    let options = ["nosuid", "mode=755", "size=64k"].map(str::to_owned).to_vec();
    built(
        MountBuilder::default()
            .destination("/dev")
            .source("tmpfs")
            .typ("tmpfs")
            .options(options),
    )
}

fn built(builder: MountBuilder) -> Result<Mount, StartError> {
    builder.build().map_err(|source| StartError::Config {
        path: "config.json".into(),
        source,
    })
}

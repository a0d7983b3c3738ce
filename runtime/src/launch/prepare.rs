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
use oci_spec::runtime::Spec;

use super::mounts::{self, Bind, Entry};
use super::place::{self, Root, take_mount};
use super::skeleton::{self, MountPoint};
use super::{Bundle, CredentialFile, StartError, credentials};
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
    let sources = place::take(&entries, &bundle.spec)?;
    let tree = take_mount(bundle.tree(), MountPropagation::Private, true, false)?;
    let proc = take_mount(Path::new("/proc"), MountPropagation::Private, false, false)?;
    cover(stage)?;

    let secrets = render_secrets(&bundle.launch.credential_files, stage)?;
    let root = place_root(bundle, stage, &tree, place::wanted(&entries, &sources, &secrets))?;
    let list = root.place(sources)?;
    for (source, target) in secrets {
        root.attach(
            &take_mount(&source, MountPropagation::Private, false, false)?,
            &target,
            false,
        )?;
    }
    let process = bundle.spec.process().as_ref();
    process.map_or(Ok(()), |process| {
        root.find_working_directory(process.cwd(), &list)
    })?;
    if host_dev {
        root.cover_dev()?;
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
pub(super) fn make(stage: &Path, name: &str) -> Result<PathBuf, StartError> {
    let path = stage.join(name);
    std::fs::create_dir_all(&path).map_err(StartError::path("make", &path))?;
    Ok(path)
}

/// Where a path of the stage is once the stage is the root.
pub(super) fn after_move(stage: &Path, path: &Path) -> PathBuf {
    Path::new("/").join(path.strip_prefix(stage).unwrap_or(path))
}

/// The files with secrets, in memory that is never written to a swap device.
fn render_secrets(files: &[CredentialFile], stage: &Path) -> Result<Vec<(PathBuf, PathBuf)>, StartError> {
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let directory = make(stage, "credentials")?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("ramfs"), &directory, Some("ramfs"), flags, Some("mode=0700"))
        .map_err(|e| StartError::path("mount ramfs on", &directory)(e.into()))?;
    credentials::render(files, &directory)
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
    skeleton::open_path(&target)
        .and_then(|point| sys::attach_mount(proc.as_fd(), point.as_fd()))
        .map_err(StartError::path("mount on", &target))?;
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

/// The image's tree, read-only, with the mount points it lacks laid over it.
fn place_root<'a>(
    bundle: &Bundle,
    stage: &'a Path,
    tree: &OwnedFd,
    wanted: Vec<MountPoint>,
) -> Result<Root<'a>, StartError> {
    let root = make(stage, "root")?;
    let missing = skeleton::missing(bundle.tree(), wanted)?;
    if missing.is_empty() {
        skeleton::open_path(&root)
            .and_then(|point| sys::attach_mount(tree.as_fd(), point.as_fd()))
            .map_err(StartError::path("mount root on", &root))?;
        return Root::open(stage, &root);
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
    .map_err(|e| StartError::path("lay mount points over", bundle.tree())(e.into()))?;
    Root::open(stage, &root)
}

//! Taking the mounts of a service from the host, and putting them onto its root.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use oci_spec::runtime::{Mount, MountBuilder, Spec};

use super::StartError;
use super::filesystems::{FileSystem, Step, steps};
use super::mounts::{self, Bind, Entry};
use super::prepare::{after_move, make};
use super::skeleton::{self, MountPoint, mount_point};
use crate::sys::{self, MountPropagation};

/// A bind mount taken from the host before anything was changed.
pub(super) struct Taken {
    bind: Bind,
    mount: OwnedFd,
    directory: bool,
}

/// One mount of the service, ready to be placed.
pub(super) enum Source {
    /// Attached here.
    Bind(Taken),
    /// Mounted here.
    Mount(FileSystem),
    /// Bind mount for libcontainer.
    LeftBind(Taken),
    /// File system for libcontainer.
    LeftMount(Mount),
}

/// What has to happen to the entries, with the bind mounts of the host in hand.
pub(super) fn take(entries: &[Entry], spec: &Spec) -> Result<Vec<Source>, StartError> {
    let source = |(entry, step): (&Entry, Step)| {
        Ok(match (entry, step) {
            (_, Step::Mount(file_system)) => Source::Mount(file_system),
            (Entry::Bind(bind), Step::Bind) => Source::Bind(take_bind(bind)?),
            (Entry::Bind(bind), Step::Leave) => Source::LeftBind(take_bind(bind)?),
            (Entry::FileSystem(mount), Step::Bind | Step::Leave) => Source::LeftMount(mount.clone()),
        })
    };
    entries.iter().zip(steps(entries, spec)).map(source).collect()
}

fn take_bind(bind: &Bind) -> Result<Taken, StartError> {
    let found = std::fs::metadata(&bind.source);
    let directory = found
        .map_err(StartError::path("find mount source", &bind.source))?
        .is_dir();
    if bind.propagation == MountPropagation::Shared {
        find_shared(&bind.source)?;
    }
    Ok(Taken {
        bind: bind.clone(),
        mount: take_mount(&bind.source, bind.propagation, bind.read_only, bind.recursive)?,
        directory,
    })
}

pub(super) fn take_mount(
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

/// Mounts of the service would stay in it, without a word, if the host's mount was not shared.
fn find_shared(path: &Path) -> Result<(), StartError> {
    let read = |file: &str| std::fs::read_to_string(file).map_err(StartError::path("read", file));
    let open = skeleton::open_path(path).map_err(StartError::path("open mount source", path))?;
    let info = read(&format!("/proc/self/fdinfo/{}", open.as_raw_fd()))?;
    match mounts::is_shared(&info, &read("/proc/self/mountinfo")?) {
        true => Ok(()),
        false => Err(StartError::Bundle {
            path: path.to_owned(),
            reason: "propagation `shared` needs a shared mount, and the host's mount there is private"
                .to_owned(),
        }),
    }
}

/// The mount points that have to be in the image's tree: those that no other mount provides.
pub(super) fn wanted(
    entries: &[Entry],
    sources: &[Source],
    secrets: &[(PathBuf, PathBuf)],
) -> Vec<MountPoint> {
    let on_tree = |target: &Path| {
        !entries
            .iter()
            .any(|entry| target.starts_with(entry.target()) && target != entry.target())
    };
    let mut points: Vec<MountPoint> = sources
        .iter()
        .map(Source::mount_point)
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

impl Source {
    fn mount_point(&self) -> MountPoint {
        match self {
            Self::Bind(taken) | Self::LeftBind(taken) => MountPoint {
                target: taken.bind.target.clone(),
                directory: taken.directory,
            },
            Self::Mount(FileSystem { target, .. }) => MountPoint {
                target: target.clone(),
                directory: true,
            },
            Self::LeftMount(mount) => MountPoint {
                target: mount.destination().clone(),
                directory: true,
            },
        }
    }
}

/// The root of a service while it is put together.
pub(super) struct Root<'a> {
    stage: &'a Path,
    directory: OwnedFd,
}

impl<'a> Root<'a> {
    /// The one at `root`, which is on the stage.
    pub(super) fn open(stage: &'a Path, root: &Path) -> Result<Self, StartError> {
        let directory = skeleton::open_path(root).map_err(StartError::path("open root", root))?;
        Ok(Self { stage, directory })
    }

    /// Places the mounts in their order. The answer is what libcontainer has to mount.
    pub(super) fn place(&self, sources: Vec<Source>) -> Result<Vec<Mount>, StartError> {
        let mut list = Vec::new();
        for source in sources {
            match source {
                Source::Mount(file_system) => self.mount(&file_system)?,
                Source::Bind(taken) => self.attach(&taken.mount, &taken.bind.target, taken.directory)?,
                Source::LeftMount(mount) => list.push(mount),
                Source::LeftBind(taken) => {
                    let staged = make(self.stage, "sources")?.join(list.len().to_string());
                    list.push(self.stage_bind(&taken, &staged)?);
                }
            }
        }
        Ok(list)
    }

    /// Attaches a detached mount.
    pub(super) fn attach(&self, mount: &OwnedFd, target: &Path, directory: bool) -> Result<(), StartError> {
        let failed = || StartError::path("mount on", target);
        let point = mount_point(&self.directory, target, directory).map_err(failed())?;
        sys::attach_mount(mount.as_fd(), point.as_fd()).map_err(failed())
    }

    /// Mounts a file system.
    pub(super) fn mount(&self, what: &FileSystem) -> Result<(), StartError> {
        let failed = || StartError::path("mount on", &what.target);
        let point = mount_point(&self.directory, &what.target, true).map_err(failed())?;
        let kind = what.kind.as_str();
        let at = PathBuf::from(format!("/proc/self/fd/{}", point.as_raw_fd()));
        mount(Some(kind), &at, Some(kind), what.flags, Some(what.data.as_str()))
            .map_err(|e| failed()(e.into()))
    }

    /// Covers the host's `/dev` with a tmpfs for libcontainer to populate; the workload takes it away.
    pub(super) fn cover_dev(&self) -> Result<(), StartError> {
        self.mount(&FileSystem {
            target: "/dev".into(),
            kind: "tmpfs".to_owned(),
            flags: MsFlags::MS_NOSUID,
            data: "mode=755,size=64k".to_owned(),
        })
    }

    /// libcontainer does not tell which directory it could not enter.
    pub(super) fn find_working_directory(&self, cwd: &Path, left: &[Mount]) -> Result<(), StartError> {
        if left.iter().any(|mount| cwd.starts_with(mount.destination())) {
            return Ok(());
        }
        let failed = || StartError::path("enter working directory", cwd);
        let found = skeleton::resolve(&self.directory, cwd).map_err(|e| failed()(e.into()))?;
        match std::fs::File::from(found).metadata().map_err(failed())?.is_dir() {
            true => Ok(()),
            false => Err(failed()(std::io::ErrorKind::NotADirectory.into())),
        }
    }

    /// Attaches a bind mount where libcontainer finds it.
    fn stage_bind(&self, taken: &Taken, path: &Path) -> Result<Mount, StartError> {
        let made = match taken.directory {
            true => std::fs::create_dir(path),
            false => std::fs::File::create_new(path).map(drop),
        };
        made.and_then(|()| skeleton::open_path(path))
            .and_then(|point| sys::attach_mount(taken.mount.as_fd(), point.as_fd()))
            .map_err(StartError::path("attach mount of", &taken.bind.source))?;
        let option = if taken.bind.recursive { "rbind" } else { "bind" };
        MountBuilder::default()
            .destination(&taken.bind.target)
            .source(after_move(self.stage, path))
            .typ("bind")
            .options(vec![option.to_owned()])
            .build()
            .map_err(|source| StartError::Config {
                path: "config.json".into(),
                source,
            })
    }
}

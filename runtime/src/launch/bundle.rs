//! Finding and reading the bundle that a unit names.

use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;

use super::skeleton::{self, MountPoint};
use super::{Launch, StartError};

/// A bundle as read from disk.
#[derive(Debug)]
pub struct Bundle {
    /// Its directory, absolute and without symbolic links.
    pub path: PathBuf,
    /// Its OCI configuration.
    pub spec: Spec,
    /// Its launch document.
    pub launch: Launch,
    /// Its compiled filter, if it has one.
    pub filter: Option<Vec<u8>>,
}

/// The bundle of `service` with this digest: that of the current deployment, or, between a switch
/// and the reload of units, of any other.
///
/// # Errors
/// No deployment has it.
pub fn find(state_root: &Path, service: &str, digest: &str) -> Result<PathBuf, StartError> {
    let deployments = state_root.join("deployments");
    let matches = |bundle: &Path| {
        std::fs::read_to_string(bundle.join("digest")).is_ok_and(|found| found.trim() == digest)
    };
    let current = state_root.join("current/services").join(service);
    let others = std::fs::read_dir(&deployments)
        .map_err(StartError::path("read", &deployments))?
        .filter_map(Result::ok)
        .map(|entry| entry.path().join("services").join(service));
    let found = std::iter::once(current)
        .chain(others)
        .find(|bundle| matches(bundle));
    match found {
        Some(path) => path.canonicalize().map_err(StartError::path("resolve", path)),
        None => Err(StartError::NoBundle {
            deployments,
            service: service.to_owned(),
            digest: digest.to_owned(),
        }),
    }
}

impl Bundle {
    /// Reads a bundle and refuses what must never be started.
    ///
    /// # Errors
    /// Missing or malformed parts, a cgroup path whose clean-up would kill others, a root that is
    /// not an absolute directory.
    pub fn load(path: &Path) -> Result<Self, StartError> {
        let launch = Launch::load(path)?;
        let config = path.join("config.json");
        let spec = Spec::load(&config).map_err(|source| StartError::Config {
            path: config.clone(),
            source,
        })?;
        let bad = |reason: &str| StartError::Bundle {
            path: config.clone(),
            reason: reason.to_owned(),
        };
        let cgroup = spec
            .linux()
            .as_ref()
            .and_then(|linux| linux.cgroups_path().as_deref());
        if !cgroup.is_some_and(has_own_cgroup) {
            return Err(bad("linux.cgroupsPath has to name a cgroup of its own"));
        }
        let root = spec.root().as_ref().ok_or_else(|| bad("root is missing"))?;
        if !root.path().is_absolute() || root.readonly() != Some(true) {
            return Err(bad("root.path has to be absolute and root.readonly true"));
        }
        if spec
            .process()
            .as_ref()
            .and_then(|p| p.args().as_ref())
            .is_none_or(Vec::is_empty)
        {
            return Err(bad("process.args is empty"));
        }
        let filter = match launch.seccomp {
            true => Some(load_filter(&path.join("seccomp.bpf"))?),
            false => None,
        };
        Ok(Self {
            path: path.to_owned(),
            spec,
            launch,
            filter,
        })
    }

    /// The image's tree.
    pub fn tree(&self) -> &Path {
        self.spec
            .root()
            .as_ref()
            .map_or(Path::new("/nonexistent"), |root| root.path())
    }

    /// Whether the image has this path, resolved as a process inside would.
    pub fn in_tree(&self, path: &Path) -> bool {
        let wanted = MountPoint {
            target: path.to_owned(),
            directory: false,
        };
        skeleton::missing(self.tree(), vec![wanted]).is_ok_and(|missing| missing.is_empty())
    }
}

/// Runtimes kill every process of this cgroup when they clean up, so it is never the root.
fn has_own_cgroup(path: &Path) -> bool {
    let mut names = path
        .components()
        .filter(|c| matches!(c, std::path::Component::Normal(_)));
    let climbs = path
        .components()
        .any(|c| matches!(c, std::path::Component::ParentDir));
    path.is_absolute() && !climbs && names.next().is_some()
}

fn load_filter(path: &Path) -> Result<Vec<u8>, StartError> {
    let program = std::fs::read(path).map_err(StartError::path("read", path))?;
    if program.is_empty() || !program.len().is_multiple_of(8) {
        let reason = "is not a compiled seccomp filter".to_owned();
        return Err(StartError::Bundle {
            path: path.to_owned(),
            reason,
        });
    }
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroups_of_others_are_refused() {
        let table = [
            ("/nodectl/nova", true),
            ("/", false),
            ("", false),
            ("/..", false),
            ("/a/../..", false),
            ("relative", false),
            ("//", false),
        ];
        for (path, own) in table {
            assert_eq!(has_own_cgroup(Path::new(path)), own, "{path}");
        }
    }

    #[test]
    fn the_bundle_is_found_by_digest_in_any_deployment() {
        let root = tempfile::tempdir().unwrap();
        for (seq, digest) in [("1", "aaa\n"), ("2", "bbb\n")] {
            let bundle = root.path().join(format!("deployments/{seq}/services/nova"));
            std::fs::create_dir_all(&bundle).unwrap();
            std::fs::write(bundle.join("digest"), digest).unwrap();
        }
        std::os::unix::fs::symlink("deployments/2", root.path().join("current")).unwrap();
        for (digest, seq) in [("aaa", "1"), ("bbb", "2")] {
            let found = find(root.path(), "nova", digest).unwrap();
            assert!(
                found.ends_with(format!("deployments/{seq}/services/nova")),
                "{found:?}"
            );
        }
        let error = find(root.path(), "nova", "ccc").unwrap_err().to_string();
        assert!(error.contains("nova") && error.contains("ccc"), "{error}");
    }
}

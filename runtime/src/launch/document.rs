//! `launch.json`: the part of a bundle that the OCI runtime specification has no place for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::spec::container::Limits;
use crate::spec::values::Mode;
use crate::spec::{Resolved, SpecError};

/// Format of `launch.json` that this version writes; it reads this and older ones.
pub const FORMAT: u32 = 1;

/// How node-run launches a bundle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Launch {
    /// Format of this document, [`FORMAT`].
    pub format: u32,
    /// Name of the service, also that of its unit without `.service`.
    pub service: String,
    /// When the unit counts as started.
    #[serde(default)]
    pub readiness: Readiness,
    /// How long readiness may take, in seconds; the unit's TimeoutStartSec= bounds it as well.
    #[serde(default = "ninety")]
    pub start_timeout_seconds: u64,
    /// Host directories to make before the mounts.
    #[serde(default)]
    pub directories: Vec<HostDirectory>,
    /// Limits that the service inherits from node-run.
    #[serde(default)]
    pub limits: Limits,
    /// Targets of mounts that are left out when their source is missing.
    #[serde(default)]
    pub optional_mounts: Vec<PathBuf>,
    /// Files made from the unit's credentials.
    #[serde(default)]
    pub credential_files: Vec<CredentialFile>,
    /// Whether the bundle has a compiled filter, `seccomp.bpf`.
    #[serde(default)]
    pub seccomp: bool,
}

fn ninety() -> u64 {
    90
}

/// What makes a unit *started*. All units are Type=notify; the kinds differ in who sends READY=1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", tag = "kind")]
pub enum Readiness {
    /// The service itself, by sd_notify(3).
    Notify,
    /// node-run, as soon as the service's program has been executed.
    #[default]
    Started,
    /// node-run, when a connection to this unix socket succeeds.
    UnixSocket {
        /// Absolute path inside the service.
        path: PathBuf,
    },
    /// node-run, when this command, run inside the service, exits with 0.
    Exec {
        /// Command with its arguments.
        command: Vec<String>,
    },
}

/// A host directory with its owner by number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostDirectory {
    /// Absolute path on the host.
    pub path: PathBuf,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Mode.
    pub mode: Mode,
}

/// An INI file that is made at launch, because it holds values of credentials. It lives in memory
/// that only this service sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CredentialFile {
    /// Absolute path inside the service.
    pub target: PathBuf,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Mode.
    pub mode: Mode,
    /// Section → key → name of the credential (systemd.exec(5), CREDENTIALS) whose content, without
    /// a trailing newline, is the value.
    pub ini: BTreeMap<String, BTreeMap<String, String>>,
}

/// A `launch.json` that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The file could not be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not a launch document.
    #[error("{path} is not a launch document")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// The file comes from a newer version.
    #[error("{path} has format {found}, this node-run knows up to {FORMAT}")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
}

impl Launch {
    /// Reads `launch.json` of a bundle.
    ///
    /// # Errors
    /// The file is missing, malformed or from a newer version.
    pub fn load(bundle: &Path) -> Result<Self, LaunchError> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let path = bundle.join("launch.json");
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(source) => return Err(LaunchError::Read { path, source }),
        };
        match serde_json::from_slice::<Format>(&bytes) {
            Ok(Format { format }) if format > FORMAT => {
                return Err(LaunchError::Newer { path, found: format });
            }
            Ok(Format { .. }) => {}
            Err(source) => return Err(LaunchError::Parse { path, source }),
        }
        serde_json::from_slice(&bytes).map_err(|source| LaunchError::Parse { path, source })
    }
}

/// The launch document of a resolved service. Pure.
///
/// # Errors
/// A directory's owner is not known to the image, or a value is one that the launcher could not use.
pub fn launch_document(
    resolved: &Resolved<'_>,
    readiness: Readiness,
    start_timeout_seconds: u64,
    credential_files: Vec<CredentialFile>,
) -> Result<Launch, SpecError> {
    let accounts = resolved.accounts();
    let directory = |d: &crate::spec::container::Directory| -> Result<HostDirectory, SpecError> {
        let section = || format!("directory {}", d.path.display());
        let account = |source| SpecError::Account {
            section: section(),
            source,
        };
        Ok(HostDirectory {
            path: crate::spec::absolute(&section, &d.path)?,
            uid: accounts.uid(&d.user).map_err(account)?,
            gid: accounts.gid(&d.group).map_err(account)?,
            mode: d.mode,
        })
    };
    let container = resolved.container;
    let readiness = usable(readiness)?;
    check_limits(&container.limits)?;
    Ok(Launch {
        format: FORMAT,
        service: resolved.service.to_owned(),
        readiness,
        start_timeout_seconds,
        directories: container
            .directories
            .iter()
            .map(directory)
            .collect::<Result<_, _>>()?,
        limits: container.limits,
        optional_mounts: container
            .mounts
            .iter()
            .filter(|mount| mount.optional)
            .map(|mount| mount.target.clone())
            .collect(),
        credential_files,
        seccomp: resolved.seccomp,
    })
}

fn usable(readiness: Readiness) -> Result<Readiness, SpecError> {
    match readiness {
        Readiness::Notify | Readiness::Started => Ok(readiness),
        Readiness::UnixSocket { path } => {
            let path = crate::spec::absolute(&|| "readiness.path".to_owned(), &path)?;
            Ok(Readiness::UnixSocket { path })
        }
        Readiness::Exec { command } => {
            crate::spec::executable("readiness.command", &command)?;
            Ok(Readiness::Exec { command })
        }
    }
}

/// The kernel's own bounds; proc_pid_oom_score_adj(5).
fn check_limits(limits: &Limits) -> Result<(), SpecError> {
    match limits.oom_score_adj {
        Some(adjust) if !(-1000..=1000).contains(&adjust) => Err(SpecError::Invalid {
            section: "limits.oom_score_adj".to_owned(),
            reason: format!("{adjust} is not between -1000 and 1000"),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use oci_spec::image::ImageConfiguration;

    use super::*;
    use crate::spec::container::Container;
    use crate::spec::tests::bare;

    fn refusal(readiness: Readiness, container: &str) -> Option<String> {
        let container: Container = serde_json::from_str(container).unwrap();
        let image = ImageConfiguration::default();
        let made = launch_document(&bare(&container, &image), readiness, 1, Vec::new());
        made.err().map(|e| e.to_string())
    }

    #[test]
    fn what_the_launcher_could_not_use_is_refused_by_name() {
        let command = |words: &[&str]| Readiness::Exec {
            command: words.iter().map(|word| (*word).to_owned()).collect(),
        };
        let socket = |path: &str| Readiness::UnixSocket { path: path.into() };
        for fine in [
            Readiness::Notify,
            Readiness::Started,
            command(&["/a", ""]),
            socket("/run/a"),
        ] {
            assert_eq!(refusal(fine, r#"{"limits": {"oom_score_adj": -1000}}"#), None);
        }
        for (wrong, name) in [
            (command(&[]), "readiness.command"),
            (command(&[""]), "readiness.command"),
            (command(&["/a", "\0"]), "readiness.command"),
            (socket("run/a"), "readiness.path"),
            (socket("/run/../a"), "readiness.path"),
        ] {
            let text = refusal(wrong.clone(), "{}").expect("it can't be used");
            assert!(text.contains(name), "{wrong:?}: {text}");
        }
        for adjust in [-1001, 1001] {
            let text = refusal(
                Readiness::Started,
                &format!(r#"{{"limits": {{"oom_score_adj": {adjust}}}}}"#),
            );
            assert!(text.expect("out of range").contains("oom_score_adj"));
        }
    }
}

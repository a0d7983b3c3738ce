//! System call filters that a release brings for its services.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use node_runtime::seccomp;
use node_runtime::spec::seccomp::Seccomp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::document::ReleaseError;
use crate::definition::Definition;
use crate::error::{AgentError, Result};

/// A system call filter in the format of the OCI runtime specification (config-linux.md, seccomp).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct SeccompProfile(Value);

impl SeccompProfile {
    /// The program that seccomp(2) loads.
    ///
    /// # Errors
    /// It is not a profile, or asks for what this version does not support.
    pub fn compile(&self) -> std::result::Result<Vec<u8>, seccomp::CompileError> {
        seccomp::compile(&self.0.to_string())
    }
}

/// The filters of a release by name.
pub type SeccompProfiles = BTreeMap<String, SeccompProfile>;

/// Reads the files that a release definition names, relative to it.
pub(super) fn load(base: &Path, files: &BTreeMap<String, PathBuf>) -> Result<SeccompProfiles> {
    let one = |(name, file): (&String, &PathBuf)| {
        let path = base.join(file);
        let broken = || AgentError::config(format!("seccomp profile {name}, {}", path.display()));
        let text = std::fs::read_to_string(&path).map_err(|e| broken().because(e))?;
        let value = serde_json::from_str(&text).map_err(|e| broken().because(e))?;
        Ok((name.clone(), SeccompProfile(value)))
    };
    files.iter().map(one).collect()
}

/// Checks that every profile can be compiled.
pub(super) fn check_filters(profiles: &SeccompProfiles) -> std::result::Result<(), ReleaseError> {
    for (name, profile) in profiles {
        profile.compile().map_err(|source| ReleaseError::Seccomp {
            profile: name.clone(),
            source,
        })?;
    }
    Ok(())
}

/// Checks that every profile that a service names is there.
pub(super) fn check_names(
    profiles: &SeccompProfiles,
    services: &BTreeMap<String, Definition>,
) -> std::result::Result<(), ReleaseError> {
    for (service, definition) in services {
        if let Seccomp::Profile { name } = &definition.container.seccomp
            && !profiles.contains_key(name)
        {
            let text = format!("seccomp profile {name} of service {service} is not in the release");
            return Err(ReleaseError::Mismatch(text));
        }
    }
    Ok(())
}

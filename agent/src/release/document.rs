//! The release document: what is signed.

use std::collections::{BTreeMap, BTreeSet};

use node_images::digest::Digest;
use node_runtime::seccomp::CompileError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::choice::{self, Choice};
use super::profiles::{self, SeccompProfiles};
use crate::definition::{Definition, DefinitionError};
use crate::parameters::ParameterSpec;

/// Format of release documents that this version reads and writes.
pub const FORMAT: u32 = 1;

/// Artifact type of a release in a registry, and media type of its document.
pub const MEDIA_TYPE: &str = "application/vnd.nodectl.release.v1+json";

/// A release. Canonical JSON of this is what a signature covers, through the manifest's digest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseDocument {
    /// Format of this document, [`FORMAT`].
    pub format: u32,
    /// Name of the release.
    pub name: String,
    /// Version of the release.
    pub version: String,
    /// Images by name.
    pub images: BTreeMap<String, ImageBinding>,
    /// Service definitions by service name.
    pub services: BTreeMap<String, Definition>,
    /// Services that stand in for each other, by the name of the choice.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub choices: BTreeMap<String, Choice>,
    /// Parameters by name.
    #[serde(default)]
    pub parameters: BTreeMap<String, ParameterSpec>,
    /// System call filters by the name that service definitions use.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub seccomp_profiles: SeccompProfiles,
    /// How long and how a new deployment is watched.
    #[serde(default)]
    pub probation: Probation,
    /// What it needs from nodectl itself.
    #[serde(default)]
    pub requires: ReleaseRequires,
}

/// An image bound to its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageBinding {
    /// Repository: a sibling of the release's own, or absolute if its first part names a registry
    /// (has a dot or a colon, or is `localhost`).
    pub repository: String,
    /// Digest of the platform's manifest.
    pub digest: Digest,
    /// Size of that manifest in bytes.
    pub size: u64,
    /// Labels of the image that matter for the way back.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// How a new deployment is watched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Probation {
    /// How long it is watched, in seconds.
    pub window_sec: u32,
    /// How many attempts (activations, reboots, restarts of noded) it gets in all.
    pub tries: u32,
    /// How long it is held open, in seconds, while gates say no whose trouble is not this node's.
    pub hold_sec: u32,
}

impl Default for Probation {
    fn default() -> Self {
        Probation {
            window_sec: 60,
            tries: 3,
            hold_sec: 300,
        }
    }
}

/// What a release needs from nodectl itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReleaseRequires {
    /// Oldest version of nodectl that can run it.
    pub agent: Option<String>,
}

/// A release document that contradicts itself or this version.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// Not a release document at all.
    #[error("not a release document")]
    Syntax(#[source] serde_json::Error),
    /// Written for another version.
    #[error("release format {0} is not known to this version, which reads format {FORMAT}")]
    Format(u32),
    /// Needs a newer nodectl.
    #[error("release needs nodectl {needed}, this is {present}")]
    AgentTooOld {
        /// What it needs.
        needed: String,
        /// What is here.
        present: String,
    },
    /// One of its services is wrong.
    #[error("service {service}")]
    Service {
        /// Its name.
        service: String,
        /// What is wrong.
        #[source]
        source: DefinitionError,
    },
    /// One of its system call filters is wrong.
    #[error("seccomp profile {profile}")]
    Seccomp {
        /// Its name.
        profile: String,
        /// What is wrong.
        #[source]
        source: CompileError,
    },
    /// Anything that does not fit together.
    #[error("{0}")]
    Mismatch(String),
}

impl ReleaseDocument {
    /// Reads and checks a document.
    ///
    /// # Errors
    /// It is not one, is of another format, or contradicts itself.
    pub fn parse(bytes: &[u8]) -> Result<ReleaseDocument, ReleaseError> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let format: Format = serde_json::from_slice(bytes).map_err(ReleaseError::Syntax)?;
        if format.format != FORMAT {
            return Err(ReleaseError::Format(format.format));
        }
        let document: ReleaseDocument = serde_json::from_slice(bytes).map_err(ReleaseError::Syntax)?;
        document.check()?;
        Ok(document)
    }

    /// Reads and checks a document that comes from elsewhere, its system call filters too. Those of a deployment were
    /// compiled when it was staged; doing it again at each load would cost every command milliseconds.
    ///
    /// # Errors
    /// As for [`ReleaseDocument::parse`], or a filter can't be compiled.
    pub fn accept(bytes: &[u8]) -> Result<ReleaseDocument, ReleaseError> {
        let document = ReleaseDocument::parse(bytes)?;
        document.check_filters()?;
        Ok(document)
    }

    /// Checks that the system call filters can be compiled.
    ///
    /// # Errors
    /// The first one that can't.
    pub fn check_filters(&self) -> Result<(), ReleaseError> {
        profiles::check_filters(&self.seccomp_profiles)
    }

    /// The bytes that are stored and signed.
    ///
    /// # Errors
    /// None in practice: every key is a string.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ReleaseError> {
        serde_json::to_vec(self).map_err(ReleaseError::Syntax)
    }

    /// Checks that everything that is referred to is there.
    ///
    /// # Errors
    /// The first thing that does not fit together.
    pub fn check(&self) -> Result<(), ReleaseError> {
        if let Some(needed) = &self.requires.agent {
            check_agent(needed)?;
        }
        if self.services.is_empty() {
            return Err(ReleaseError::Mismatch("release has no services".into()));
        }
        for (name, definition) in &self.services {
            self.check_service(name, definition)?;
        }
        if let Some(text) = choice::contradiction(&self.choices, &self.services) {
            return Err(ReleaseError::Mismatch(text));
        }
        profiles::check_names(&self.seccomp_profiles, &self.services)?;
        for (name, spec) in &self.parameters {
            match &spec.default {
                Some(value) if !spec.kind.accepts(value) => {
                    let text = format!("default of parameter {name} has to be {}, not {value}", spec.kind);
                    return Err(ReleaseError::Mismatch(text));
                }
                Some(_) | None => {}
            }
        }
        if self.probation.tries == 0 {
            return Err(ReleaseError::Mismatch("probation.tries has to be above 0".into()));
        }
        Ok(())
    }

    fn check_service(&self, name: &str, definition: &Definition) -> Result<(), ReleaseError> {
        definition.check().map_err(|source| ReleaseError::Service {
            service: name.into(),
            source,
        })?;
        if definition.name != name {
            return Err(ReleaseError::Mismatch(format!(
                "service {name} calls itself {}",
                definition.name
            )));
        }
        if !self.images.contains_key(&definition.image) {
            let text = format!(
                "image {} of service {name} is not in the release",
                definition.image
            );
            return Err(ReleaseError::Mismatch(text));
        }
        for parameter in definition.parameters() {
            if !self.parameters.contains_key(parameter) {
                let text = format!("parameter {parameter} of service {name} is not declared in the release");
                return Err(ReleaseError::Mismatch(text));
            }
        }
        Ok(())
    }

    /// Names of the images that these services use.
    pub fn images_of<'a>(&'a self, services: impl IntoIterator<Item = &'a str>) -> BTreeSet<&'a str> {
        services
            .into_iter()
            .filter_map(|s| self.services.get(s))
            .map(|d| d.image.as_str())
            .collect()
    }
}

fn check_agent(needed: &str) -> Result<(), ReleaseError> {
    let present = env!("CARGO_PKG_VERSION");
    let parts = |v: &str| -> Option<Vec<u64>> { v.split('.').map(|p| p.parse().ok()).collect() };
    match (parts(needed), parts(present)) {
        (Some(n), Some(p)) if n <= p => Ok(()),
        (Some(_), _) => Err(ReleaseError::AgentTooOld {
            needed: needed.into(),
            present: present.into(),
        }),
        (None, _) => Err(ReleaseError::Mismatch(format!(
            "requires.agent {needed:?} is not a version"
        ))),
    }
}

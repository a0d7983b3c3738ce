//! The release definition: what an author writes, and how it becomes a release document.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::choice::Choice;
use super::document::{FORMAT, ImageBinding, Probation, ReleaseDocument, ReleaseRequires};
use super::profiles;
use crate::definition::Definition;
use crate::error::{AgentError, Result};
use crate::parameters::ParameterSpec;

/// A release as its author writes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseDefinition {
    /// Format of this document, 1.
    pub format: u32,
    /// Name of the release.
    pub name: String,
    /// Version of the release.
    pub version: String,
    /// Service definition files, relative to this file.
    pub services: Vec<PathBuf>,
    /// Images by the name that service definitions use.
    pub images: BTreeMap<String, ImageSource>,
    /// Services that stand in for each other, by the name of the choice.
    #[serde(default)]
    pub choices: BTreeMap<String, Choice>,
    /// Parameters by name.
    #[serde(default)]
    pub parameters: BTreeMap<String, ParameterSpec>,
    /// System call filters by the name that service definitions use: files in the format of the OCI runtime
    /// specification (config-linux.md, seccomp), relative to this file.
    #[serde(default)]
    pub seccomp_profiles: BTreeMap<String, PathBuf>,
    /// How a new deployment is watched.
    #[serde(default)]
    pub probation: Probation,
    /// What the release needs from nodectl itself.
    #[serde(default)]
    pub requires: ReleaseRequires,
}

/// Where the build finds an image, and where nodes will.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageSource {
    /// Repository that nodes fetch from: a sibling of the release's own, or absolute.
    pub repository: String,
    /// OCI layout directory to take the digest from, relative to this file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<PathBuf>,
    /// Tag in the repository or name in the layout to take the digest from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
}

impl ReleaseDefinition {
    /// Reads a release definition file.
    ///
    /// # Errors
    /// The file can't be read, is not TOML, or has unknown keys.
    pub fn load(path: &Path) -> Result<ReleaseDefinition> {
        let shown = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|e| AgentError::config(format!("can't read release definition {shown}")).because(e))?;
        let broken = || AgentError::config(format!("{shown} is not a release definition"));
        let definition: ReleaseDefinition = toml::from_str(&text).map_err(|e| broken().because(e))?;
        if definition.format != FORMAT {
            let text = format!(
                "format {} is not known to this version, which reads format {FORMAT}",
                definition.format
            );
            return Err(broken().because(text));
        }
        Ok(definition)
    }

    /// Binds the release: reads its service definitions (paths relative to `base`), and puts in the
    /// digests of its images.
    ///
    /// # Errors
    /// A service definition is wrong, an image has no binding, or the parts do not fit together.
    pub fn bind(&self, base: &Path, images: BTreeMap<String, ImageBinding>) -> Result<ReleaseDocument> {
        let mut services = BTreeMap::new();
        for path in &self.services {
            let definition = Definition::load(&base.join(path))?;
            if let Some(twice) = services.insert(definition.name.clone(), definition) {
                return Err(AgentError::config(format!(
                    "service {} is defined twice",
                    twice.name
                )));
            }
        }
        if let Some(name) = self.images.keys().find(|name| !images.contains_key(*name)) {
            return Err(AgentError::config(format!("image {name} has no digest")));
        }
        let document = ReleaseDocument {
            format: FORMAT,
            name: self.name.clone(),
            version: self.version.clone(),
            images,
            services,
            choices: self.choices.clone(),
            parameters: self.parameters.clone(),
            seccomp_profiles: profiles::load(base, &self.seccomp_profiles)?,
            probation: self.probation.clone(),
            requires: self.requires.clone(),
        };
        document
            .check()
            .and_then(|()| document.check_filters())
            .map_err(|e| {
                AgentError::config(format!(
                    "release {} {} does not fit together",
                    self.name, self.version
                ))
                .because(e)
            })?;
        Ok(document)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use node_images::digest::Digest;

    /// The release definition that comes with the project.
    fn shipped() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../images/releases/compute.toml")
    }

    fn bindings(definition: &ReleaseDefinition) -> BTreeMap<String, ImageBinding> {
        let bind = |(name, source): (&String, &ImageSource)| {
            let binding = ImageBinding {
                repository: source.repository.clone(),
                digest: Digest::of(name.as_bytes()),
                size: 1,
                labels: BTreeMap::new(),
            };
            (name.clone(), binding)
        };
        definition.images.iter().map(bind).collect()
    }

    #[test]
    fn the_shipped_release_binds_and_reads_back() {
        let path = shipped();
        let definition = ReleaseDefinition::load(&path).unwrap();
        let document = definition
            .bind(path.parent().unwrap(), bindings(&definition))
            .unwrap();
        assert_eq!(document.services.len(), definition.services.len());
        let again = ReleaseDocument::parse(&document.to_bytes().unwrap()).unwrap();
        assert_eq!(again, document);
    }

    #[test]
    fn what_does_not_fit_together_is_named() {
        let path = shipped();
        let base = path.parent().unwrap();
        let definition = ReleaseDefinition::load(&path).unwrap();
        let images = bindings(&definition);
        let error = |d: &ReleaseDefinition| d.bind(base, images.clone()).unwrap_err().chain();

        let mut broken = definition.clone();
        broken.parameters.remove("my_ip");
        assert!(error(&broken).contains("parameter my_ip of service nova-compute is not declared"));

        let mut broken = definition.clone();
        broken.images.insert(
            "other".into(),
            ImageSource {
                repository: "o".into(),
                layout: None,
                tag: None,
            },
        );
        assert!(error(&broken).contains("image other has no digest"));

        let mut broken = definition.clone();
        broken.requires.agent = Some("999.0.0".into());
        assert!(error(&broken).contains("needs nodectl 999.0.0"));

        let mut broken = definition.clone();
        broken.seccomp_profiles.clear();
        assert!(error(&broken).contains("seccomp profile virtualisation of service libvirtd is not in"));

        let mut broken = definition.clone();
        broken
            .seccomp_profiles
            .insert("bad".into(), "compute.toml".into());
        assert!(error(&broken).contains("seccomp profile bad, "));
        let no_profile = "../../docs/schema/plan.json".into();
        broken.seccomp_profiles.insert("bad".into(), no_profile);
        assert!(error(&broken).contains("seccomp profile bad: not a seccomp profile"));

        let mut broken = definition;
        broken.services.push("../services/missing.toml".into());
        assert!(error(&broken).contains("missing.toml"));
    }
}

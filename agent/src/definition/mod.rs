//! Service definition: how one service runs as a system container.
//!
//! Written by the author of a release, signed with it, the same on every node. Values that differ
//! between nodes are references to parameters, facts and secrets.

mod cell;
mod content;
mod files;
mod gate;
mod handover;
mod state;
mod target;
mod validate;

use std::path::Path;

use node_runtime::launch::Readiness;
use node_runtime::spec::container::Container;
use node_systemd::ServiceUnit;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use cell::CellProgram;
pub use content::{Content, Fact, Scalar};
pub use files::{FileFormat, RenderedFile, SecretFile, SecretValue};
pub use gate::{Gate, Probe, Scope, When};
pub use handover::{Handover, HandoverKind};
pub use state::{Requires, Restore, StatePath};
pub use target::{HttpTarget, http_target};
pub use validate::DefinitionError;
pub(crate) use validate::{check_ini_key, check_ini_word};

use crate::api::Disruption;
use crate::error::{AgentError, Result};

/// Format of service definitions that this version reads.
pub const FORMAT: u32 = 1;

/// How one service runs as a system container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// Format of this document, [`FORMAT`].
    pub format: u32,
    /// Name of the service: the native unit name without `.service`.
    pub name: String,
    /// One line for people.
    pub description: String,
    /// Name of its image; the release binds it to a digest.
    pub image: String,
    /// How far an update of this service reaches beyond the service itself.
    #[serde(default)]
    pub disruption: Disruption,
    /// How the container is made.
    #[serde(default)]
    pub container: Container,
    /// The systemd unit.
    #[serde(default)]
    pub unit: ServiceUnit,
    /// When the unit counts as started.
    #[serde(default)]
    pub readiness: Readiness,
    /// Configuration files rendered when a deployment is staged.
    #[serde(default)]
    pub files: Vec<RenderedFile>,
    /// Configuration files with secrets, rendered when the service starts.
    #[serde(default)]
    pub secret_files: Vec<SecretFile>,
    /// Checks that must hold.
    #[serde(default)]
    pub gates: Vec<Gate>,
    /// What its process leaves to the next one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handover: Option<Handover>,
    /// State that is saved before a switch and restored on the way back.
    #[serde(default)]
    pub state: Vec<StatePath>,
    /// What the host must offer.
    #[serde(default)]
    pub requires: Requires,
    /// How nova's cell is asked, for the service that is registered in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cell: Option<CellProgram>,
}

impl Definition {
    /// Reads and checks the text of a definition; `origin` names it in errors.
    ///
    /// # Errors
    /// The text is not TOML, has unknown keys or values out of range, or contradicts itself.
    pub fn parse(text: &str, origin: &Path) -> Result<Definition> {
        let broken = || AgentError::config(format!("{} is not a service definition", origin.display()));
        let definition: Definition = toml::from_str(text).map_err(|e| broken().because(e))?;
        definition.check().map_err(|e| broken().because(e))?;
        Ok(definition)
    }

    /// Reads and checks a definition file.
    ///
    /// # Errors
    /// The file can't be read, or as for [`Definition::parse`].
    pub fn load(path: &Path) -> Result<Definition> {
        let text = std::fs::read_to_string(path).map_err(|e| {
            AgentError::config(format!("can't read service definition {}", path.display())).because(e)
        })?;
        Definition::parse(&text, path)
    }

    /// Names of all secrets it uses, sorted.
    pub fn secrets(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.secret_files.iter().flat_map(SecretFile::secrets).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Names of all parameters it uses, sorted.
    pub fn parameters(&self) -> Vec<&str> {
        let mut names = Vec::new();
        for file in &self.files {
            file.content.values().for_each(|c| c.parameters(&mut names));
        }
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The gates that are asked at this point.
    pub fn gates_at(&self, when: When) -> impl Iterator<Item = &Gate> {
        self.gates.iter().filter(move |g| g.when.contains(&when))
    }
}

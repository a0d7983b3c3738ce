//! Configuration files of a service.

use std::collections::BTreeMap;
use std::path::PathBuf;

use node_runtime::spec::values::Mode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::content::Content;

/// A file rendered when a deployment is staged, mounted read-only into the container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RenderedFile {
    /// Absolute path inside the container.
    pub target: PathBuf,
    /// How `content` is written.
    pub format: FileFormat,
    /// Owner, by the image's own passwd; `root` if absent.
    #[serde(default = "root")]
    pub user: String,
    /// Group, by the image's own group file; `root` if absent.
    #[serde(default = "root")]
    pub group: String,
    /// Mode; 0644 if absent.
    #[serde(default = "mode_0644")]
    pub mode: Mode,
    /// Typed values; for every format but `text`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub content: BTreeMap<String, Content>,
    /// Literal text; for format `text` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FileFormat {
    /// Sections of `key = value`, as oslo.config reads them; a list repeats its key.
    Ini,
    /// TOML 1.0.
    Toml,
    /// JSON, RFC 8259.
    Json,
    /// Literal text.
    Text,
}

/// An INI file with secrets, made when the service starts, in memory that only it sees.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretFile {
    /// Absolute path inside the container.
    pub target: PathBuf,
    /// Owner, by the image's own passwd; `root` if absent.
    #[serde(default = "root")]
    pub user: String,
    /// Group, by the image's own group file; `root` if absent.
    #[serde(default = "root")]
    pub group: String,
    /// Mode; 0400 if absent.
    #[serde(default = "mode_0400")]
    pub mode: Mode,
    /// Section → key → value.
    pub content: BTreeMap<String, BTreeMap<String, SecretValue>>,
}

/// A value of a secret file: `{ secret = "name" }`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretValue {
    /// Name of the secret; the node's configuration says where it is.
    pub secret: String,
}

impl SecretFile {
    /// Names of the secrets in this file, in the order of its content.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        self.content
            .values()
            .flat_map(BTreeMap::values)
            .map(|v| v.secret.as_str())
    }
}

fn root() -> String {
    "root".into()
}

fn mode_0644() -> Mode {
    Mode::new(0o644)
}

fn mode_0400() -> Mode {
    Mode::new(0o400)
}

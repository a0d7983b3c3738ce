//! The image definition: a typed TOML document that says what an image holds.
//!
//! A definition with `[archive]` starts from nothing; one with `base` adds a layer to the image of
//! the definition of that name in the same directory. Unknown keys are errors.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::BuildError;
use super::validate;

/// The only format that this version reads.
pub const FORMAT: u32 = 1;

/// An image definition as written.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Definition {
    /// Format of the document: [`FORMAT`].
    pub format: u32,
    /// The image's name; the file is `NAME.toml`.
    pub name: String,
    /// One line for people; becomes `org.opencontainers.image.description`.
    pub description: String,
    /// The definition whose image this one adds a layer to.
    pub base: Option<String>,
    /// Where packages come from. Exactly the definitions without `base` have it.
    pub archive: Option<Archive>,
    /// Packages to install, without recommends.
    #[serde(default)]
    pub packages: Vec<String>,
    /// Empty packages that satisfy a dependency which the image does not need, by package name.
    #[serde(default)]
    pub stand_ins: BTreeMap<String, StandIn>,
    /// Groups with their ids, made before any package is configured.
    #[serde(default)]
    pub groups: BTreeMap<String, u32>,
    /// Users with their ids, made before any package is configured.
    #[serde(default)]
    pub users: BTreeMap<String, User>,
    /// Directories to make, for example mount points.
    #[serde(default)]
    pub directories: Vec<Directory>,
    /// Files to write over what the packages brought.
    #[serde(default)]
    pub files: Vec<File>,
    /// Paths to leave out, also in images that build on this one; `*` matches within a name.
    #[serde(default)]
    pub remove: Vec<String>,
    /// Exceptions from `remove`.
    #[serde(default)]
    pub keep: Vec<String>,
    /// Labels of the image, besides those that the build finds out itself.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// How to run the image; what is left out comes from the base.
    #[serde(default)]
    pub config: Config,
    /// The package whose version is the image's version; what is left out comes from the base.
    pub version_of: Option<String>,
    /// How layers are compressed; what is left out comes from the base.
    pub compression: Option<Compression>,
}

/// Where packages come from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Archive {
    /// Debian's name of the release, for example `bookworm`.
    pub suite: String,
    /// Debian's name of the architecture, for example `amd64`.
    pub architecture: String,
    /// The repositories; the first one has the suite itself.
    pub sources: Vec<Source>,
    /// Time stamp (RFC 3339) that stands for "when built"; later file times become this one, so it
    /// is part of what the image is. A fixed value keeps an image the same until a package changes.
    pub epoch: jiff::Timestamp,
}

/// One repository.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Source {
    /// URI as sources.list(5) has it.
    pub uri: String,
    /// Suite, for example `bookworm-security`.
    pub suite: String,
    /// Components, for example `main`.
    pub components: Vec<String>,
    /// Key ring on the build host that the release file must be signed with.
    pub keyring: PathBuf,
}

/// An empty package in place of a real one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct StandIn {
    /// Virtual packages it provides.
    #[serde(default)]
    pub provides: Vec<String>,
    /// Why the image does without the real one; goes into the package's description.
    pub reason: String,
}

/// A user with fixed ids.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Name of the primary group.
    pub group: String,
    /// Names of further groups.
    #[serde(default)]
    pub groups: BTreeSet<String>,
    /// Home directory.
    #[serde(default = "nonexistent")]
    pub home: String,
    /// Login shell.
    #[serde(default = "nologin")]
    pub shell: String,
}

/// A directory of the image.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Directory {
    /// Absolute path.
    pub path: String,
    /// Permission bits, octal text as chmod(1) takes it.
    #[serde(default = "mode_0755")]
    pub mode: Mode,
    /// Owner.
    #[serde(default)]
    pub uid: u32,
    /// Group.
    #[serde(default)]
    pub gid: u32,
}

/// A file of the image.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct File {
    /// Absolute path.
    pub path: String,
    /// The content.
    pub content: String,
    /// Permission bits, octal text as chmod(1) takes it.
    #[serde(default = "mode_0644")]
    pub mode: Mode,
    /// Owner.
    #[serde(default)]
    pub uid: u32,
    /// Group.
    #[serde(default)]
    pub gid: u32,
}

/// Permission bits, written as octal text: `"0755"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mode(pub u32);

/// How to run the image (OCI image-spec, config.md).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Program and leading arguments.
    pub entrypoint: Option<Vec<String>>,
    /// Default arguments.
    pub cmd: Option<Vec<String>>,
    /// Environment; added to that of the base.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// User, as name or number.
    pub user: Option<String>,
    /// Working directory.
    pub working_dir: Option<String>,
    /// Signal that stops it, for example `SIGTERM`.
    pub stop_signal: Option<String>,
}

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// gzip, readable by everything.
    Gzip,
    /// Zstandard, several times faster to unpack.
    Zstd,
}

/// A definition that passed its checks, with the file it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The definition.
    pub definition: Definition,
    /// Its file.
    pub file: PathBuf,
}

impl TryFrom<String> for Mode {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match u32::from_str_radix(&text, 8) {
            Ok(bits) if bits <= 0o7777 => Ok(Self(bits)),
            Ok(_) | Err(_) => Err(format!("{text:?} is not an octal mode such as \"0755\"")),
        }
    }
}

impl From<Mode> for String {
    fn from(mode: Mode) -> Self {
        format!("{:04o}", mode.0)
    }
}

/// Parses and checks the text of the definition in `file`.
///
/// # Errors
/// [`BuildError::Syntax`] and [`BuildError::Definition`], naming the key.
pub fn parse(text: &str, file: &Path) -> Result<Definition, BuildError> {
    let definition: Definition = toml::from_str(text).map_err(|source| BuildError::Syntax {
        file: file.to_owned(),
        source: Box::new(source),
    })?;
    validate::check(&definition, file).map_err(|problem| BuildError::Definition {
        file: file.to_owned(),
        problem,
    })?;
    Ok(definition)
}

/// Reads the definition in `file` and those it builds on, the lowest first.
///
/// # Errors
/// [`BuildError`] for an unreadable file, a mistake in one, or a circle.
pub fn load_chain(file: &Path) -> Result<Vec<Loaded>, BuildError> {
    let mut chain: Vec<Loaded> = Vec::new();
    let mut next = Some(file.to_owned());
    while let Some(file) = next {
        let text = fs::read_to_string(&file).map_err(BuildError::io("read the definition", &file))?;
        let definition = parse(&text, &file)?;
        next = match &definition.base {
            Some(name)
                if *name == definition.name || chain.iter().any(|upper| upper.definition.name == *name) =>
            {
                return Err(BuildError::Circle {
                    name: name.clone(),
                    file,
                });
            }
            Some(name) => Some(file.with_file_name(format!("{name}.toml"))),
            None => None,
        };
        chain.push(Loaded { definition, file });
    }
    chain.reverse();
    Ok(chain)
}

fn nonexistent() -> String {
    "/nonexistent".to_owned()
}

fn nologin() -> String {
    "/usr/sbin/nologin".to_owned()
}

fn mode_0755() -> Mode {
    Mode(0o755)
}

fn mode_0644() -> Mode {
    Mode(0o644)
}

//! The image definition: a typed TOML document that says what an image holds.
//!
//! A definition with `[archive]` starts from nothing; one with `base` adds a layer to the image of
//! the definition of that name in the same directory. Unknown keys are errors.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::BuildError;

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
    check(&definition, file).map_err(|problem| BuildError::Definition {
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

fn check(definition: &Definition, file: &Path) -> Result<(), String> {
    if definition.format != FORMAT {
        return Err(format!(
            "format {} is not known, this version reads format {FORMAT}",
            definition.format
        ));
    }
    if file.file_stem().and_then(|stem| stem.to_str()) != Some(&definition.name) {
        return Err(format!("name {:?} is not the file's name", definition.name));
    }
    check_name("name", &definition.name)?;
    match (&definition.base, &definition.archive) {
        (Some(_), Some(_)) => return Err("both base and archive are given".to_owned()),
        (None, None) => return Err("neither base nor archive is given".to_owned()),
        (Some(base), None) => check_name("base", base)?,
        (None, Some(archive)) => check_archive(archive)?,
    }
    for package in definition.packages.iter().chain(definition.stand_ins.keys()) {
        check_name("packages", package)?;
    }
    check_accounts(definition)?;
    check_paths(definition)
}

fn check_archive(archive: &Archive) -> Result<(), String> {
    match archive.sources.first() {
        None => return Err("archive.sources is empty".to_owned()),
        Some(first) if first.suite != archive.suite => {
            return Err(format!(
                "archive.sources: the first one must have suite {:?}",
                archive.suite
            ));
        }
        Some(_) => {}
    }
    if archive.epoch.as_second() < 0 {
        return Err("archive.epoch is before 1970".to_owned());
    }
    let plain = |text: &str| !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c == ']');
    for source in &archive.sources {
        let keyring = source.keyring.to_string_lossy();
        for text in [&source.uri, &source.suite, keyring.as_ref()]
            .into_iter()
            .chain(source.components.iter().map(String::as_str))
        {
            if !plain(text) {
                return Err(format!("archive.sources: {text:?} is empty or has white space"));
            }
        }
    }
    Ok(())
}

/// Debian's rule for package names is the strictest of all names here; it keeps shells out of trouble.
fn check_name(key: &str, name: &str) -> Result<(), String> {
    let mut bytes = name.bytes();
    let first = bytes
        .next()
        .is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if first && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b)) {
        Ok(())
    } else {
        Err(format!("{key}: {name:?} is not a lower-case name"))
    }
}

fn check_accounts(definition: &Definition) -> Result<(), String> {
    let plain = |text: &str| !text.is_empty() && !text.contains([':', '\n', ',']);
    let mut gids = BTreeMap::new();
    for (name, gid) in &definition.groups {
        if !plain(name) {
            return Err(format!("groups: {name:?} is not a group name"));
        }
        if let Some(other) = gids.insert(gid, name) {
            return Err(format!("groups: {other} and {name} both have id {gid}"));
        }
    }
    let mut uids = BTreeMap::new();
    for (name, user) in &definition.users {
        if !plain(name) || !plain(&user.home) || !plain(&user.shell) {
            return Err(format!(
                "users: {name:?}: name, home or shell is not usable in passwd(5)"
            ));
        }
        if let Some(other) = uids.insert(user.uid, name) {
            return Err(format!("users: {other} and {name} both have id {}", user.uid));
        }
    }
    check_ids(definition)
}

/// The highest number is no id: chown(2) and setresuid(2) take it for "leave it as it is".
fn check_ids(definition: &Definition) -> Result<(), String> {
    let groups = definition.groups.iter().map(|(name, gid)| ("groups", name, *gid));
    let users = definition
        .users
        .iter()
        .map(|(name, user)| ("users", name, user.uid));
    let directories = definition.directories.iter();
    let directories =
        directories.flat_map(|d| [("directories", &d.path, d.uid), ("directories", &d.path, d.gid)]);
    let files = definition.files.iter();
    let files = files.flat_map(|f| [("files", &f.path, f.uid), ("files", &f.path, f.gid)]);
    match groups
        .chain(users)
        .chain(directories)
        .chain(files)
        .find(|(.., id)| *id == u32::MAX)
    {
        Some((key, name, id)) => Err(format!("{key}: {name}: {id} is no id")),
        None => Ok(()),
    }
}

fn check_paths(definition: &Definition) -> Result<(), String> {
    let directories = definition.directories.iter().map(|d| ("directories", &d.path));
    let files = definition.files.iter().map(|f| ("files", &f.path));
    let removed = definition.remove.iter().map(|p| ("remove", p));
    let kept = definition.keep.iter().map(|p| ("keep", p));
    for (key, path) in directories.chain(files).chain(removed).chain(kept) {
        let clean = path
            .strip_prefix('/')
            .is_some_and(|rest| rest.split('/').all(|name| !matches!(name, "" | "." | "..")));
        if !clean {
            return Err(format!("{key}: {path:?} is not an absolute, clean path"));
        }
    }
    Ok(())
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

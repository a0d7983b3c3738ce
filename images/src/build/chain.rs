//! A definition with all it inherits from its bases. Pure.

use std::collections::BTreeMap;

use super::accounts;
use super::definition::{Archive, Compression, Config, Definition, Loaded, User};
use super::error::BuildError;

/// A definition in the context of those below it.
pub struct Inherited<'c> {
    /// The definition itself.
    pub own: &'c Loaded,
    /// Where packages come from.
    pub archive: &'c Archive,
    /// `remove` of the chain up to here.
    pub remove: Vec<&'c str>,
    /// `keep` of the chain up to here.
    pub keep: Vec<&'c str>,
    /// Users of the chain up to here.
    pub users: BTreeMap<String, User>,
    /// Groups of the chain up to here.
    pub groups: BTreeMap<String, u32>,
    /// How to run the image.
    pub config: Config,
    /// Labels that definitions give.
    pub labels: BTreeMap<String, String>,
    /// All packages asked for up to here, without those of the lowest definition.
    pub requested: Vec<&'c str>,
    /// The package whose version is the image's.
    pub version_of: Option<&'c str>,
    /// How this definition's layer is compressed.
    pub compression: Compression,
}

impl Inherited<'_> {
    /// The definition.
    #[must_use]
    pub fn definition(&self) -> &Definition {
        &self.own.definition
    }

    /// Seconds since 1970 of the archive's epoch.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        u64::try_from(self.archive.epoch.as_second()).unwrap_or_default()
    }
}

/// What the last definition of `chain` (the lowest first) is, with all it inherits.
///
/// # Errors
/// [`BuildError::Definition`] where the parts do not fit together.
pub fn inherit(chain: &[Loaded]) -> Result<Inherited<'_>, BuildError> {
    let (Some(lowest), Some(own)) = (chain.first(), chain.last()) else {
        return Err(BuildError::unexpected("chain of definitions", "it is empty"));
    };
    let refuse = |problem: String| BuildError::Definition {
        file: own.file.clone(),
        problem,
    };
    let archive = lowest.definition.archive.as_ref();
    let mut inherited = Inherited {
        own,
        archive: archive.ok_or_else(|| refuse("no base of it has an archive".to_owned()))?,
        remove: Vec::new(),
        keep: Vec::new(),
        users: BTreeMap::new(),
        groups: BTreeMap::new(),
        config: Config::default(),
        labels: BTreeMap::new(),
        requested: Vec::new(),
        version_of: None,
        compression: Compression::Gzip,
    };
    for loaded in chain {
        add(&mut inherited, &loaded.definition).map_err(refuse)?;
    }
    match accounts::unknown_group(&inherited.users, &inherited.groups) {
        Some(problem) => Err(refuse(problem)),
        None => Ok(inherited),
    }
}

fn add<'c>(inherited: &mut Inherited<'c>, definition: &'c Definition) -> Result<(), String> {
    for (name, user) in &definition.users {
        if inherited.users.insert(name.clone(), user.clone()).is_some() {
            return Err(format!("users.{name} is in a base already"));
        }
    }
    for (name, gid) in &definition.groups {
        if inherited.groups.insert(name.clone(), *gid).is_some() {
            return Err(format!("groups.{name} is in a base already"));
        }
    }
    inherited
        .remove
        .extend(definition.remove.iter().map(String::as_str));
    inherited.keep.extend(definition.keep.iter().map(String::as_str));
    inherited.labels.extend(definition.labels.clone());
    if definition.base.is_some() {
        inherited
            .requested
            .extend(definition.packages.iter().map(String::as_str));
    }
    if let Some(package) = &definition.version_of {
        inherited.version_of = Some(package);
    }
    if let Some(compression) = definition.compression {
        inherited.compression = compression;
    }
    add_config(&mut inherited.config, &definition.config);
    Ok(())
}

fn add_config(config: &mut Config, own: &Config) {
    let Config {
        entrypoint,
        cmd,
        env,
        user,
        working_dir,
        stop_signal,
    } = own;
    config.env.extend(env.clone());
    if entrypoint.is_some() {
        config.entrypoint.clone_from(entrypoint);
        // Arguments of another program are no defaults for this one.
        config.cmd = None;
    }
    if cmd.is_some() {
        config.cmd.clone_from(cmd);
    }
    if user.is_some() {
        config.user.clone_from(user);
    }
    if working_dir.is_some() {
        config.working_dir.clone_from(working_dir);
    }
    if stop_signal.is_some() {
        config.stop_signal.clone_from(stop_signal);
    }
}

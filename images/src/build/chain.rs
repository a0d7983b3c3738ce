//! A definition with all it inherits from its bases. Pure.

use std::collections::BTreeMap;

use super::accounts;
use super::definition::{Archive, Compression, Config, Definition, Directory, Loaded, User};
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
    /// `directories` of the chain up to here: some are mount points where nothing stays otherwise.
    pub directories: Vec<&'c Directory>,
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
        directories: Vec::new(),
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
    inherited.directories.extend(&definition.directories);
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::build::definition::{load_chain, parse};

    const BASE: &str = r#"
format = 1
name = "base"
description = "d"
packages = ["python3"]
remove = ["/usr/share/man/*"]
compression = "zstd"

[archive]
suite = "bookworm"
architecture = "amd64"
epoch = "2026-01-01T00:00:00Z"

[[archive.sources]]
uri = "http://deb.debian.org/debian"
suite = "bookworm"
components = ["main"]
keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

[groups]
nova = 64060

[config]
cmd = ["sh"]
env = { LANG = "C.UTF-8" }
"#;

    fn upper(base: &str, rest: &str) -> String {
        format!("format = 1\nname = \"upper\"\ndescription = \"d\"\nbase = \"{base}\"\n{rest}")
    }

    fn problem(file: &str, text: &str) -> String {
        let error = parse(text, Path::new(file)).expect_err("has a mistake");
        std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string)
    }

    #[test]
    fn mistakes_name_file_and_key() {
        for (text, expected) in [
            (upper("base", "packges = []\n"), "unknown field `packges`"),
            (
                upper("base", "").replace("format = 1", "format = 2"),
                "format 2 is not known",
            ),
            (
                upper("base", "").replace("\"upper\"", "\"other\""),
                "\"other\" is not the file's name",
            ),
            (
                upper("base", "").replace("base = \"base\"", ""),
                "neither base nor archive",
            ),
            (upper("../x", ""), "base: \"../x\" is not a lower-case name"),
            (upper("base", "packages = [\"a b\"]\n"), "packages: \"a b\""),
            (
                upper("base", "remove = [\"usr/share\"]\n"),
                "remove: \"usr/share\" is not an absolute",
            ),
            (
                upper("base", "remove = [\"/usr/../etc\"]\n"),
                "is not an absolute, clean path",
            ),
            (
                upper("base", "[groups]\na = 1\nb = 1\n"),
                "groups: a and b both have id 1",
            ),
            (
                upper("base", "[groups]\na = 4294967295\n"),
                "groups: a: 4294967295 is no id",
            ),
            (
                upper("base", "[[directories]]\npath = \"/x\"\ngid = 4294967295\n"),
                "directories: /x: 4294967295 is no id",
            ),
            (
                upper(
                    "base",
                    "[[files]]\npath = \"/x\"\ncontent = \"\"\nmode = \"0999\"\n",
                ),
                "not an octal mode",
            ),
        ] {
            let found = problem("upper.toml", &text);
            assert!(found.contains(expected), "{found}");
        }
    }

    #[test]
    fn a_chain_adds_up() {
        let directory = tempfile::tempdir().expect("a directory");
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).expect("written");
        write("base.toml", BASE);
        let rest = "packages = [\"nova-compute\"]\nremove = [\"/opt\"]\n[users.nova]\nuid = 64060\n\
                    group = \"nova\"\n[config]\nentrypoint = [\"nova\"]\nenv = { A = \"b\" }\n";
        write("upper.toml", &upper("base", rest));
        let chain = load_chain(&directory.path().join("upper.toml")).expect("loads");
        let inherited = inherit(&chain).expect("fits");
        assert_eq!(inherited.requested, ["nova-compute"]);
        assert_eq!(inherited.remove, ["/usr/share/man/*", "/opt"]);
        assert_eq!(inherited.compression, Compression::Zstd);
        assert_eq!(
            inherited.config.entrypoint.as_deref(),
            Some(&["nova".to_owned()][..])
        );
        assert_eq!(inherited.config.cmd, None, "arguments of another program");
        assert_eq!(inherited.config.env.len(), 2);
        assert_eq!(inherited.epoch(), 1_767_225_600);
    }

    #[test]
    fn a_circle_and_a_second_definition_of_a_group_are_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("upper.toml");
        fs::write(&file, upper("upper", "")).expect("written");
        let error = load_chain(&file).expect_err("a circle");
        assert!(
            error.to_string().ends_with("base \"upper\" leads in a circle"),
            "{error}"
        );

        fs::write(directory.path().join("base.toml"), BASE).expect("written");
        fs::write(&file, upper("base", "[groups]\nnova = 7\n")).expect("written");
        let chain = load_chain(&file).expect("loads");
        let error = inherit(&chain).err().expect("a second number");
        assert!(
            error.to_string().ends_with("groups.nova is in a base already"),
            "{error}"
        );
    }
}

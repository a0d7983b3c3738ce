//! One level of an image: what a definition adds to its base, built once and kept in the cache.
//!
//! A level's directory in the cache is named by the digest of everything that goes into it, and
//! has `root.tar` (the whole root so far), `status` (dpkg's), `layer` (the compressed difference
//! to the base's root) and `level.json`. It appears by one rename.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::chain::Inherited;
use super::compress::{self, Layer};
use super::diff::diff;
use super::dpkg::{self, Deb, Package};
use super::error::BuildError;
use super::facts::{self, Facts};
use super::install::{self, Installation};
use super::normalise::{Rules, normalise};
use super::sbom::Component;
use super::scan::scan;
use super::tree::{Kind, Tree, TreePath, resolved};
use super::{accounts, cache, tarball};
use crate::digest::Digest;

/// Goes into every key: a higher number makes this version's levels others than an older one's.
const REVISION: u32 = 2;

/// A level that is in the cache.
pub struct Level {
    /// Digest of everything that went into it.
    pub key: Digest,
    /// What came out.
    pub record: Record,
    directory: PathBuf,
}

/// What came out of building a level.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The layer.
    pub layer: Layer,
    /// Facts about the whole root.
    pub facts: Facts,
    /// Packages of the whole root, sorted.
    pub components: Vec<Component>,
}

impl Level {
    /// The level `key` of the cache, if it is there.
    ///
    /// # Errors
    /// [`BuildError::Unexpected`] for a record that this version did not write.
    pub fn find(cache: &Path, key: Digest) -> Result<Option<Self>, BuildError> {
        let directory = directory(cache, &key);
        let path = directory.join("level.json");
        let Ok(text) = fs::read(&path) else {
            return Ok(None);
        };
        let record = serde_json::from_slice(&text)
            .map_err(|error| BuildError::unexpected(path.display().to_string(), error))?;
        cache::mark_used(&directory);
        Ok(Some(Self {
            key,
            record,
            directory,
        }))
    }

    /// The compressed layer.
    #[must_use]
    pub fn layer_path(&self) -> PathBuf {
        self.directory.join("layer")
    }

    /// The tar of the whole root.
    #[must_use]
    pub fn root_path(&self) -> PathBuf {
        self.directory.join("root.tar")
    }

    /// dpkg's status file of the whole root.
    ///
    /// # Errors
    /// [`BuildError::Io`].
    pub fn status(&self) -> Result<String, BuildError> {
        let path = self.directory.join("status");
        fs::read_to_string(&path).map_err(BuildError::io("read", &path))
    }
}

/// The key of a level: whatever changes its bytes changes it.
#[must_use]
pub fn key(inherited: &Inherited<'_>, base: Option<&Level>, debs: &[Deb]) -> Digest {
    let definition = inherited.definition();
    let inputs = json!({
        "revision": REVISION,
        "hooks": install::hooks_digest(),
        "base": base.map(|level| level.key),
        "archive": definition.archive,
        "packages": debs.iter().map(|deb| &deb.package).collect::<Vec<_>>(),
        "requests": definition.packages,
        "stand-ins": definition.stand_ins,
        "users": definition.users,
        "groups": definition.groups,
        "directories": inherited.directories,
        "files": definition.files,
        "remove": inherited.remove,
        "keep": inherited.keep,
        "compression": inherited.compression,
    });
    Digest::of(inputs.to_string().as_bytes())
}

/// What building a level starts from.
pub struct Inputs<'i> {
    /// The definition.
    pub inherited: &'i Inherited<'i>,
    /// The level below.
    pub base: Option<&'i Level>,
    /// The chosen packages.
    pub debs: &'i [Deb],
    /// Output of programs of the image, if any was installed here.
    pub facts: Option<&'i Path>,
}

/// The installation that `inherited` asks for; `None` where it only changes files.
#[must_use]
pub fn installation<'i>(
    inherited: &'i Inherited<'i>,
    base: Option<&'i Path>,
    debs: &'i [Deb],
) -> Option<Installation<'i>> {
    let definition = inherited.definition();
    let files_only = base.is_some()
        && definition.packages.is_empty()
        && definition.stand_ins.is_empty()
        && definition.users.is_empty()
        && definition.groups.is_empty();
    (!files_only).then(|| Installation {
        definition,
        base,
        debs,
        accounts: accounts::lines(&definition.users, &definition.groups, inherited.epoch() / 86_400),
        epoch: inherited.epoch(),
    })
}

/// Reads the root in `tar` and applies the definition to it.
///
/// # Errors
/// [`BuildError`] naming the entry or the key of the definition.
pub fn read_root(inputs: &Inputs<'_>, tar: &Path) -> Result<Tree, BuildError> {
    let definition = inputs.inherited.definition();
    let rules = Rules {
        epoch: inputs.inherited.epoch(),
        remove: inputs.inherited.remove.clone(),
        keep: inputs.inherited.keep.clone(),
        directories: inputs.inherited.directories.clone(),
        files: &definition.files,
    };
    normalise(scan(tar)?, &rules).map_err(|problem| BuildError::Definition {
        file: inputs.inherited.own.file.clone(),
        problem,
    })
}

/// Checks `tree`, whose contents are in `tar`, and writes the level into the cache by way of `work`.
///
/// # Errors
/// [`BuildError`]; nothing is in the cache then.
pub fn write(
    inputs: &Inputs<'_>,
    tree: &Tree,
    tar: &Path,
    (cache, work, key): (&Path, &Path, Digest),
) -> Result<Level, BuildError> {
    let contents = File::open(tar).map_err(BuildError::io("open", tar))?;
    let status = text(tree, &contents, tar, "/var/lib/dpkg/status")?;
    let components = check(inputs, tree, (&contents, tar), &status)?;
    let new = work.join("level");
    fs::create_dir(&new).map_err(BuildError::io("make", &new))?;
    let lower = match inputs.base {
        Some(base) => scan(&base.root_path())?,
        None => Tree::new(),
    };
    let changes = diff(&lower, tree, inputs.inherited.epoch());
    let layer_path = new.join("layer");
    let layer_file = File::create_new(&layer_path).map_err(BuildError::io("make", &layer_path))?;
    let layer = compress::write_layer(&changes, &contents, inputs.inherited.compression, &layer_file)
        .map_err(BuildError::io("write", &layer_path))?;
    let root_path = new.join("root.tar");
    let root_file = File::create_new(&root_path).map_err(BuildError::io("make", &root_path))?;
    let root_file = std::io::BufWriter::with_capacity(1 << 18, root_file);
    tarball::write(tree, &contents, root_file)
        .and_then(|out| out.into_inner().map_err(std::io::IntoInnerError::into_error))
        .map_err(BuildError::io("write", &root_path))?;
    let record = Record {
        layer,
        facts: facts_of(inputs, tree, &contents, tar)?,
        components,
    };
    put(&new.join("status"), status.as_bytes())?;
    let json =
        serde_json::to_vec_pretty(&record).map_err(|error| BuildError::unexpected("level record", error))?;
    put(&new.join("level.json"), &json)?;
    let directory = directory(cache, &key);
    let parent = cache.join("levels");
    fs::create_dir_all(&parent).map_err(BuildError::io("make", &parent))?;
    fs::rename(&new, &directory).map_err(BuildError::io("name", &directory))?;
    Ok(Level {
        key,
        record,
        directory,
    })
}

/// The root has exactly the chosen packages and no account without a fixed id.
fn check(
    inputs: &Inputs<'_>,
    tree: &Tree,
    (contents, tar): (&File, &Path),
    status: &str,
) -> Result<Vec<Component>, BuildError> {
    let Inherited { users, groups, .. } = inputs.inherited;
    let passwd = text(tree, contents, tar, "/etc/passwd")?;
    let group = text(tree, contents, tar, "/etc/group")?;
    let names = accounts::loose(&passwd, &group, users, groups);
    let image = inputs.inherited.definition().name.clone();
    if !names.is_empty() {
        return Err(BuildError::LooseAccounts { image, names });
    }
    let expected = expected_packages(inputs);
    let installed = dpkg::parse_status(status);
    let stand_in = |name: &str| inputs.inherited.definition().stand_ins.contains_key(name);
    let unlike: Vec<String> = installed
        .values()
        .map(|found| &found.package)
        .filter(|p| {
            !stand_in(&p.name) && expected.get(p.name.as_str()).map(|e| &e.version) != Some(&p.version)
        })
        .map(ToString::to_string)
        .chain(
            expected
                .values()
                .filter(|p| !installed.contains_key(&p.name))
                .map(|p| format!("no {p}")),
        )
        .collect();
    if !unlike.is_empty() {
        return Err(BuildError::unexpected(
            format!("packages in image {image}"),
            format!("not as chosen: {}", unlike.join(", ")),
        ));
    }
    installed
        .values()
        .map(|found| {
            let path = format!("/usr/share/doc/{}/copyright", found.package.name);
            let copyright = text_if_there(tree, contents, tar, &path)?.unwrap_or_default();
            let digest = expected.get(found.package.name.as_str()).and_then(|p| p.digest);
            Ok(Component::new(found, digest, &copyright))
        })
        .collect()
}

/// What is in the base, with what this level adds or changes.
fn expected_packages(inputs: &Inputs<'_>) -> BTreeMap<String, Package> {
    let below = inputs.base.map_or(&[][..], |base| &base.record.components[..]);
    let below = below.iter().map(|c| Package {
        name: c.name.clone(),
        version: c.version.clone(),
        architecture: c.architecture.clone(),
        digest: c.digest,
    });
    let added = inputs.debs.iter().map(|deb| deb.package.clone());
    below
        .chain(added)
        .map(|package| (package.name.clone(), package))
        .collect()
}

fn facts_of(inputs: &Inputs<'_>, tree: &Tree, contents: &File, tar: &Path) -> Result<Facts, BuildError> {
    let nova = text_if_there(tree, contents, tar, facts::NOVA_SERVICE)?;
    let ovs = text_if_there(tree, contents, tar, facts::OVS_SCHEMA)?;
    let below = inputs.base.map(|base| base.record.facts.qemu_machines.clone());
    let architecture = facts::qemu_architecture(&inputs.inherited.archive.architecture);
    let help = inputs
        .facts
        .map(|dir| dir.join(format!("qemu-system-{architecture}")));
    let machines = match help.and_then(|path| fs::read_to_string(path).ok()) {
        Some(text) => facts::qemu_machines(&text),
        None => below.unwrap_or_default(),
    };
    Ok(Facts {
        nova_service_version: nova.as_deref().and_then(facts::nova_service_version),
        nova_oldest_version: nova.as_deref().and_then(facts::nova_oldest_version),
        ovs_schema_version: ovs.as_deref().and_then(facts::ovs_schema_version),
        qemu_machines: machines,
    })
}

fn text(tree: &Tree, contents: &File, tar: &Path, path: &str) -> Result<String, BuildError> {
    let found = text_if_there(tree, contents, tar, path)?;
    found.ok_or_else(|| BuildError::unexpected("root file system", format!("it has no {path}")))
}

fn text_if_there(tree: &Tree, contents: &File, tar: &Path, path: &str) -> Result<Option<String>, BuildError> {
    let entry = TreePath::from_absolute(path).and_then(|place| resolved(tree, &place));
    let Some(Kind::File(content)) = entry.map(|entry| &entry.kind) else {
        return Ok(None);
    };
    let bytes = tarball::read(content, contents).map_err(BuildError::io("read", tar))?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

fn directory(cache: &Path, key: &Digest) -> PathBuf {
    cache.join("levels").join(key.hex())
}

fn put(path: &Path, bytes: &[u8]) -> Result<(), BuildError> {
    fs::write(path, bytes).map_err(BuildError::io("write", path))
}

//! Releases to move between, and what their images have to look like, byte for byte.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::dice::Dice;
use super::played::EXITS;
use super::step::BROKEN;
use crate::command::{command, output};
use crate::registry;
use crate::tiny::{Forge, Image, Release, Service};

/// How much is in the images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum Size {
    /// A handful of files: every system call of an upgrade can be visited.
    Small,
    /// Hundreds of files: a pull takes long enough to be cut.
    Large,
}

/// What was published.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Cast {
    /// Public key that the releases are signed with, PEM.
    pub key: String,
    /// Path of each image's only layer on this host, by digest of its manifest.
    pub layers: BTreeMap<String, PathBuf>,
    /// Manifest of the image that changes, by version.
    pub changing: BTreeMap<String, String>,
}

const SCRIPT: &str = "exec /bin/busybox sleep 1000000";

impl Cast {
    /// Publishes releases 1, 2 and 3: `steady` is the same in all, `change` has an image of its own in each and can't
    /// be started in the last.
    ///
    /// # Errors
    /// The registry does not run, or nodectl fails.
    pub fn publish(stage: &Path, size: Size) -> Result<Self> {
        let forge = Forge::open(stage)?;
        let mut cast = Self {
            key: forge.public("key")?,
            layers: BTreeMap::new(),
            changing: BTreeMap::new(),
        };
        let common = forge.image("common", &borrowed(&files(0, 4)))?;
        cast.add(&common);
        for version in 1..=3 {
            let count = match (size, version) {
                (Size::Small, _) => 6,
                (Size::Large, 3) => 200,
                (Size::Large, _) => 600,
            };
            let image = forge.image(&format!("image{version}"), &borrowed(&files(version, count)))?;
            cast.add(&image);
            let version = version.to_string();
            cast.changing.insert(version.clone(), image.digest.clone());
            let mut change = Service::new("change", &image, SCRIPT);
            if version == BROKEN {
                change = change.with(&format!("[container.process.env]\nBEHAVE = \"{EXITS}\""));
            }
            forge.release(&Release {
                version: &version,
                images: &[&common, &image],
                services: &[Service::new("steady", &common, SCRIPT), change],
                more: "",
            })?;
            forge.sign(&version, "key")?;
        }
        Ok(cast)
    }

    fn add(&mut self, image: &Image) {
        self.layers
            .insert(image.digest.clone(), registry::blob(&image.layer));
    }
}

fn borrowed(files: &[(String, Vec<u8>)]) -> Vec<(&str, &[u8])> {
    files
        .iter()
        .map(|(path, bytes)| (path.as_str(), bytes.as_slice()))
        .collect()
}

/// Files of an image. Two thirds are the same in all versions; sizes from nothing to a megabyte, most of them small.
fn files(version: u64, count: u64) -> Vec<(String, Vec<u8>)> {
    let file = |number: u64| {
        let edition = if number.is_multiple_of(3) { version } else { 0 };
        let mut dice = Dice::new(1 + number + edition * 1_000_000);
        let size = match number % 200 {
            0 => 600 << 10,
            1 => 0,
            2..=20 => dice.below(64 << 10),
            _ => dice.below(4 << 10),
        };
        let bytes = (0..size).map(|_| dice.below(256).to_le_bytes()[0]).collect();
        (format!("srv/d{}/f{number}", number % 17), bytes)
    };
    (0..count).map(file).collect()
}

/// The file of an image that is damaged on purpose.
pub const DAMAGED: &str = "srv/d3/f3";

/// One file, directory or link.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    mode: u32,
    owner: (u32, u32),
    modified: (i64, i64),
    xattrs: BTreeMap<OsString, Vec<u8>>,
    /// Digest of a file, target of a link.
    content: Vec<u8>,
}

/// What every tree has to be, as tar(1) unpacks the layers.
#[derive(Debug)]
pub struct Expected(BTreeMap<String, BTreeMap<PathBuf, Entry>>);

impl Expected {
    /// Unpacks all images below a directory.
    ///
    /// # Errors
    /// A layer cannot be unpacked.
    pub fn unpack(cast: &Cast, directory: &Path) -> Result<Self> {
        let mut trees = BTreeMap::new();
        for (number, (manifest, layer)) in cast.layers.iter().enumerate() {
            let root = directory.join(number.to_string());
            fs::create_dir_all(&root)?;
            output(
                command(
                    "tar",
                    [
                        "--extract",
                        "--gzip",
                        "--same-owner",
                        "--same-permissions",
                        "--xattrs",
                        "--xattrs-include=*",
                        "--file",
                    ],
                )
                .arg(layer)
                .arg("--directory")
                .arg(&root),
            )?;
            trees.insert(manifest.clone(), look(&root)?);
        }
        Ok(Self(trees))
    }

    /// How many entries there have to be, and how many are missing or have wrong content.
    ///
    /// # Errors
    /// The tree cannot be read.
    pub fn count_wrong(&self, manifest: &str, tree: &Path) -> Result<(usize, usize)> {
        let expected = self.0.get(manifest).context("nothing that was published")?;
        let found = look(tree)?;
        let right = |(path, entry): &(&PathBuf, &Entry)| {
            found
                .get(*path)
                .is_some_and(|there| there.content == entry.content)
        };
        Ok((
            expected.len(),
            expected.len() - expected.iter().filter(right).count(),
        ))
    }

    /// What is wrong with a tree of this image. The file `damaged` may be anything, and the time of its directory too: a
    /// repair puts another file there first and the time right after it, which cannot be one step.
    ///
    /// # Errors
    /// The tree cannot be read.
    pub fn compare(&self, manifest: &str, tree: &Path, damaged: Option<&Path>) -> Result<Vec<String>> {
        let Some(expected) = self.0.get(manifest) else {
            return Ok(vec![format!("{manifest} is nothing that was published")]);
        };
        let found = look(tree)?;
        let mut wrong = Vec::new();
        for path in expected
            .keys()
            .chain(found.keys().filter(|path| !expected.contains_key(*path)))
        {
            let (wanted, there) = (expected.get(path), found.get(path));
            let tolerated = damaged.is_some_and(|file| {
                path == file || (Some(path.as_path()) == file.parent() && same_but_for_time(wanted, there))
            });
            if wanted != there && !tolerated {
                let what = match (wanted, there) {
                    (Some(_), None) => "is missing".to_owned(),
                    (None, _) => "should not be there".to_owned(),
                    (Some(a), Some(b)) if a.content != b.content => "has wrong content".to_owned(),
                    (Some(a), Some(b)) => format!("has wrong attributes: {b:?} instead of {a:?}"),
                };
                wrong.push(format!("{}: {what}", tree.join(path).display()));
            }
        }
        Ok(wrong)
    }
}

fn same_but_for_time(wanted: Option<&Entry>, there: Option<&Entry>) -> bool {
    let timeless = |entry: &Entry| Entry {
        modified: (0, 0),
        ..entry.clone()
    };
    wanted.map(timeless) == there.map(timeless)
}

fn look(root: &Path) -> Result<BTreeMap<PathBuf, Entry>> {
    let mut entries = BTreeMap::new();
    let mut todo = vec![root.to_owned()];
    while let Some(path) = todo.pop() {
        let looked = || format!("look at {}", path.display());
        let meta = fs::symlink_metadata(&path).with_context(looked)?;
        let content = if meta.is_dir() {
            for entry in fs::read_dir(&path).with_context(looked)? {
                todo.push(entry?.path());
            }
            Vec::new()
        } else if meta.is_symlink() {
            fs::read_link(&path)
                .with_context(looked)?
                .as_os_str()
                .as_bytes()
                .to_vec()
        } else {
            digest(&path).with_context(looked)?
        };
        let entry = Entry {
            mode: meta.mode(),
            owner: (meta.uid(), meta.gid()),
            modified: (meta.mtime(), meta.mtime_nsec()),
            xattrs: xattrs(&path).with_context(looked)?,
            content,
        };
        entries.insert(path.strip_prefix(root)?.to_owned(), entry);
    }
    Ok(entries)
}

fn xattrs(path: &Path) -> Result<BTreeMap<OsString, Vec<u8>>> {
    xattr::list(path)?
        .map(|name| {
            let value = xattr::get(path, &name)?.unwrap_or_default();
            Ok((name, value))
        })
        .collect()
}

fn digest(path: &Path) -> Result<Vec<u8>> {
    let mut hasher = openssl::hash::Hasher::new(openssl::hash::MessageDigest::sha256())?;
    std::io::copy(&mut File::open(path)?, &mut hasher)?;
    Ok(hasher.finish()?.to_vec())
}

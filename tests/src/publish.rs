//! Images and releases for the story: built from the definitions of this repository by the program that operators
//! use, pushed to the lab's registry over loopback, and signed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result};

use crate::command::{command, output};
use crate::progress::Progress;
use crate::{definitions, lab, paths, registry};

/// Where the images and releases are in the registry.
const NAMESPACE: &str = "compute";

/// The release's repository below [`NAMESPACE`].
const RELEASE: &str = "compute-release";

/// The image that differs between releases.
const CHANGES: &str = "nova-compute";

/// An image: its definition, and the repository and tag that it is pushed to.
#[derive(Debug, Clone, Copy)]
pub struct Image {
    definition: &'static str,
    repository: &'static str,
    tag: &'static str,
}

/// What the story runs.
const STORY: [Image; 6] = [
    Image::first("openvswitch"),
    Image::first("libvirt"),
    Image::first("nova-compute"),
    Image::later("nova-compute-2", "nova-compute", "2"),
    Image::later("nova-compute-3", "nova-compute", "3"),
    Image::first("neutron"),
];

impl Image {
    /// The image of that name, tag 1.
    pub const fn first(name: &'static str) -> Self {
        Self::later(name, name, "1")
    }

    /// The image of another definition that gets this tag in the repository.
    pub const fn later(definition: &'static str, repository: &'static str, tag: &'static str) -> Self {
        Self {
            definition,
            repository,
            tag,
        }
    }
}

/// Who publishes: the program, a directory to work in, and a signing key.
#[derive(Debug)]
pub struct Publisher {
    nodectl: PathBuf,
    work: PathBuf,
    images: Vec<Image>,
}

impl Publisher {
    /// A publisher of the story's images.
    ///
    /// # Errors
    /// As [`Publisher::of`].
    pub fn new(stage: &Path) -> Result<Self> {
        Self::with(stage, &[])
    }

    /// A publisher of the story's images and of more.
    ///
    /// # Errors
    /// As [`Publisher::of`].
    pub fn with(stage: &Path, more: &[Image]) -> Result<Self> {
        Self::of(stage, &[&STORY, more].concat())
    }

    /// Uses the nodectl that is staged, makes a signing key and takes a copy of the definitions: a build writes
    /// lock files beside them, and a story leaves the repository as it is. The release has the services of these
    /// images.
    ///
    /// # Errors
    /// A file cannot be copied, or openssl makes no key.
    pub fn of(stage: &Path, images: &[Image]) -> Result<Self> {
        let work = paths::work().join("publish");
        let nodectl = stage.join("usr/bin/nodectl");
        let nodectl = nodectl
            .canonicalize()
            .with_context(|| format!("find {}", nodectl.display()))?;
        let images = images.to_vec();
        let publisher = Self {
            nodectl,
            work,
            images,
        };
        definitions::copy(&publisher.work, &publisher.repositories())?;
        publisher.make_key()?;
        Ok(publisher)
    }

    /// Public half of the key, PEM.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn public_key(&self) -> Result<Vec<u8>> {
        let path = self.work.join("release.pub");
        fs::read(&path).with_context(|| format!("read {}", path.display()))
    }

    /// Builds all images from Debian packages, or takes them from the cache of earlier builds.
    ///
    /// # Errors
    /// A build fails; the error ends with what it said last.
    pub fn build_images(&self, progress: &Progress) -> Result<()> {
        for image in &self.images {
            self.build_image(image.definition, progress)?;
        }
        Ok(())
    }

    /// Adds the definition of one more image.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn define_image(&self, definition: &str, text: &str) -> Result<()> {
        let path = self.work.join("definitions").join(format!("{definition}.toml"));
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    }

    /// Builds one image.
    ///
    /// # Errors
    /// As [`Publisher::build_images`].
    pub fn build_image(&self, definition: &str, progress: &Progress) -> Result<()> {
        progress.say(definition);
        let mut build = command(&self.nodectl.to_string_lossy(), ["image", "build", "--output"]);
        build
            .arg(self.layout(definition))
            .arg(self.work.join("definitions").join(format!("{definition}.toml")));
        self.follow(&mut build, definition, progress)
    }

    /// Pushes all images.
    ///
    /// # Errors
    /// The registry refuses one.
    pub fn push_images(&self, progress: &Progress) -> Result<()> {
        for image in &self.images {
            progress.say(format!("{}:{}", image.repository, image.tag));
            self.push_image(image.definition, image.repository, image.tag)?;
        }
        Ok(())
    }

    /// Pushes one image.
    ///
    /// # Errors
    /// The registry refuses it.
    pub fn push_image(&self, definition: &str, repository: &str, tag: &str) -> Result<()> {
        let layout = self.layout(definition).to_string_lossy().into_owned();
        let to = format!("{}/{repository}:{tag}", base());
        self.nodectl(&["image", "push", &layout, &to]).map(drop)
    }

    /// Builds, pushes and signs the release with this version; its nova-compute is the image with this tag. Returns
    /// the reference that nodes use.
    ///
    /// # Errors
    /// A step fails.
    pub fn publish_release(&self, version: u32) -> Result<String> {
        let definition = self.work.join("releases/compute.toml");
        let number = version.to_string();
        let tag = |repository| {
            if repository == CHANGES {
                number.as_str()
            } else {
                "1"
            }
        };
        let repositories = self.repositories().into_iter();
        let images: Vec<(&str, &str)> = repositories.map(|name| (name, tag(name))).collect();
        self.publish(&definition, &number, &images)
    }

    /// Builds, pushes and signs the release of this definition with these images: name and tag. Returns the reference
    /// that nodes use.
    ///
    /// # Errors
    /// A step fails.
    pub fn publish(&self, definition: &Path, version: &str, images: &[(&str, &str)]) -> Result<String> {
        let layout = self.work.join(format!("release-{version}"));
        if layout.exists() {
            fs::remove_dir_all(&layout).with_context(|| format!("remove {}", layout.display()))?;
        }
        let (layout, definition) = (layout.to_string_lossy(), definition.to_string_lossy());
        let images: Vec<String> = images
            .iter()
            .map(|(name, tag)| format!("{name}={}/{name}:{tag}", base()))
            .collect();
        let mut arguments = vec!["release", "build", "--release-version", version];
        for image in &images {
            arguments.extend(["--image", image]);
        }
        arguments.extend(["--output", &layout, &definition]);
        self.nodectl(&arguments)?;
        let reference = format!("{}/{RELEASE}:{version}", base());
        self.nodectl(&["release", "push", &format!("oci:{layout}"), &reference])?;
        self.sign(&reference)?;
        Ok(format!(
            "{}/{NAMESPACE}/{RELEASE}:{version}",
            registry::from_nodes()
        ))
    }

    /// Nodes see the registry under another name than loopback: the signature speaks of theirs.
    fn sign(&self, reference: &str) -> Result<()> {
        let key = self.work.join("release.key");
        let name = format!("{}/{NAMESPACE}/{RELEASE}", registry::from_nodes());
        self.nodectl(&[
            "release",
            "sign",
            "--key",
            &key.to_string_lossy(),
            "--as",
            &name,
            reference,
        ])
        .map(drop)
    }

    fn nodectl(&self, arguments: &[&str]) -> Result<String> {
        output(
            lab::command_inside(&self.nodectl.to_string_lossy())
                .arg("--quiet")
                .args(arguments),
        )
    }

    /// Runs a build and tells its last words while it goes on.
    fn follow(&self, build: &mut std::process::Command, name: &str, progress: &Progress) -> Result<()> {
        let mut last = Vec::new();
        let done = crate::command::stream(build.stdin(Stdio::null()), |line| {
            progress.say(format!("{name}: {line}"));
            last.push(line.to_owned());
            let surplus = last.len().saturating_sub(15);
            last.drain(..surplus);
        });
        done.with_context(|| format!("build image {name}: {}", last.join("\n")))
    }

    fn repositories(&self) -> BTreeSet<&'static str> {
        self.images.iter().map(|image| image.repository).collect()
    }

    fn layout(&self, definition: &str) -> PathBuf {
        self.work.join("layouts").join(definition)
    }

    fn make_key(&self) -> Result<()> {
        let (key, public) = (self.work.join("release.key"), self.work.join("release.pub"));
        if key.exists() && public.exists() {
            return Ok(());
        }
        output(command("openssl", ["genpkey", "-algorithm", "ed25519", "-out"]).arg(&key))?;
        output(
            command("openssl", ["pkey", "-pubout", "-in"])
                .arg(&key)
                .arg("-out")
                .arg(&public),
        )
        .map(drop)
    }
}

/// Trust policy of a node: this key for everything below the namespace.
pub fn trust_policy() -> String {
    format!(
        "[[repository]]\nname = \"{}/{NAMESPACE}\"\nkeys = [\"release.pub\"]\n",
        registry::from_nodes()
    )
}

fn base() -> String {
    format!("{}/{NAMESPACE}", registry::FROM_LAB)
}

//! Tiny images and releases: one static program, made in milliseconds, pushed and signed by nodectl itself.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::command::{command, output};
use crate::nodectl::{self, Said};
use crate::registry;

/// Where releases and images are, below a registry's name.
pub const REPOSITORY: &str = "tiny";

const RELEASE: &str = "release";

const PROGRAM: &str = "/usr/bin/busybox";

/// An extended attribute of every file that an image is made with.
const NOTE: (&str, &[u8]) = ("user.note", b"tiny");

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Makes images and releases, and has the keys that sign them.
#[derive(Debug)]
pub struct Forge {
    work: TempDir,
    nodectl: String,
}

/// An image in the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its name in releases and in the registry.
    pub name: String,
    /// Digest of its manifest, `sha256:…`.
    pub digest: String,
    /// Digest of its only layer, `sha256:…`.
    pub layer: String,
    layout: PathBuf,
}

/// A service: a shell script in an image.
#[derive(Debug, Clone)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Name of its image.
    pub image: String,
    /// What busybox sh runs.
    pub script: String,
    /// More of the service definition, TOML; readiness is `started` if this says nothing about it.
    pub more: String,
    /// When systemd starts it again by itself.
    pub restart: &'static str,
}

/// A release to be made.
#[derive(Debug, Clone)]
pub struct Release<'a> {
    /// Its version, and its tag in the registry.
    pub version: &'a str,
    /// Its images.
    pub images: &'a [&'a Image],
    /// Its services.
    pub services: &'a [Service],
    /// More of the release definition, TOML tables.
    pub more: &'a str,
}

impl Service {
    /// A service that runs the script in the image.
    pub fn new(name: &str, image: &Image, script: &str) -> Self {
        Self {
            name: name.to_owned(),
            image: image.name.clone(),
            script: script.to_owned(),
            more: String::new(),
            restart: "no",
        }
    }

    /// One that systemd starts again when it was killed or has failed.
    #[must_use]
    pub fn restarting(self) -> Self {
        Self {
            restart: "on-failure",
            ..self
        }
    }

    /// With more of its definition.
    #[must_use]
    pub fn with(mut self, more: &str) -> Self {
        self.more.push_str(more);
        self.more.push('\n');
        self
    }

    fn definition(&self) -> String {
        // A JSON string of ASCII text is a TOML string as well.
        let script = Value::from(self.script.as_str());
        // What is never ready is waited for in vain; everything else starts, on a busy machine as well.
        let (readiness, patience) = if self.more.contains("[readiness]") {
            ("", 5)
        } else {
            ("[readiness]\nkind = \"started\"\n", 60)
        };
        format!(
            "format = 1\nname = \"{}\"\ndescription = \"a script\"\nimage = \"{}\"\n\n\
             [container]\nshare = [\"network\", \"pid\"]\n\n\
             [container.process]\nargs = [\"/bin/busybox\", \"sh\", \"-c\", {script}]\n\n\
             [unit]\nrestart = \"{}\"\ntimeout_start_sec = {patience}\ntimeout_stop_sec = 5\n\n{readiness}\n{}",
            self.name, self.image, self.restart, self.more
        )
    }
}

impl Forge {
    /// Makes the keys `key` and `stranger`. `stage` is what `make install DESTDIR=` has installed.
    ///
    /// # Errors
    /// openssl fails.
    pub fn open(stage: &Path) -> Result<Self> {
        let forge = Self {
            work: tempfile::tempdir().context("make a directory")?,
            nodectl: stage.join("usr/bin/nodectl").display().to_string(),
        };
        for name in ["key", "stranger"] {
            let (private, public) = (forge.key(name), forge.path(&format!("{name}.pub")));
            output(command("openssl", ["genpkey", "-algorithm", "ed25519", "-out"]).arg(&private))?;
            output(
                command("openssl", ["pkey", "-pubout", "-in"])
                    .arg(&private)
                    .arg("-out")
                    .arg(&public),
            )?;
        }
        Ok(forge)
    }

    /// The public half of a key, PEM.
    ///
    /// # Errors
    /// There is no such key.
    pub fn public(&self, name: &str) -> Result<String> {
        let path = self.path(&format!("{name}.pub"));
        fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    }

    /// Makes an image of busybox and these files, and pushes it.
    ///
    /// # Errors
    /// busybox is not installed, or the registry does not take it.
    pub fn image(&self, name: &str, files: &[(&str, &[u8])]) -> Result<Image> {
        let root = self.path(&format!("{name}.root"));
        for directory in ["bin", "etc", "proc", "sys", "dev", "run", "tmp"] {
            fs::create_dir_all(root.join(directory)).context("make the image's directories")?;
        }
        fs::copy(PROGRAM, root.join("bin/busybox"))
            .with_context(|| format!("copy {PROGRAM}, of Debian's busybox-static"))?;
        fs::write(root.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n")?;
        fs::write(root.join("etc/group"), "root:x:0:\n")?;
        fs::write(root.join("etc/tiny.json"), "")?;
        for (path, content) in files {
            if let Some(directory) = root.join(path).parent() {
                fs::create_dir_all(directory)
                    .with_context(|| format!("make the directory of {path} of image {name}"))?;
            }
            let file = root.join(path);
            fs::write(&file, content)
                .and_then(|()| xattr::set(&file, NOTE.0, NOTE.1))
                .with_context(|| format!("write {path} of image {name}"))?;
        }
        let image = self.pack(name, &root)?;
        fs::remove_dir_all(&root)?;
        let from = format!("oci:{}", image.layout.display());
        self.run(&["image", "push", &from, &in_lab(name, "1")])?
            .expect(0)?;
        Ok(image)
    }

    fn pack(&self, name: &str, root: &Path) -> Result<Image> {
        let (tar, gzip) = (
            self.path(&format!("{name}.tar")),
            self.path(&format!("{name}.tar.gz")),
        );
        output(
            command(
                "tar",
                ["--sort=name", "--owner=0", "--group=0", "--numeric-owner"],
            )
            .args(["--xattrs", "--xattrs-include=user.*"])
            .arg("--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime")
            .args(["--mtime=@1700000000", "-C"])
            .arg(root)
            .arg("-cf")
            .arg(&tar)
            .arg("."),
        )?;
        let diff_id = digest(&fs::read(&tar)?);
        output(command("gzip", ["-1n"]).arg(&tar))?;
        let layout = self.path(&format!("{name}.oci"));
        fs::create_dir_all(layout.join("blobs/sha256"))?;
        fs::write(layout.join("oci-layout"), "{\"imageLayoutVersion\":\"1.0.0\"}")?;
        let layer = store(&layout, &fs::read(&gzip)?, LAYER)?;
        fs::remove_file(&gzip)?;
        let config = json!({
            "architecture": architecture(), "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        });
        let config = store(&layout, config.to_string().as_bytes(), CONFIG)?;
        let manifest =
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
        let manifest = store(&layout, manifest.to_string().as_bytes(), MANIFEST)?;
        let index = json!({"schemaVersion": 2, "manifests": [manifest]});
        fs::write(layout.join("index.json"), index.to_string())?;
        Ok(Image {
            name: name.to_owned(),
            digest: text(&manifest["digest"]),
            layer: text(&layer["digest"]),
            layout,
        })
    }

    /// Builds a release and pushes it; nobody has signed it yet.
    ///
    /// # Errors
    /// nodectl fails.
    pub fn release(&self, release: &Release<'_>) -> Result<()> {
        use std::fmt::Write as _;
        let directory = self.path(&format!("release-{}", release.version));
        fs::create_dir_all(&directory)?;
        let mut files = Vec::new();
        for service in release.services {
            let file = format!("{}.toml", service.name);
            fs::write(directory.join(&file), service.definition())?;
            files.push(file);
        }
        let mut definition = format!(
            "format = 1\nname = \"tiny\"\nversion = \"{}\"\nservices = {files:?}\n",
            release.version
        );
        for image in release.images {
            write!(
                definition,
                "\n[images.{0}]\nrepository = \"{0}\"\nlayout = \"{1}\"\n",
                image.name,
                image.layout.display()
            )?;
        }
        write!(definition, "\n{}", release.more)?;
        let file = directory.join("release.toml");
        fs::write(&file, definition)?;
        let layout = directory.join("oci").display().to_string();
        let file = file.display().to_string();
        self.run(&["release", "build", "--output", &layout, &file])?
            .expect(0)?;
        let to = in_lab(RELEASE, release.version);
        self.run(&["release", "push", &format!("oci:{layout}"), &to])?
            .expect(0)?;
        Ok(())
    }

    /// Signs a release in the registry, under the name that nodes have for it.
    ///
    /// # Errors
    /// nodectl fails.
    pub fn sign(&self, version: &str, key: &str) -> Result<()> {
        let key = self.key(key).display().to_string();
        let identity = repository();
        let release = in_lab(RELEASE, version);
        self.run(&["release", "sign", "--key", &key, "--as", &identity, &release])?
            .expect(0)
            .map(drop)
    }

    /// One file with a release, its signatures and its images.
    ///
    /// # Errors
    /// nodectl fails.
    pub fn bundle(&self, version: &str) -> Result<Vec<u8>> {
        let file = self.path("bundle.tar");
        let path = file.display().to_string();
        self.run(&["release", "bundle", &in_lab(RELEASE, version), &path])?
            .expect(0)?;
        fs::read(&file).with_context(|| format!("read {path}"))
    }

    /// Runs nodectl in the lab.
    fn run(&self, arguments: &[&str]) -> Result<Said> {
        nodectl::in_lab(&self.nodectl, arguments)
    }

    fn key(&self, name: &str) -> PathBuf {
        self.path(&format!("{name}.pem"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.work.path().join(name)
    }
}

/// What nodes call the repository of the releases.
pub fn repository() -> String {
    format!("{}/{REPOSITORY}/{RELEASE}", registry::from_nodes())
}

/// What nodes call a release.
pub fn reference(version: &str) -> String {
    format!("{}:{version}", repository())
}

/// Bytes that do not compress and are the same each time.
pub fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(count + 8);
    while bytes.len() < count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(count);
    bytes
}

fn in_lab(name: &str, tag: &str) -> String {
    format!("{}/{REPOSITORY}/{name}:{tag}", registry::FROM_LAB)
}

/// Puts a blob into a layout; returns its descriptor.
fn store(layout: &Path, bytes: &[u8], media_type: &str) -> Result<Value> {
    let digest = digest(bytes);
    let path = layout.join("blobs").join(digest.replace(':', "/"));
    fs::write(&path, bytes).with_context(|| format!("write {}", path.display()))?;
    Ok(json!({"mediaType": media_type, "digest": digest, "size": bytes.len()}))
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(openssl::sha::sha256(bytes)))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

//! Real images from real packages: the same twice, layers shared, versions locked, readable by
//! others. Needs root, mmdebstrap, a Debian mirror and skopeo.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use node_images::build::{
    BuildError, BuildEvent, BuildRequest, BuiltImage, Step, build, default_cache, sbom_path,
};
use node_images::digest::Digest;
use node_images::manifest::Manifest;
use tempfile::TempDir;

/// Definitions of a test, with the project's own base.
struct Bench {
    directory: TempDir,
    cache: PathBuf,
}

impl Bench {
    /// With the cache that `nodectl image build` uses, so that the base is there already.
    fn new() -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("definitions/base.toml");
        fs::copy(base, directory.path().join("base.toml")).expect("the base definition");
        Self {
            directory,
            cache: default_cache(),
        }
    }

    /// The same definitions with a cache that has package files and lists and nothing built.
    fn with_empty_cache(&self) -> Self {
        let mut other = Self::new();
        let parent = self.cache.parent().expect("the cache is in a directory");
        // On the file system of the cache, since packages are linked.
        let cache = TempDir::new_in(parent)
            .expect("a directory beside the cache")
            .keep();
        // Package files are never written to once they are there; apt's own files are.
        for (part, how) in [("debs", "--link"), ("apt", "--reflink=auto")] {
            let copied = Command::new("cp")
                .args(["--archive", how])
                .arg(self.cache.join(part))
                .arg(&cache)
                .status()
                .expect("cp runs");
            assert!(copied.success());
        }
        other.cache = cache;
        other
    }

    fn define(&self, name: &str, text: &str) {
        let text = format!("format = 1\nname = \"{name}\"\ndescription = \"of a test\"\n{text}");
        fs::write(self.directory.path().join(format!("{name}.toml")), text).expect("written");
    }

    fn request(&self, name: &str) -> BuildRequest {
        BuildRequest {
            definition: self.directory.path().join(format!("{name}.toml")),
            output: self.directory.path().join("layouts").join(name),
            locked: false,
            cache: self.cache.clone(),
            refresh_after: node_images::build::REFRESH_AFTER,
        }
    }

    fn build(&self, name: &str) -> BuiltImage {
        build(&self.request(name), &|event| println!("{event:?}")).unwrap_or_else(|error| panic!("{error}"))
    }
}

const TINY: &str = r#"
base = "base"
packages = ["libcap2-bin"]
remove = ["/usr/share/ca-certificates"]

[[files]]
path = "/opt/hello.py"
content = "print('hello')\n"
mode = "0755"

[config]
entrypoint = ["/usr/bin/python3", "/opt/hello.py"]
"#;

#[test]
fn built_again_from_scratch_it_is_the_same() {
    let bench = Bench::new();
    bench.define("twice", TINY);
    let first = bench.build("twice");

    let other = bench.with_empty_cache();
    other.define("twice", TINY);
    let second = other.build("twice");
    fs::remove_dir_all(&other.cache).expect("the second cache is removed");

    assert_eq!(second.layers, first.layers);
    assert_eq!(second.manifest, first.manifest);
    let bill = |built: &BuiltImage| fs::read(&built.sbom).expect("a bill of materials");
    assert!(bill(&second) == bill(&first), "bills of materials differ");
}

#[test]
fn a_second_build_takes_everything_from_the_cache() {
    let bench = Bench::new();
    bench.define("cached", TINY);
    bench.build("cached");
    let steps = Mutex::new(Vec::new());
    build(&bench.request("cached"), &|event| {
        if let BuildEvent::Started { step, .. } = event {
            steps.lock().expect("unpoisoned").push(step);
        }
    })
    .expect("built");
    let steps = steps.into_inner().expect("unpoisoned");
    // Another test may have the cache at this time.
    let own: Vec<Step> = steps.into_iter().filter(|step| *step != Step::Wait).collect();
    assert_eq!(own, [Step::Layout]);
}

#[test]
fn images_share_the_layers_of_their_bases() {
    let bench = Bench::new();
    bench.define("lower", TINY);
    bench.define(
        "upper",
        "base = \"lower\"\n[[files]]\npath = \"/opt/hello.py\"\ncontent = \"raise SystemExit(1)\"\n",
    );
    let lower = bench.build("lower");
    let upper = bench.build("upper");
    assert_eq!(lower.layers.len(), 2);
    assert_eq!(upper.layers[..2], lower.layers[..]);
    assert!(
        upper.layers[2].size < 4096,
        "a file is a small layer: {:?}",
        upper.layers[2]
    );

    let names = tar_names(&upper, 2);
    assert_eq!(names, ["opt/", "opt/hello.py"]);
    let names = tar_names(&lower, 1);
    assert!(
        names.contains(&"usr/share/.wh.ca-certificates".to_owned()),
        "{names:?}"
    );
    assert!(names.contains(&"usr/sbin/setcap".to_owned()), "{names:?}");
    assert!(!names.contains(&"usr/bin/python3.11".to_owned()), "{names:?}");
}

#[test]
fn a_locked_build_names_the_packages_that_moved() {
    let bench = Bench::new();
    bench.define("locked", TINY);
    let mut request = bench.request("locked");
    request.locked = true;
    let error = build(&request, &|_| {}).expect_err("no lock file yet");
    assert!(
        matches!(&error, BuildError::NoLock(path) if path.ends_with("base.lock")),
        "{error}"
    );

    let built = bench.build("locked");
    build(&request, &|_| {}).expect("the lock file is what was built");
    let text = fs::read_to_string(&built.lock).expect("a lock file");
    let line = text
        .lines()
        .find(|line| line.starts_with("libcap2-bin="))
        .expect("its package");
    assert!(line.contains(" amd64 sha256:"), "{line}");
    let older = text.replace(line, "libcap2-bin=1:0.1-1 amd64 -");
    fs::write(&built.lock, older).expect("written");
    let error = build(&request, &|_| {}).expect_err("another version is locked");
    let text = error.to_string();
    assert!(text.contains("libcap2-bin=1:0.1-1 is now "), "{text}");
}

#[test]
fn other_tools_read_the_image() {
    let bench = Bench::new();
    bench.define("tools", TINY);
    let built = bench.build("tools");
    let source = format!("oci:{}:tools", built.layout.display());
    let shown = skopeo(&["inspect", "--raw", &source]);
    assert_eq!(Digest::of(&shown), built.manifest);
    let config: serde_json::Value =
        serde_json::from_slice(&skopeo(&["inspect", "--config", &source])).expect("JSON");
    assert_eq!(config["architecture"], "amd64");
    assert_eq!(config["config"]["Entrypoint"][1], "/opt/hello.py");
    assert!(config["config"]["Labels"]["org.nodectl.package.libcap2-bin"].is_string());
    let archive = bench.directory.path().join("image.tar");
    skopeo(&[
        "copy",
        "--quiet",
        &source,
        &format!("oci-archive:{}", archive.display()),
    ]);
    assert!(fs::metadata(&archive).expect("an archive").len() > 1 << 20);

    let manifest: Manifest = serde_json::from_slice(&shown).expect("a manifest");
    assert_eq!(manifest.layers.len(), 2);
    let bill = fs::read(sbom_path(&built.layout)).expect("a bill of materials");
    let bill: serde_json::Value = serde_json::from_slice(&bill).expect("JSON");
    assert_eq!(bill["spdxVersion"], "SPDX-2.3");
    assert_eq!(
        bill["packages"].as_array().map(Vec::len),
        Some(built.packages + 1)
    );
}

#[test]
fn an_account_without_a_fixed_id_stops_the_build() {
    let bench = Bench::new();
    bench.define(
        "postgres",
        "base = \"base\"\npackages = [\"postgresql-common\"]\n",
    );
    let error = build(&bench.request("postgres"), &|_| {}).expect_err("it makes a user");
    let text = error.to_string();
    assert!(text.contains("user postgres="), "{text}");
    assert!(!bench.request("postgres").output.exists());
}

#[test]
fn a_package_that_does_not_exist_is_named() {
    let bench = Bench::new();
    bench.define("ghost", "base = \"base\"\npackages = [\"no-such-package\"]\n");
    let error = build(&bench.request("ghost"), &|_| {}).expect_err("no such package");
    assert!(
        error
            .to_string()
            .contains("Unable to locate package no-such-package"),
        "{error}"
    );
}

#[test]
fn another_directory_is_not_replaced() {
    let bench = Bench::new();
    bench.define("taken", TINY);
    let request = bench.request("taken");
    fs::create_dir_all(&request.output).expect("made");
    fs::write(request.output.join("precious"), "x").expect("written");
    let error = build(&request, &|_| {}).expect_err("the directory is taken");
    assert!(matches!(error, BuildError::OutputTaken(_)), "{error}");
    assert!(request.output.join("precious").exists());
}

fn skopeo(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("skopeo")
        .args(arguments)
        .output()
        .expect("skopeo runs; it is in Debian's package skopeo");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "skopeo {arguments:?}: {errors}");
    output.stdout
}

fn tar_names(built: &BuiltImage, layer: usize) -> Vec<String> {
    let blob = built
        .layout
        .join("blobs/sha256")
        .join(built.layers[layer].digest.hex());
    let decoder = zstd::Decoder::new(fs::File::open(blob).expect("a layer")).expect("zstd");
    let mut archive = tar::Archive::new(decoder);
    let entries = archive.entries().expect("a tar");
    entries
        .map(|entry| {
            entry
                .expect("an entry")
                .path()
                .expect("a path")
                .display()
                .to_string()
        })
        .collect()
}

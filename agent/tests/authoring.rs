//! A release from definition to bundle on OCI layouts: built, signed, verified, inspected, tampered with.

use std::path::{Path, PathBuf};
use std::process::Output;

use assert_cmd::Command;
use bytes::Bytes;
use node_images::artifact::{NewArtifact, NewLayer, push_artifact};
use node_images::digest::Digest;
use node_images::manifest::CONFIG;
use node_images::source::Layout;
use node_images::verify::{KeyKind, PrivateKey};
use serde_json::{Value, json};
use tempfile::TempDir;

const REPOSITORY: &str = "registry.example/compute-release";

/// A build machine: an image in a layout, a service, a release definition, a key that is trusted.
struct Workshop {
    directory: TempDir,
}

impl Workshop {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let workshop = Self { directory };
        workshop.write("sleeper.toml", SERVICE);
        workshop.write("release.toml", RELEASE);
        let key = PrivateKey::generate(KeyKind::Ed25519).unwrap();
        workshop.write(
            "release.key",
            std::str::from_utf8(&key.to_pem().unwrap()).unwrap(),
        );
        let public = key.public().unwrap().to_pem().unwrap();
        workshop.write("etc/trust/release.pub", std::str::from_utf8(&public).unwrap());
        workshop.write(
            "etc/trust/policy.toml",
            &format!("[[repository]]\nname = \"{REPOSITORY}\"\nkeys = [\"release.pub\"]\n"),
        );
        make_image(&workshop.path("image"));
        workshop
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn nodectl(&self, arguments: &[&str]) -> Output {
        Command::cargo_bin("nodectl")
            .unwrap()
            .current_dir(self.directory.path())
            .env_clear()
            .args(["--json", "--config-root", "etc"])
            .args(arguments)
            .output()
            .unwrap()
    }

    fn done(&self, arguments: &[&str]) -> Value {
        let output = self.nodectl(arguments);
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {message}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The exit status and what the operator reads.
    fn refused(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.nodectl(arguments);
        (
            output.status.code().unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    }

    fn build(&self) -> Value {
        self.done(&["release", "build", "release.toml", "--output", "release"])
    }

    fn signed(&self) -> Value {
        self.build();
        self.done(&[
            "release",
            "sign",
            "oci:release",
            "--key",
            "release.key",
            "--as",
            REPOSITORY,
        ])
    }
}

const SERVICE: &str = r#"
format = 1
name = "sleeper"
description = "sleeps"
image = "sleeper"
disruption = "none"
[container.process]
args = ["/bin/sleep", "infinity"]
user = "root"
[container.seccomp]
kind = "default"
[readiness]
kind = "started"
"#;

const RELEASE: &str = r#"
format = 1
name = "compute"
version = "1"
services = ["sleeper.toml"]
[images.sleeper]
repository = "sleeper"
layout = "image"
"#;

/// The smallest image: one empty layer and a configuration.
fn make_image(path: &Path) {
    let layer = Bytes::from(vec![0_u8; 1024]);
    let config = json!({
        "architecture": std::env::consts::ARCH.replace("x86_64", "amd64").replace("aarch64", "arm64"),
        "os": "linux",
        "config": {"Labels": {"org.nodectl.nova.service-version": "66", "maintainer": "nobody"}},
        "rootfs": {"type": "layers", "diff_ids": [Digest::of(&layer)]},
    });
    let image = NewArtifact {
        config: Some((CONFIG.to_owned(), config.to_string().into())),
        layers: vec![NewLayer::new("application/vnd.oci.image.layer.v1.tar", layer)],
        ..NewArtifact::default()
    };
    let layout = Layout::create(path).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime
        .block_on(push_artifact(&layout, &image, Some("sleeper:1")))
        .unwrap();
}

#[test]
fn the_same_definition_and_images_give_the_same_release() {
    let workshop = Workshop::new();
    let first = workshop.build();
    let second = workshop.done(&["release", "build", "release.toml", "-o", "again"]);
    assert_eq!(first["digest"], second["digest"]);
    let other = workshop.done(&[
        "release",
        "build",
        "release.toml",
        "-o",
        "other",
        "--release-version",
        "2",
    ]);
    assert_ne!(first["digest"], other["digest"]);
    assert_eq!(other["version"], "2");
}

#[test]
fn a_release_binds_the_digest_and_the_labels_that_matter() {
    let workshop = Workshop::new();
    let built = workshop.build();
    let image = workshop.done(&["image", "inspect", "oci:image"]);
    assert_eq!(built["images"]["sleeper"], image["digest"]);
    let found = workshop.done(&["release", "inspect", "oci:release"]);
    let binding = &found["release"]["images"]["sleeper"];
    assert_eq!(binding["digest"], image["digest"]);
    assert_eq!(
        binding["labels"],
        json!({"org.nodectl.nova.service-version": "66"})
    );
}

#[test]
fn a_signed_release_is_trusted_and_an_unsigned_one_is_65() {
    let workshop = Workshop::new();
    workshop.build();
    let (code, message) = workshop.refused(&["release", "verify", "oci:release"]);
    assert_eq!(code, 65, "{message}");
    assert!(message.contains("not signed"), "{message}");

    let signed = workshop.signed();
    let verified = workshop.done(&["release", "verify", "oci:release"]);
    assert_eq!(verified["digest"], signed["digest"]);
    assert_eq!(verified["signed_by"], json!(["release.pub"]));
}

#[test]
fn a_signature_by_another_key_or_for_another_repository_is_65() {
    let workshop = Workshop::new();
    workshop.build();
    let stranger = PrivateKey::generate(KeyKind::EcdsaP256)
        .unwrap()
        .to_pem()
        .unwrap();
    workshop.write("stranger.key", std::str::from_utf8(&stranger).unwrap());
    workshop.done(&[
        "release",
        "sign",
        "oci:release",
        "--key",
        "stranger.key",
        "--as",
        REPOSITORY,
    ]);
    assert_eq!(workshop.refused(&["release", "verify", "oci:release"]).0, 65);
    workshop.done(&[
        "release",
        "sign",
        "oci:release",
        "--key",
        "release.key",
        "--as",
        "registry.example/other",
    ]);
    assert_eq!(workshop.refused(&["release", "verify", "oci:release"]).0, 65);
}

#[test]
fn a_file_is_not_signed_without_a_name() {
    let workshop = Workshop::new();
    workshop.build();
    let (code, message) = workshop.refused(&["release", "sign", "oci:release", "--key", "release.key"]);
    assert_eq!(code, 64);
    assert!(message.contains("--as"), "{message}");
}

#[test]
fn a_flipped_byte_in_the_release_is_65() {
    let workshop = Workshop::new();
    workshop.signed();
    let found = workshop.done(&["release", "inspect", "oci:release"]);
    let digest = found["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
    let manifest = workshop.path("release/blobs/sha256").join(digest);
    let mut bytes = std::fs::read(&manifest).unwrap();
    bytes[10] ^= 1;
    std::fs::write(&manifest, bytes).unwrap();
    let (code, message) = workshop.refused(&["release", "verify", "oci:release"]);
    assert_eq!(code, 65, "{message}");
    assert!(message.contains(digest), "names the digest: {message}");
}

#[test]
fn a_bundle_has_the_release_its_signatures_and_every_image() {
    let workshop = Workshop::new();
    // In one layout with its images a release can be bundled without a registry.
    workshop.signed();
    workshop.done(&["image", "push", "oci:image", "oci:release:sleeper"]);
    let bundled = workshop.done(&["release", "bundle", "oci:release", "bundle.tar"]);
    assert_eq!(bundled["images"], 1);

    let verified = workshop.done(&["release", "verify", "./bundle.tar"]);
    assert_eq!(verified["signed_by"], json!(["release.pub"]));
    let digest = verified["digest"].clone();
    let image = workshop.done(&["image", "inspect", "oci:image"])["digest"].clone();
    let inside = format!("oci-archive:bundle.tar:{}", image.as_str().unwrap());
    assert_eq!(workshop.done(&["image", "inspect", &inside])["digest"], image);

    let again = workshop.done(&["release", "bundle", "oci:release", "again.tar"]);
    assert_eq!(again["digest"], digest);
    assert_eq!(
        std::fs::read(workshop.path("bundle.tar")).unwrap(),
        std::fs::read(workshop.path("again.tar")).unwrap(),
        "the same bundle, byte for byte"
    );
}

#[test]
fn a_bundle_without_an_image_is_not_written() {
    let workshop = Workshop::new();
    workshop.signed();
    let (code, message) = workshop.refused(&["release", "bundle", "oci:release", "bundle.tar"]);
    assert_eq!(code, 69, "{message}");
    assert!(message.contains("image sleeper"), "{message}");
    let left: Vec<_> = std::fs::read_dir(workshop.directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with('.') || name.contains("bundle"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn what_is_wrong_with_a_definition_is_78_and_named() {
    let workshop = Workshop::new();
    workshop.write("release.toml", &RELEASE.replace("layout = \"image\"", ""));
    let (code, message) = workshop.refused(&["release", "build", "release.toml", "-o", "x"]);
    assert_eq!(code, 78, "{message}");
    assert!(
        message.contains("image sleeper") && message.contains("hint: "),
        "{message}"
    );

    workshop.write("release.toml", &RELEASE.replace("version", "verison"));
    let (code, message) = workshop.refused(&["release", "build", "release.toml", "-o", "x"]);
    assert_eq!(code, 78, "{message}");
    assert!(
        message.contains("release.toml") && message.contains("verison"),
        "{message}"
    );

    workshop.write("release.toml", RELEASE);
    workshop.write("sleeper.toml", &SERVICE.replace("\"none\"", "\"sometimes\""));
    let (code, message) = workshop.refused(&["release", "build", "release.toml", "-o", "x"]);
    assert_eq!(code, 78, "{message}");
    assert!(
        message.contains("sleeper.toml") && message.contains("sometimes"),
        "{message}"
    );
    assert!(!workshop.path("x").exists(), "nothing was written");
}

//! The OCI image of a definition: configuration, manifest, and the layout directory that has them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::chain::Inherited;
use super::error::BuildError;
use super::facts::PACKAGE;
use super::level::Level;
use crate::digest::Digest;
use crate::manifest::{CONFIG, Descriptor, Index, MANIFEST, Manifest, Platform, REF_NAME};

const LAYOUT_FILE: &str = "oci-layout";
const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// The documents of an image.
pub struct Image {
    /// Bytes of the configuration.
    pub config: Vec<u8>,
    /// Bytes of the manifest.
    pub manifest: Vec<u8>,
    /// The manifest as an entry of the layout's index.
    pub entry: Descriptor,
}

/// Image configuration (OCI image-spec, config.md), as far as this project writes it.
#[derive(Serialize)]
struct ImageConfig<'i> {
    created: String,
    architecture: String,
    os: &'static str,
    config: Execution<'i>,
    rootfs: RootFs,
    history: Vec<History>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Execution<'i> {
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'i str>,
    env: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entrypoint: Option<&'i [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cmd: Option<&'i [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    working_dir: Option<&'i str>,
    labels: &'i BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_signal: Option<&'i str>,
}

#[derive(Serialize)]
struct RootFs {
    r#type: &'static str,
    diff_ids: Vec<Digest>,
}

#[derive(Serialize)]
struct History {
    created: String,
    created_by: String,
}

/// Describes the image of `inherited` whose levels are `levels` (name and level, lowest first).
///
/// # Errors
/// Those of `serde_json`, which this input cannot cause.
pub fn describe(inherited: &Inherited<'_>, levels: &[(String, Level)]) -> serde_json::Result<Image> {
    let created = inherited.archive.epoch.to_string();
    let labels = labels(inherited, levels, &created);
    let config = &inherited.config;
    let layers = levels.iter().map(|(_, level)| &level.record.layer);
    let config = serde_json::to_vec(&ImageConfig {
        created: created.clone(),
        architecture: platform(inherited).architecture,
        os: "linux",
        config: Execution {
            user: config.user.as_deref(),
            env: config
                .env
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect(),
            entrypoint: config.entrypoint.as_deref(),
            cmd: config.cmd.as_deref(),
            working_dir: config.working_dir.as_deref(),
            labels: &labels,
            stop_signal: config.stop_signal.as_deref(),
        },
        rootfs: RootFs {
            r#type: "layers",
            diff_ids: layers.clone().map(|layer| layer.diff_id).collect(),
        },
        history: levels.iter().map(|(name, _)| history(name, &created)).collect(),
    })?;
    let layer_entry = |layer: &super::compress::Layer| Descriptor {
        media_type: layer.media_type.clone(),
        digest: layer.digest,
        size: layer.size,
        annotations: BTreeMap::new(),
        platform: None,
        artifact_type: None,
    };
    let manifest = serde_json::to_vec(&Manifest {
        schema_version: 2,
        media_type: Some(MANIFEST.to_owned()),
        artifact_type: None,
        config: Descriptor::of(CONFIG, &config),
        layers: layers.map(layer_entry).collect(),
        subject: None,
        annotations: labels,
    })?;
    let mut entry = Descriptor::of(MANIFEST, &manifest);
    entry.platform = Some(platform(inherited));
    entry
        .annotations
        .insert(REF_NAME.to_owned(), inherited.definition().name.clone());
    Ok(Image {
        config,
        manifest,
        entry,
    })
}

fn labels(inherited: &Inherited<'_>, levels: &[(String, Level)], created: &str) -> BTreeMap<String, String> {
    let definition = inherited.definition();
    let mut labels = BTreeMap::from([
        ("org.opencontainers.image.created".to_owned(), created.to_owned()),
        (
            "org.opencontainers.image.description".to_owned(),
            definition.description.clone(),
        ),
        (
            "org.opencontainers.image.title".to_owned(),
            definition.name.clone(),
        ),
    ]);
    if let Some((_, top)) = levels.last() {
        labels.extend(top.record.facts.labels());
        let version = |name: &str| {
            let component = top.record.components.iter().find(|c| c.name == name)?;
            Some(component.version.clone())
        };
        for name in &inherited.requested {
            labels.extend(version(name).map(|version| (format!("{PACKAGE}{name}"), version)));
        }
        let version = inherited.version_of.and_then(version);
        labels.extend(version.map(|v| ("org.opencontainers.image.version".to_owned(), v)));
    }
    labels.extend(inherited.labels.clone());
    labels
}

fn history(name: &str, created: &str) -> History {
    History {
        created: created.to_owned(),
        created_by: format!("nodectl image build {name}.toml"),
    }
}

/// OCI names architectures as Go does, Debian in its own way.
fn platform(inherited: &Inherited<'_>) -> Platform {
    let architecture = match inherited.archive.architecture.as_str() {
        "i386" => "386",
        "armhf" => "arm",
        "ppc64el" => "ppc64le",
        other => other,
    };
    Platform {
        architecture: architecture.to_owned(),
        os: "linux".to_owned(),
        variant: None,
    }
}

/// Writes the layout directory `output`, replacing one that is there.
///
/// # Errors
/// [`BuildError::OutputTaken`] where something else is there, [`BuildError::Io`].
pub fn write_layout(image: &Image, levels: &[(String, Level)], output: &Path) -> Result<(), BuildError> {
    let taken = match fs::read_dir(output) {
        Ok(mut entries) => entries.next().is_some() && !output.join(LAYOUT_FILE).is_file(),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    };
    if taken {
        return Err(BuildError::OutputTaken(output.to_owned()));
    }
    let parent = match output.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        Some(_) | None => PathBuf::from("."),
    };
    fs::create_dir_all(&parent).map_err(BuildError::io("make", &parent))?;
    let new = tempfile::Builder::new()
        .prefix(".layout-")
        .tempdir_in(&parent)
        .map_err(BuildError::io("make a directory in", &parent))?;
    let layout = new.path().join("layout");
    fill(image, levels, &layout)?;
    let old = new.path().join("old");
    match fs::rename(output, &old) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(BuildError::io("replace", output)(error));
        }
        Ok(()) | Err(_) => {}
    }
    fs::rename(&layout, output).map_err(BuildError::io("name", output))
}

fn fill(image: &Image, levels: &[(String, Level)], layout: &Path) -> Result<(), BuildError> {
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).map_err(BuildError::io("make", &blobs))?;
    for (_, level) in levels {
        let blob = blobs.join(level.record.layer.digest.hex());
        link_or_copy(&level.layer_path(), &blob)?;
    }
    for bytes in [&image.config, &image.manifest] {
        put(&blobs.join(Digest::of(bytes).hex()), bytes)?;
    }
    let index = serde_json::to_vec(&Index::new(vec![image.entry.clone()]))
        .map_err(|error| BuildError::unexpected("index", error))?;
    put(&layout.join("index.json"), &index)?;
    put(&layout.join(LAYOUT_FILE), LAYOUT)
}

/// Levels are never written to, so a link is as good as a copy, and nothing where it works.
fn link_or_copy(from: &Path, to: &Path) -> Result<(), BuildError> {
    if to.exists() {
        return Ok(());
    }
    fs::hard_link(from, to)
        .or_else(|_| fs::copy(from, to).map(drop))
        .map_err(BuildError::io("copy", from))
}

fn put(path: &Path, bytes: &[u8]) -> Result<(), BuildError> {
    fs::write(path, bytes).map_err(BuildError::io("write", path))
}

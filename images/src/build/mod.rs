//! Builds OCI images from Debian packages.
//!
//! ```text
//! NAME.toml ─▶ chain of definitions ─▶ for each, from the lowest:
//!     apt chooses versions (lock) ─▶ mmdebstrap installs ─▶ tar ─▶ tree ─▶ normalised tree
//!         ─▶ difference to the base's tree ─▶ layer, in the cache
//! layers ─▶ configuration, manifest, OCI layout, bill of materials
//! ```
//!
//! Every definition is one layer, so images with the same base share its layer byte for byte. The
//! same packages and the same definition give the same digest, wherever and whenever it is built.

pub mod accounts;
pub mod apt;
mod cache;
pub mod chain;
pub mod compress;
pub mod definition;
pub mod diff;
pub mod dpkg;
pub mod error;
pub mod event;
pub mod facts;
pub mod image;
pub mod install;
pub mod level;
pub mod lock;
pub mod normalise;
mod process;
pub mod sbom;
pub mod scan;
mod session;
pub mod tarball;
pub mod tree;
mod validate;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use error::BuildError;
pub use event::{BuildEvent, Observer, Step};

use crate::digest::Digest;
use compress::Layer;
use facts::Facts;
use session::Session;

/// Package lists younger than this are taken as they are.
pub const REFRESH_AFTER: Duration = Duration::from_secs(3600);

/// What to build.
#[derive(Debug, Clone)]
pub struct BuildRequest {
    /// File of the definition.
    pub definition: PathBuf,
    /// The layout directory to write or replace.
    pub output: PathBuf,
    /// Fail where the archive's choice is not that of the lock files, instead of writing them anew.
    pub locked: bool,
    /// Directory for what is kept between builds.
    pub cache: PathBuf,
    /// Age from which package lists are fetched again: zero always, [`Duration::MAX`] never.
    pub refresh_after: Duration,
}

/// What was built.
#[derive(Debug, Clone)]
pub struct BuiltImage {
    /// The definition's name.
    pub name: String,
    /// The OCI layout directory, with one image in it.
    pub layout: PathBuf,
    /// The image's manifest.
    pub manifest: Digest,
    /// Its layers, the lowest first.
    pub layers: Vec<Layer>,
    /// Number of packages.
    pub packages: usize,
    /// What the image says about its components.
    pub facts: Facts,
    /// The lock file of the definition.
    pub lock: PathBuf,
    /// The bill of materials, SPDX 2.3 JSON.
    pub sbom: PathBuf,
}

/// Where builds keep what they can use again: `$NODECTL_CACHE`, else `/var/cache/nodectl`.
#[must_use]
pub fn default_cache() -> PathBuf {
    let root = std::env::var_os("NODECTL_CACHE").filter(|value| !value.is_empty());
    root.map_or_else(|| PathBuf::from("/var/cache/nodectl"), PathBuf::from)
        .join("build")
}

/// The bill of materials that belongs to the layout directory `layout`: `LAYOUT.spdx.json` beside it.
#[must_use]
pub fn sbom_path(layout: &Path) -> PathBuf {
    let mut name = layout.as_os_str().to_owned();
    name.push(".spdx.json");
    PathBuf::from(name)
}

/// Builds the image of a definition.
///
/// # Errors
/// [`BuildError`]; the output is then as it was, and so are lock files.
pub fn build(request: &BuildRequest, observer: Observer<'_>) -> Result<BuiltImage, BuildError> {
    let chain = definition::load_chain(&request.definition)?;
    let inherited = chain::inherit(&chain)?;
    let session = Session::open(request, inherited.archive, observer)?;
    let levels = session.levels(&chain)?;
    let name = inherited.definition().name.clone();
    session.step(&name, Step::Layout, || {
        let image = image::describe(&inherited, &levels)
            .map_err(|error| BuildError::unexpected("image documents", error))?;
        let top = levels.last().map(|(_, level)| &level.record);
        let components = top.map_or(&[][..], |record| &record.components[..]);
        let subject = sbom::Subject {
            name: &name,
            manifest: &image.entry.digest,
            created: &inherited.archive.epoch.to_string(),
            suite: &inherited.archive.suite,
        };
        let bill = sbom::render(&subject, components)
            .map_err(|error| BuildError::unexpected("bill of materials", error))?;
        image::write_layout(&image, &levels, &request.output)?;
        let sbom = sbom_path(&request.output);
        fs::write(&sbom, bill).map_err(BuildError::io("write", &sbom))?;
        let built = BuiltImage {
            name: name.clone(),
            layout: request.output.clone(),
            manifest: image.entry.digest,
            layers: levels
                .iter()
                .map(|(_, level)| level.record.layer.clone())
                .collect(),
            packages: components.len(),
            facts: top.map(|record| record.facts.clone()).unwrap_or_default(),
            lock: session::lock_path(&request.definition),
            sbom,
        };
        Ok((built, image.entry.digest.to_string()))
    })
}

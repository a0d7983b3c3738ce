//! A release and all its images in one file, for nodes without a registry.

use std::path::Path;

use node_images::source::{Layout, copy_image, write_archive};
use node_images::verify;

use super::image::tag_of;
use super::places::parse;
use super::{Bundled, Places, release, trouble};
use crate::error::{AgentError, Kind, Result};
use crate::release::locate;

/// Writes the bundle of a release, with its signatures.
///
/// # Errors
///
/// When the release or an image can't be read, or the file can't be written. There is no file then.
pub async fn bundle(places: &Places, reference: &str, file: &Path) -> Result<Bundled> {
    let reference = parse(reference)?;
    let (source, artifact) = release::open(places, &reference).await?;
    let document = release::document_of(&artifact)?;
    let parent = file
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let work =
        tempfile::tempdir_in(parent).map_err(|error| AgentError::io("make a directory in", parent, error))?;
    let failed = || trouble::place("can't put the release into the bundle");
    let layout = Layout::create(work.path()).map_err(failed())?;
    verify::copy_signed(&source, &artifact.digest, &layout, &tag_of(&reference))
        .await
        .map_err(failed())?;
    for (name, image) in &document.images {
        let failed = || trouble::place(format!("can't put image {name} into the bundle"));
        let found = locate::image(&reference, &image.repository, &image.digest).map_err(|error| {
            AgentError::new(Kind::Verification, format!("image {name} has a bad repository")).because(error)
        })?;
        let from = match &found {
            Some(found) => places.sources.open(found).map_err(failed())?,
            None => source.clone(),
        };
        copy_image(&from, &image.digest, &layout, None)
            .await
            .map_err(failed())?;
    }
    write_archive(work.path(), file).map_err(trouble::place("can't write the bundle"))?;
    let size = std::fs::metadata(file)
        .map_err(|error| AgentError::io("inspect", file, error))?
        .len();
    Ok(Bundled {
        file: file.to_owned(),
        size,
        digest: artifact.digest,
        images: document.images.len(),
    })
}

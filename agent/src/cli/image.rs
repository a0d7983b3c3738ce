//! `nodectl image`: build, push and inspect images.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use node_images::build::{self, BuildRequest, BuiltImage};

use super::places::PlaceOptions;
use super::{Context, Exit};
use crate::authoring::{self, ImageBuilt, LayerInfo};
use crate::output::BuildView;

/// Build, push and inspect images.
#[derive(Debug, Subcommand)]
pub enum Image {
    /// Build an image from Debian packages into an OCI layout.
    Build(Build),
    /// Copy an image to a registry, with its bill of materials.
    Push(Push),
    /// Say what an image is.
    Inspect(Inspect),
}

impl Image {
    pub(super) fn run(self, context: &Context) -> anyhow::Result<Exit> {
        match self {
            Self::Build(verb) => verb.run(context),
            Self::Push(verb) => verb.run(context),
            Self::Inspect(verb) => verb.run(context),
        }
    }
}

/// Build an image from Debian packages into an OCI layout: same inputs, same digest.
#[derive(Debug, Args)]
pub struct Build {
    /// Image definition file.
    definition: PathBuf,

    /// OCI layout directory to write or replace.
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,

    /// Fail where the archive has other package versions than the lock file.
    #[arg(long)]
    locked: bool,

    /// Directory for what is kept between builds [default: $NODECTL_CACHE/build].
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,

    /// Fetch the package lists even if they are fresh.
    #[arg(long)]
    refresh: bool,
}

impl Build {
    fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let request = BuildRequest {
            definition: self.definition,
            output: self.output,
            locked: self.locked,
            cache: self.cache.unwrap_or_else(build::default_cache),
            refresh_after: if self.refresh {
                Duration::ZERO
            } else {
                build::REFRESH_AFTER
            },
        };
        let view = BuildView::new(context.output.progress());
        let built = build::build(&request, &|event| view.show(&event));
        view.finish();
        context
            .output
            .document(&document(built.map_err(authoring::build_trouble)?))?;
        Ok(Exit::DONE)
    }
}

fn document(built: BuiltImage) -> ImageBuilt {
    let layer = |layer: build::compress::Layer| LayerInfo {
        digest: layer.digest,
        size: layer.size,
        media_type: layer.media_type,
    };
    ImageBuilt {
        name: built.name,
        layout: built.layout,
        digest: built.manifest,
        layers: built.layers.into_iter().map(layer).collect(),
        packages: built.packages,
        lock: built.lock,
        sbom: built.sbom,
    }
}

/// Copy an image to a registry, with its bill of materials.
#[derive(Debug, Args)]
pub struct Push {
    /// Image: oci:DIRECTORY or an archive file.
    from: String,

    /// Where to: HOST/NAME:TAG.
    to: String,

    #[command(flatten)]
    places: PlaceOptions,
}

impl Push {
    fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let places = self.places.open(context)?;
        let pushed = context.wait_for(authoring::push_image(&places, &self.from, &self.to))?;
        context.output.document(&pushed)?;
        Ok(Exit::DONE)
    }
}

/// Say what an image is: digest, layers, labels and what refers to it.
#[derive(Debug, Args)]
pub struct Inspect {
    /// Image: HOST/NAME:TAG, oci:DIRECTORY or an archive file.
    reference: String,

    #[command(flatten)]
    places: PlaceOptions,
}

impl Inspect {
    fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let places = self.places.open(context)?;
        let found = context.wait_for(authoring::inspect_image(&places, &self.reference))?;
        context.output.document(&found)?;
        Ok(Exit::DONE)
    }
}

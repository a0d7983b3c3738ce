//! `nodectl release`: build, sign, verify, push and bundle releases.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::places::PlaceOptions;
use super::{Context, Exit};
use crate::authoring::{self, ReleaseRequest};

/// Build, sign, verify, push and bundle releases.
#[derive(Debug, Subcommand)]
pub enum Release {
    /// Bind images, services and defaults into one document in an OCI layout.
    Build(Build),
    /// Copy a release with its signatures to a registry.
    Push(Push),
    /// Sign a release where it is.
    Sign(Sign),
    /// Check a release against the trust policy of this machine.
    Verify(Verify),
    /// Say what a release is.
    Inspect(Inspect),
    /// Write a release and all its images to one file.
    Bundle(Bundle),
}

impl Release {
    pub(super) fn run(self, context: &Context) -> anyhow::Result<Exit> {
        match self {
            Self::Build(verb) => verb.run(context),
            Self::Push(verb) => verb.run(context),
            Self::Sign(verb) => verb.run(context),
            Self::Verify(verb) => verb.run(context),
            Self::Inspect(verb) => verb.run(context),
            Self::Bundle(verb) => verb.run(context),
        }
    }
}

/// Bind images, services and defaults into one document in an OCI layout.
#[derive(Debug, Args)]
pub struct Build {
    /// Release definition file.
    definition: PathBuf,

    /// OCI layout directory to write to.
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,

    /// Version instead of the definition's.
    #[arg(long, value_name = "VERSION")]
    release_version: Option<String>,

    /// Where to take an image's digest from, instead of what the definition says.
    #[arg(long = "image", value_name = "NAME=REFERENCE", value_parser = super::set::assignment)]
    images: Vec<(String, String)>,

    #[command(flatten)]
    places: PlaceOptions,
}

impl Build {
    fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let places = self.places.open(context)?;
        let request = ReleaseRequest {
            definition: self.definition,
            output: self.output,
            version: self.release_version,
            images: self.images.into_iter().collect::<BTreeMap<_, _>>(),
        };
        let built = context.wait_for(authoring::build_release(&places, &request))?;
        context.output.document(&built)?;
        Ok(Exit::DONE)
    }
}

/// Copy a release with its signatures to a registry.
#[derive(Debug, Args)]
pub struct Push {
    /// Release: oci:DIRECTORY or an archive file.
    from: String,

    /// Where to: HOST/NAME:TAG.
    to: String,

    #[command(flatten)]
    places: PlaceOptions,
}

impl Push {
    fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let places = self.places.open(context)?;
        let pushed = context.wait_for(authoring::push_release(&places, &self.from, &self.to))?;
        context.output.document(&pushed)?;
        Ok(Exit::DONE)
    }
}

/// Sign a release where it is, as cosign(1) does with a key.
#[derive(Debug, Args)]
pub struct Sign {
    /// Release: HOST/NAME:TAG or oci:DIRECTORY.
    reference: String,

    /// Private key, unencrypted PEM: ed25519 or ECDSA P-256.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,

    /// Repository that the signature speaks of [default: where the release is].
    #[arg(long = "as", value_name = "HOST/NAME")]
    identity: Option<String>,

    #[command(flatten)]
    places: PlaceOptions,
}

impl Sign {
    fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let places = self.places.open(context)?;
        let signing = authoring::sign_release(&places, &self.reference, &self.key, self.identity.as_deref());
        let signed = context.wait_for(signing)?;
        context.output.document(&signed)?;
        Ok(Exit::DONE)
    }
}

/// Check a release against the trust policy of this machine.
#[derive(Debug, Args)]
pub struct Verify {
    /// Release: HOST/NAME:TAG, oci:DIRECTORY or a bundle file.
    reference: String,

    #[command(flatten)]
    places: PlaceOptions,
}

impl Verify {
    fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let places = self.places.open(context)?;
        let trust = context.roots.trust();
        let verified = context.wait_for(authoring::verify_release(&places, &trust, &self.reference))?;
        context.output.document(&verified)?;
        Ok(Exit::DONE)
    }
}

/// Say what a release is, without asking who vouches for it.
#[derive(Debug, Args)]
pub struct Inspect {
    /// Release: HOST/NAME:TAG, oci:DIRECTORY or a bundle file.
    reference: String,

    #[command(flatten)]
    places: PlaceOptions,
}

impl Inspect {
    fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let places = self.places.open(context)?;
        let found = context.wait_for(authoring::inspect_release(&places, &self.reference))?;
        context.output.document(&found)?;
        Ok(Exit::DONE)
    }
}

/// Write a release and all its images to one file, for nodes without a registry.
#[derive(Debug, Args)]
pub struct Bundle {
    /// Release: HOST/NAME:TAG or oci:DIRECTORY.
    reference: String,

    /// File to write.
    file: PathBuf,

    #[command(flatten)]
    places: PlaceOptions,
}

impl Bundle {
    fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let places = self.places.open(context)?;
        let bundled = context.wait_for(authoring::bundle(&places, &self.reference, &self.file))?;
        context.output.document(&bundled)?;
        Ok(Exit::DONE)
    }
}

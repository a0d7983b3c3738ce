//! Making images and releases: what authors do on a build machine, never a node by itself.
//!
//! ```text
//! places.rs     registries, layouts and archives by reference
//! image.rs      push and inspect an image
//! release.rs    build, push, sign, verify and inspect a release
//! bundle.rs     a release and all its images in one file
//! locate.rs     where an image of a release is (pure)
//! document.rs   what these print
//! trouble.rs    which exit code a failure gets
//! ```

mod bundle;
mod document;
mod image;
mod places;
mod release;
mod trouble;

pub use bundle::bundle;
pub use document::{
    Bundled, ImageBuilt, ImageInspected, LayerInfo, Pushed, ReleaseBuilt, ReleaseInspected, ReleaseVerified,
    Signed,
};
pub use image::{inspect as inspect_image, push as push_image};
pub use places::Places;
pub use release::{
    ReleaseRequest, build as build_release, inspect as inspect_release, push as push_release,
    sign as sign_release, verify as verify_release,
};
pub use trouble::build as build_trouble;

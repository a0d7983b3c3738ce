//! A release: every image, service definition and default, bound by digest and signed as one thing.

mod build;
mod choice;
mod document;
pub mod locate;
mod profiles;

pub use build::{ImageSource, ReleaseDefinition};
pub use choice::{Choice, SelectionError, Wanted, select};
pub use document::{
    FORMAT, ImageBinding, MEDIA_TYPE, Probation, ReleaseDocument, ReleaseError, ReleaseRequires,
};
pub use profiles::{SeccompProfile, SeccompProfiles};

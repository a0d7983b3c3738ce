//! OCI images on a node: where they come from, how they are verified, and the store that holds them.

pub mod artifact;
pub mod build;
pub mod digest;
pub mod durable;
pub mod error;
pub mod layer;
pub mod manifest;
pub mod progress;
pub mod pull;
pub mod reference;
pub mod registry;
pub mod source;
pub mod store;
mod sys;
pub mod verify;

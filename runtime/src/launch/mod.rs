//! What node-run needs besides the OCI configuration of a bundle, and what it does with it.

mod document;
mod record;

pub use document::{CredentialFile, FORMAT, HostDirectory, Launch, LaunchError, Readiness, launch_document};
pub use record::{RecordError, Running, running};

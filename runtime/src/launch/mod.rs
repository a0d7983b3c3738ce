//! What node-run needs besides the OCI configuration of a bundle, and what it does with it.

mod bundle;
mod container;
mod credentials;
mod directories;
mod document;
mod error;
mod filesystems;
mod limits;
mod mounts;
mod place;
mod prepare;
mod privileges;
mod readiness;
mod record;
mod skeleton;
mod start;
mod supervisor;
mod workload;

pub use bundle::{Bundle, find};
pub use document::{CredentialFile, FORMAT, HostDirectory, Launch, LaunchError, Readiness, launch_document};
pub use error::{Failed, StartError};
pub use record::{RecordError, Running, running};
pub use start::{Roots, start};
pub(crate) use workload::execute;

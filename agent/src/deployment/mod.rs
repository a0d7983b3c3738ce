//! A deployment: a release and the node's configuration, resolved on this node and rendered into
//! an immutable numbered directory.
//!
//! ```text
//! deployments/<seq>/deployment.json    what it is (DeploymentDocument)
//!                   release.json       the release it was made from
//!                   node.toml          the configuration it was made with
//!                   SHA256SUMS         what all other files have to be
//!                   units/<name>.service
//!                   services/<name>/   config.json launch.json files/… seccomp.bpf digest
//! ```

mod bundle;
mod directory;
mod document;
mod render;
mod seq;
mod stage;
pub mod sums;

pub use bundle::{Bundle, BundleFile};
pub use directory::{Deployment, current, list, next_seq};
pub use document::{DeployedService, DeploymentDocument, FORMAT, Reason};
pub use render::{ImageFacts, NodeInputs, RenderedService, render_service};
pub use seq::Seq;
pub use stage::{Staging, remove_unfinished, stage};

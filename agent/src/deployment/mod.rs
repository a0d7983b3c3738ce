//! A deployment: a release and the node's configuration, resolved on this node and rendered into
//! an immutable numbered directory.

mod seq;

pub use seq::Seq;

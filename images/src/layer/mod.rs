//! Reading a layer: a tar archive as other tools write it becomes an index of entries and objects.
//!
//! `archive`, `member`, `pax` and `sparse` decode tar; `import` judges each member by the `policy`;
//! `index` is the result for one layer, `plan` puts layers on top of each other. None of it writes files.

mod archive;
mod examine;
mod import;
mod index;
mod member;
mod path;
mod pax;
mod plan;
mod policy;
mod sparse;
#[cfg(test)]
mod tests;

pub(crate) use archive::{Archive, ArchiveError};
pub use examine::examine;
pub(crate) use import::{ObjectSink, SinkError, import};
pub(crate) use index::INDEX_VERSION;
pub use index::{Attributes, Bytes, LayerIndex, Mtime, Node};
pub(crate) use member::{Kind as MemberKind, Member};
pub use path::EntryPath;
pub use plan::Tree;
pub use policy::{DevicePolicy, Limits, Policy, PrivilegePolicy};

//! Reading a layer: a tar archive as other tools write it becomes an index of entries and objects.

mod policy;

pub use policy::{DevicePolicy, Limits, Policy, PrivilegePolicy};

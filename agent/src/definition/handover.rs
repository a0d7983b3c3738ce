//! What a service leaves to its successor when it is restarted.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A service that has something in memory which its successor needs. It is restarted in one step at its place in the
/// start order, not stopped with the others before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Handover {
    /// What is handed over.
    pub kind: HandoverKind,
}

/// A closed set: a new kind is a new variant with its own tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HandoverKind {
    /// The service is ovs-vswitchd: its OpenFlow tables, groups, meters and tunnel fields, while the kernel's datapath
    /// goes on forwarding.
    OvsDataplane,
}

//! The client's view of `org.nodectl.Agent1`.

use zbus::proxy;

/// `org.nodectl.Agent1`; see [`super::Interface`] for what each call does.
#[proxy(
    interface = "org.nodectl.Agent1",
    default_service = "org.nodectl.Agent1",
    default_path = "/org/nodectl/Agent1"
)]
pub trait Agent1 {
    /// Starts an operation; gives its number and that of the last event before it.
    fn start(&self, request: &str) -> zbus::Result<(u64, u64)>;
    /// Waits for an operation; gives how it ended.
    fn wait(&self, operation: u64) -> zbus::Result<String>;
    /// What the node runs.
    fn status(&self) -> zbus::Result<String>;
    /// What was done on this node.
    fn history(&self, limit: u32) -> zbus::Result<String>;
    /// Events after a number.
    fn events_since(&self, seq: u64) -> zbus::Result<Vec<String>>;
    /// Something happened.
    #[zbus(signal)]
    fn event(&self, seq: u64, event: &str) -> zbus::Result<()>;
}

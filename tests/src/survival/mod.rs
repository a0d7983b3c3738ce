//! Guests on a node with a kernel of its own, and what they have to outlive: every move of the services below them.
//!
//! ```text
//!  netns peer ── to-peer ┐                     ┌ tap ── guest one    pinged every 10 ms
//!                        │ br-guests, learning ├ tap ── guest two    pinged every 10 ms
//!                        └ kernel datapath     └        guest three  has no card; is saved and restored
//! ```
//!
//! All three are started by release 1. What a guest must keep is in [`Rig::lives`]: its process, every line of its
//! console, its machine never stopped, and that everybody agrees that it is there.

mod afterwards;
mod dangers;
mod offers;
mod releases;
mod rig;
mod rounds;

pub use dangers::{ends, in_the_cgroup_of_its_daemon};
pub use offers::way_back_is_closed;
pub use releases::Releases;
pub use rig::{BRIDGE, Rig};
pub use rounds::{Round, table};

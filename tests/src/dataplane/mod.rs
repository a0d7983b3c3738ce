//! Packets through Open vSwitch on a node with a kernel of its own, counted while its daemons are replaced.
//!
//! ```text
//!  netns a ── pa ┐                   ┌ pb ── netns b     br-int: secure, explicit flows, a meter, a group
//!  netns c ── pc ┘ kernel datapath   └ pd ── netns d     br-ex: standalone, learns by itself
//! ```
//!
//! In each round two pings go every 10 ms, one TCP stream is never silent, and new connections are opened all the time,
//! each of which the kernel has no flow for.

mod figures;
mod peer;
mod releases;
mod rig;

pub use figures::{Figures, Pings, Round, table};
pub use peer::{Counted, Peer};
pub use releases::Releases;
pub use rig::Rig;

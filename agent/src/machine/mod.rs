//! The transaction as a state machine. Pure: states and events in, states and effects out.
//!
//! ```text
//! Idle → Fetching → Verified → Staged → Armed ─commit─▶ Activating → Probation → Blessed → Idle
//!          any failure before the commit: Idle             └──────────┴──▶ Reverting → Idle
//! ```
//!
//! docs/state-machine.dot has every edge; it is printed by [`diagram`] from [`next`] itself.

pub mod diagram;
mod effect;
mod event;
mod state;
#[cfg(test)]
mod tests;
mod transition;

pub use effect::Effect;
pub use event::Event;
pub use state::{Move, Setback, State};
pub use transition::{Illegal, next};

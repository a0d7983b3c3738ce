//! What nodectl knows about systemd.
//!
//! ```text
//!  service definition ─ service ─ render ─▶ unit text ─▶ deployment/units/
//!                                                             │ generator (boot, daemon-reload)
//!  agent ── client ──D-Bus──▶ systemd ◀──── generator dir ◀───┘
//!               └ job (awaited by result) · state (what a unit does now) · journal (what it said)
//! ```
//!
//! - [`name`]: a checked unit name.
//! - [`unit`]: the unit-file writer; values are typed, so none can add a line or a directive.
//! - [`value`]: time spans, memory limits and signals as a definition writes them.
//! - [`service`]: the `[unit]` section of a service definition.
//! - [`render`]: that section plus the launcher's command line as unit text.
//! - [`client`]: the few verbs on systemd's manager, each with a deadline.
//! - [`job`] and [`state`]: results and states as enums.
//! - [`journal`]: the last lines of a unit.
//! - [`generator`]: what the boot-time generator emits, pure, and its edge.
//! - [`fake`]: (feature `fake`) a scriptable manager for tests.

pub mod client;
pub mod error;
#[cfg(feature = "fake")]
pub mod fake;
pub mod generator;
pub mod job;
pub mod journal;
pub mod name;
mod private_socket;
mod properties;
mod proxy;
pub mod render;
pub mod service;
pub mod state;
pub mod unit;
pub mod value;

pub use client::Systemd;
pub use error::{Error, Result};
pub use job::JobResult;
pub use name::UnitName;
pub use render::{RenderedUnit, ServiceExec, render_service};
pub use service::ServiceUnit;
pub use state::UnitStatus;

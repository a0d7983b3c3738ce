//! Whether a move can be made, and whether the way back stays open after it. Pure.
//!
//! What an image offers stands in its labels ([`Offer`]); what runs is found at the edge: the machine types of the
//! guests and the QEMU they run in ([`Guest`]), and the service versions of nova's cell ([`Cell`]).

mod cell;
pub mod emulator;
mod guest;
mod judge;
mod offer;

pub use cell::{Cell, CellView};
pub use guest::Guest;
pub use judge::{Judgement, Move, afterwards, judge};
pub use offer::{LIBVIRTD, LabelError, NOVA_COMPUTE, OVSDB_SERVER, Offer, SchemaVersion};

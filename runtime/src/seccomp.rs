//! Compilation of system call filters, done when a bundle is staged so that a launch only loads
//! the result: building one with libseccomp costs more CPU than the whole rest of a launch.

mod compile;

pub use compile::{CompileError, DEFAULT_PROFILE, compile};

//! Running one service as a system container under systemd.
//!
//! A *bundle* is the directory `services/<name>/` of a deployment: `config.json` (OCI runtime
//! specification; relative bind sources are relative to the bundle), `launch.json`
//! ([`launch::Launch`]), rendered `files/…`, an optional `seccomp.bpf` and `digest`. Bundles are
//! rendered by pure functions in [`spec`] and started by the program node-run, which leaves no
//! process of its own behind.

pub mod check;
pub mod cli;
pub mod ini;
pub mod inside;
pub mod launch;
pub mod process;
pub mod seccomp;
pub mod spec;
mod sys;

pub(crate) use cli::report;

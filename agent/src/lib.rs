//! The agent: what a node should run, and how it gets there.
//!
//! ```text
//! cli ──▶ (D-Bus) ──▶ daemon ──▶ engine ──▶ ports ──▶ images, systemd, runtime, host
//!                                  │
//!        plan, machine, wayback: decide, do nothing
//!    definition, release, config, parameters, render, deployment: documents
//! ```
//!
//! A *release* binds images and *service definitions*; the node's *configuration* adds parameters
//! and secrets; both together are rendered into a *deployment*; the *engine* moves the node from
//! one deployment to another, journalled, and goes back when the new one does not hold.

#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod api;
pub mod authoring;
pub mod checked;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod dataplane;
pub mod definition;
pub mod deployment;
pub mod engine;
pub mod error;
pub mod facts;
pub mod guests;
pub mod history;
pub mod local;
pub mod log;
pub mod machine;
pub mod newest;
pub mod output;
pub mod parameters;
pub mod pins;
pub mod plan;
pub mod ports;
pub mod protocol;
pub mod pulse;
pub mod rejected;
pub mod release;
pub mod render;
pub mod reserve;
pub mod root;
pub mod schema;
pub mod wayback;

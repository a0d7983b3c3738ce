//! The engine on fakes: systemd, registries, the host and time are played by [`world::World`];
//! documents, deployments, the journal and the lock are the real ones in a temporary directory.

mod bad_input;
mod boot;
mod check;
mod crash;
mod drain;
mod handover;
mod node;
mod probation;
mod replay;
mod story;
mod verbs;
mod wayback;
mod world;

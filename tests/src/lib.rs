//! Real surroundings for nodectl on one machine: nodes, a registry, a cloud, guests.
//!
//! ```text
//!  network namespace nodectl-lab          every machine: own network namespace, own cgroup
//!  ┌──────────────────────────────┐      ┌────────────────────────────────────────┐
//!  │ bridge 198.51.100.1/24       │─────▶│ 198.51.100.2    control plane (ctl)    │
//!  │ docker-registry 0.0.0.0:5000 │      │ 198.51.100.11…  nodes                  │
//!  └──────────────────────────────┘      └────────────────────────────────────────┘
//! ```
//!
//! [`roots`] builds Debian root file systems and [`guest`] a guest image, both kept in [`cache`] by what they
//! are made of. [`node`] boots machines over them, [`lab`] joins them, [`registry`] and [`control_plane`] are
//! the two services a compute node needs, [`cloud`] asks the latter. [`story`] tells steps with their times.
//! The programs `testnode` and `demo` and the tests are users of this library.

pub mod cache;
pub mod cell;
pub mod cgroup;
pub mod cloud;
pub mod command;
pub mod compute;
pub mod configuration;
pub mod control_plane;
pub mod dataplane;
pub mod definitions;
pub mod guest;
pub mod guests;
pub mod hypervisor;
pub mod initramfs;
pub mod kernels;
pub mod lab;
pub mod machined;
pub mod moves;
pub mod node;
pub mod nodectl;
pub mod notify;
pub mod order;
pub mod outage;
pub mod paths;
pub mod privileges;
pub mod progress;
pub mod publish;
pub mod registry;
pub mod roots;
pub mod southbound;
pub mod stage;
pub mod story;
pub mod survival;
pub mod tale;
pub mod teardown;
pub mod tiny;
pub mod tiny_node;
pub mod torture;

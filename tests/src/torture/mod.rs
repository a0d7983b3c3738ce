//! Power cuts, kills and disks that refuse, at random and at every boundary.
//!
//! The engine, the store, the registry and the file systems are real; systemd, gates and time are [`played`], so that
//! a thousand cuts take minutes. [`disk`] keeps what a disk held at any instant, [`inspect`] says what has to hold
//! afterwards. docs/reliability.md has the promises and the figures.

pub mod beginnings;
pub mod boundaries;
pub mod cast;
pub mod cuts;
pub mod damage;
pub mod dice;
pub mod disk;
pub mod faults;
pub mod inside;
pub mod inspect;
pub mod machine;
pub mod peers;
pub mod played;
pub mod sizes;
pub mod step;
pub mod tally;
pub mod trace;
pub mod work;
pub mod worker;

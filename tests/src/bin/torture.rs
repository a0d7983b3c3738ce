//! `torture`: cuts the power and kills processes, and looks at what is left. A thin shell over the library.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use node_tests::paths;
use node_tests::torture::boundaries::{self, Reached, Without};
use node_tests::torture::cast::Size;
use node_tests::torture::cuts;
use node_tests::torture::damage;
use node_tests::torture::disk::FileSystem;
use node_tests::torture::faults::{self, Fault};
use node_tests::torture::inside::{self, Place};
use node_tests::torture::machine::Machine;
use node_tests::torture::peers::{self, Peer};
use node_tests::torture::sizes;
use node_tests::torture::step::Step;
use node_tests::torture::tally::Tally;
use node_tests::torture::work::{Lie, work};

/// Cuts the power and kills processes, and looks at what is left.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Cut the power at random instants of upgrades, rollbacks, garbage collection and repair
    Cuts {
        /// How many cuts
        #[arg(long, default_value_t = 1000)]
        count: u64,
        /// Let a system call lie: say that it did what it did not do. Violations have to follow
        #[arg(long, value_enum)]
        lie: Vec<Lie>,
        #[command(flatten)]
        common: Common,
    },
    /// Cut the power before each system call that changes the disk
    Boundaries {
        /// How much of what was issued before has reached the disk
        #[arg(long, value_enum, default_value_t = Reached::All)]
        reached: Reached,
        /// Leave these calls out and pretend that they were made. Violations have to follow
        #[arg(long, value_enum)]
        without: Vec<Without>,
        /// At every n-th call only
        #[arg(long, default_value_t = 1)]
        every: usize,
        /// What the node does
        #[arg(long, default_values = ["upgrade:2"])]
        step: Vec<Step>,
        #[command(flatten)]
        common: Common,
    },
    /// Kill the process before each system call that changes the disk, each time from the beginning of its step
    Kills {
        /// At every n-th call only
        #[arg(long, default_value_t = 1)]
        every: usize,
        /// What the node does
        #[arg(long, default_values = ["upgrade:2"])]
        step: Vec<Step>,
        #[command(flatten)]
        common: Common,
    },
    /// Let the disk refuse each system call that changes it, each time from the beginning of its step
    Faults {
        /// What is wrong with the disk
        #[arg(long, value_enum)]
        fault: Fault,
        /// At every n-th call only
        #[arg(long, default_value_t = 1)]
        every: usize,
        /// What the node does
        #[arg(long, default_values = ["upgrade:2"])]
        step: Vec<Step>,
        #[command(flatten)]
        common: Common,
    },
    /// Upgrade on a disk of every size around what is needed
    Sizes {
        /// How many KiB are free at first
        #[arg(long, value_name = "KIB", default_value_t = 0)]
        from: u64,
        /// By how many KiB it grows each time
        #[arg(long, value_name = "KIB", default_value_t = 4)]
        by: u64,
        #[command(flatten)]
        common: Common,
    },
    /// Damage every kind of file below the state directory in every way: it has to be found, or to do no harm
    Damage {
        /// Every n-th damage only
        #[arg(long, default_value_t = 1)]
        every: usize,
        #[command(flatten)]
        common: Common,
    },
    /// Cut the power after somebody else's pull has succeeded
    Peer {
        /// Who pulls
        #[arg(value_enum)]
        peer: Peer,
        /// How many cuts
        #[arg(long, default_value_t = 6)]
        count: u64,
        #[command(flatten)]
        common: Common,
    },
    /// The process that works
    #[command(hide = true)]
    Work {
        #[arg(long)]
        base: PathBuf,
        #[arg(long)]
        step: Vec<Step>,
        #[arg(long)]
        lie: Vec<Lie>,
        #[arg(long)]
        traced: bool,
    },
}

#[derive(Args)]
struct Common {
    /// What `make install DESTDIR=` has installed
    #[arg(long, value_name = "DIR", default_value = "target/stage")]
    stage: PathBuf,
    /// File system of the state directory
    #[arg(long, value_enum, default_value_t = FileSystem::Ext4)]
    fs: FileSystem,
    /// The same seed makes the same choices
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Whose network and registry to use: runs at the same time need different ones
    #[arg(long, value_name = "NAME", default_value = "nodectl-torture")]
    instance: String,
    /// The namespaces are made already
    #[arg(long, hide = true)]
    inside: bool,
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("torture: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether nothing was violated.
fn run(command: Command) -> Result<bool> {
    match command {
        Command::Cuts { count, lie, common } => there(&common, Size::Large, |place| {
            cuts::run(place, count, common.seed, &lie)
        }),
        Command::Boundaries {
            reached,
            without,
            every,
            step,
            common,
        } => there(&common, Size::Small, |place| {
            boundaries::cut(place, &step, reached, &without, every.max(1))
        }),
        Command::Kills { every, step, common } => there(&common, Size::Small, |place| {
            boundaries::kill(place, &step, every)
        }),
        Command::Faults {
            fault,
            every,
            step,
            common,
        } => there(&common, Size::Small, |place| {
            faults::fail(place, &step, fault, every)
        }),
        Command::Sizes { from, by, common } => there(&common, Size::Small, |place| {
            sizes::grow(place, from << 10, by.max(1) << 10)
        }),
        Command::Damage { every, common } => {
            there(&common, Size::Small, |place| damage::run(place, every.max(1)))
        }
        Command::Peer { peer, count, common } => there(&common, Size::Large, |place| {
            peers::run(place, peer, count, common.seed)
        }),
        Command::Work {
            base,
            step,
            lie,
            traced,
        } => work(&Machine::new(&base), &inside::cast(&base)?, &step, &lie, traced).map(|()| true),
    }
}

fn there(common: &Common, size: Size, torture: impl FnOnce(&Place) -> Result<Tally>) -> Result<bool> {
    paths::choose_instance(&common.instance);
    if !common.inside {
        return inside::enter(&common.stage, size);
    }
    let tally = torture(&Place::make(common.fs)?)?;
    tally.print();
    Ok(tally.wrong() == 0)
}

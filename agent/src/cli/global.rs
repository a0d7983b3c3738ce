//! Options of every command.

use std::path::PathBuf;

use clap::Args;

use crate::output::ColorChoice;

/// Options of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Print one JSON document instead of text.
    #[arg(long, global = true)]
    pub json: bool,

    /// Do the work in this process, not in noded.
    #[arg(long, global = true)]
    pub direct: bool,

    /// Print errors and warnings only.
    #[arg(short, long, global = true)]
    pub quiet: bool,

    /// Say more of what is going on, on standard error; twice for everything.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,

    /// When to use colour.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub color: ColorChoice,

    /// Where deployments and images are kept.
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        hide = true,
        default_value = "/var/lib/nodectl"
    )]
    pub state_root: PathBuf,

    /// Where the operator's configuration is.
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        hide = true,
        default_value = "/etc/nodectl"
    )]
    pub config_root: PathBuf,

    /// Where the lock and sockets are.
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        hide = true,
        default_value = "/run/nodectl"
    )]
    pub run_root: PathBuf,

    /// Where the programs that nodectl starts are.
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        hide = true,
        default_value = "/usr/libexec/nodectl"
    )]
    pub libexec_dir: PathBuf,
}

//! The node's daemon.

use std::process::ExitCode;

fn main() -> ExitCode {
    node_agent::daemon::main()
}

//! The command line of a node.

use std::process::ExitCode;

fn main() -> ExitCode {
    node_agent::cli::main()
}

//! node-run: starts one service as a system container under systemd, and leaves.

fn main() -> std::process::ExitCode {
    node_runtime::cli::main()
}

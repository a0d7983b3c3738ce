//! node-run: starts one service as a system container under systemd, and leaves.

fn main() -> std::process::ExitCode {
    std::process::ExitCode::from(64)
}

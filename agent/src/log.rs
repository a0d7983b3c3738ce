//! Where log lines go.
//!
//! nodectl's results are output, not log; its log is for whoever looks for a fault (`-v`, `NODECTL_LOG`). noded logs to
//! the journal with structured fields where systemd started it, to standard error otherwise.

use std::io::IsTerminal as _;

use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, fmt};

/// Environment variable with a filter as `tracing-subscriber` takes it, for example `node_agent=debug`.
pub const FILTER_VARIABLE: &str = "NODECTL_LOG";

/// Logs of a command, to standard error: warnings, or more with `-v`.
pub fn for_command(verbose: u8) {
    let level = match verbose {
        0 => "warn",
        1 => "info",
        2 => "debug",
        3.. => "trace",
    };
    to_stderr(filter(level));
}

/// Logs of the daemon.
pub fn for_daemon() {
    let to_journal = std::env::var_os("JOURNAL_STREAM").is_some();
    match to_journal.then(tracing_journald::layer) {
        Some(Ok(journal)) => tracing_subscriber::registry()
            .with(filter("info"))
            .with(journal)
            .init(),
        Some(Err(_)) | None => to_stderr(filter("info")),
    }
}

fn to_stderr(filter: EnvFilter) {
    tracing_subscriber::registry()
        .with(filter)
        .with(
            fmt::layer()
                .with_writer(std::io::stderr)
                .with_ansi(std::io::stderr().is_terminal())
                .without_time()
                .with_target(false),
        )
        .init();
}

fn filter(level: &str) -> EnvFilter {
    EnvFilter::try_from_env(FILTER_VARIABLE).unwrap_or_else(|_| EnvFilter::new(level))
}

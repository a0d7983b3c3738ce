//! The commands of node-run.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::inside::Inside;
use crate::launch::{self, Failed, Roots, Running, StartError};
use crate::process;

/// Starts services as system containers under systemd.
#[derive(Debug, Parser)]
#[command(name = "node-run", version)]
struct Arguments {
    /// State root of nodectl.
    #[arg(long, global = true, default_value = "/var/lib/nodectl")]
    state_root: PathBuf,
    /// Run root of nodectl.
    #[arg(long, global = true, default_value = "/run/nodectl")]
    run_root: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a service and leave; for ExecStart= of its unit.
    Start {
        /// Digest of the bundle to start.
        #[arg(long)]
        digest: String,
        /// Name of the service.
        service: String,
    },
    /// Run a command inside a running service and pass on its exit status.
    Exec {
        /// Name of the service.
        service: String,
        /// Command with its arguments.
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Check a rendered bundle without starting it.
    Check {
        /// Directory of the bundle.
        bundle: PathBuf,
    },
}

/// Runs node-run with the arguments of the process.
pub fn main() -> ExitCode {
    log_to_stderr();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let code = if error.use_stderr() { 64 } else { 0 };
            // A closed stderr leaves nobody to tell.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    match run(arguments) {
        Ok(status) => ExitCode::from(u8::try_from(status).unwrap_or(255)),
        Err(failed) => {
            report(&failed.error);
            if let Some(main) = failed.main {
                process::end(main);
            }
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<i32, Failed> {
    let roots = Roots {
        state: arguments.state_root,
        run: arguments.run_root,
    };
    match arguments.command {
        Command::Start { digest, service } => launch::start(&service, &digest, &roots).map(|()| 0),
        Command::Exec { service, command } => Ok(exec(&roots, service, &command)?),
        Command::Check { bundle } => Ok(crate::check::check(&bundle).map(|()| 0)?),
    }
}

fn exec(roots: &Roots, service: String, command: &[String]) -> Result<i32, StartError> {
    let running = Running::of(&roots.run, &service)?.ok_or_else(|| {
        let reason = "it was not started since boot".to_owned();
        StartError::NotReady { service, reason }
    })?;
    Inside::of(&running, &roots.state)?.run(command)
}

/// One line with the whole chain of causes.
pub(crate) fn report(error: &dyn std::error::Error) {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    tracing::error!("{text}");
}

/// Our own warnings and errors, and the errors of libcontainer: it tells the real cause of a failure
/// only in its log.
fn log_to_stderr() {
    let levels = Targets::new()
        .with_default(Level::ERROR)
        .with_target(env!("CARGO_CRATE_NAME"), Level::WARN);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .without_time()
        .with_target(false);
    tracing_subscriber::registry()
        .with(lines.with_filter(levels))
        .init();
}

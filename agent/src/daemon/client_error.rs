//! What can go wrong between nodectl and noded, and what the operator is told.

use crate::error::ExitCode;
use crate::protocol::Failure;

/// Why noded can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no bus here, as in a rescue shell.
    #[error("can't connect to the system bus")]
    NoBus(#[source] zbus::Error),
    /// The bus does not know noded.
    #[error("noded is not installed on this system bus")]
    NotInstalled,
    /// The bus or systemd could not start noded.
    #[error("noded does not start")]
    NotStarting(#[source] zbus::fdo::Error),
}

/// Errors that the bus gives in the name of a service that is gone.
const LOST: [&str; 5] = [
    "org.freedesktop.DBus.Error.NoReply",
    "org.freedesktop.DBus.Error.Disconnected",
    "org.freedesktop.DBus.Error.NameHasNoOwner",
    "org.freedesktop.DBus.Error.ServiceUnknown",
    "org.freedesktop.DBus.Error.TimedOut",
];

/// Whether noded went away while it was asked.
pub(super) fn is_lost(error: &zbus::Error) -> bool {
    match error_name(error) {
        Some(name) => LOST.contains(&name),
        None => matches!(error, zbus::Error::InputOutput(_)),
    }
}

/// Whether noded does not know the operation, since it was restarted.
pub(super) fn is_unknown_operation(error: &zbus::Error) -> bool {
    error_name(error) == Some("org.nodectl.Agent1.Error.UnknownOperation")
}

/// What the operator is told.
pub(super) fn failure_of(error: &zbus::Error) -> Failure {
    let text = match error {
        zbus::Error::MethodError(_, Some(text), _) => text.clone(),
        other => other.to_string(),
    };
    match error_name(error) {
        Some("org.nodectl.Agent1.Error.Busy") => {
            Failure::new(ExitCode::TryAgain, text).with_hint("nodectl events follows it")
        }
        Some("org.nodectl.Agent1.Error.AccessDenied" | "org.freedesktop.DBus.Error.AccessDenied") => {
            Failure::new(ExitCode::Other, "only root may do that").with_hint("try again with sudo")
        }
        Some("org.nodectl.Agent1.Error.InvalidRequest") => Failure::new(
            ExitCode::Other,
            format!("noded does not understand the request: {text}"),
        )
        .with_hint("systemctl restart noded, if it is older than nodectl"),
        Some(_) if !is_lost(error) => Failure::new(ExitCode::Other, format!("noded: {text}")),
        Some(_) | None => Failure::new(ExitCode::Unavailable, format!("can't reach noded: {text}"))
            .with_hint("with --direct, nodectl does the work itself"),
    }
}

fn error_name(error: &zbus::Error) -> Option<&str> {
    match error {
        zbus::Error::MethodError(name, _, _) => Some(name.as_str()),
        _ => None,
    }
}

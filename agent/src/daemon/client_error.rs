//! What can go wrong between nodectl and noded, and what the operator is told.

use zbus::DBusError as _;

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
    match said(error) {
        Some((name, _)) => LOST.contains(&name.as_str()),
        None => matches!(error, zbus::Error::InputOutput(_)),
    }
}

/// Whether noded does not know the operation, since it was restarted.
pub(super) fn is_unknown_operation(error: &zbus::Error) -> bool {
    said(error).is_some_and(|(name, _)| name == "org.nodectl.Agent1.Error.UnknownOperation")
}

/// What the operator is told.
pub(super) fn failure_of(error: &zbus::Error) -> Failure {
    let Some((name, text)) = said(error).filter(|_| !is_lost(error)) else {
        return Failure::new(ExitCode::Unavailable, format!("can't reach noded: {error}"))
            .with_hint("with --direct, nodectl does the work itself");
    };
    match name.as_str() {
        "org.nodectl.Agent1.Error.Busy" => {
            Failure::new(ExitCode::TryAgain, text).with_hint("nodectl events follows it")
        }
        "org.nodectl.Agent1.Error.AccessDenied" | "org.freedesktop.DBus.Error.AccessDenied" => {
            Failure::new(ExitCode::Other, "only root may do that").with_hint("try again with sudo")
        }
        "org.nodectl.Agent1.Error.InvalidRequest" => Failure::new(
            ExitCode::Other,
            format!("noded does not understand the request: {text}"),
        )
        .with_hint("systemctl restart noded, if it is older than nodectl"),
        _ => Failure::new(ExitCode::Other, format!("noded: {text}")),
    }
}

/// Name and text of the error that came over the bus; none if it is this side's own. The names that the specification
/// of D-Bus has come as another variant than all others.
fn said(error: &zbus::Error) -> Option<(String, String)> {
    match error {
        zbus::Error::MethodError(name, text, _) => Some((name.to_string(), text.clone().unwrap_or_default())),
        zbus::Error::FDO(standard) => match standard.as_ref() {
            zbus::fdo::Error::ZBus(inner) => said(inner),
            other => Some((
                other.name().to_string(),
                other.description().unwrap_or_default().to_owned(),
            )),
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use zbus::fdo;

    use super::*;

    #[test]
    fn standard_errors_are_told_apart() {
        let failure = |standard: fdo::Error| failure_of(&zbus::Error::FDO(Box::new(standard)));
        assert_eq!(
            failure(fdo::Error::AccessDenied("x".into())).message,
            "only root may do that"
        );
        assert_eq!(
            failure(fdo::Error::NoReply("x".into())).code,
            ExitCode::Unavailable as u8
        );
        assert_eq!(failure(fdo::Error::Failed("x".into())).message, "noded: x");
        assert!(is_lost(&zbus::Error::FDO(Box::new(fdo::Error::NoReply(
            "x".into()
        )))));
        assert!(!is_lost(&zbus::Error::FDO(Box::new(fdo::Error::AccessDenied(
            "x".into()
        )))));
    }
}

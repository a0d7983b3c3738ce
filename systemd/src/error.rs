//! Errors of the D-Bus client: the D-Bus error name decides the variant.

use std::{future::Future, path::PathBuf, time::Duration};

use crate::name::UnitName;

/// Result of a call to systemd.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call to systemd did not give its answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Neither the system bus nor systemd's private socket could be reached.
    #[error("systemd cannot be reached on the system bus ({bus}) nor on {}", path.display())]
    Unreachable {
        /// What the bus said.
        bus: String,
        /// The private socket that was tried.
        path: PathBuf,
        /// What the private socket said.
        source: zbus::Error,
    },
    /// The connection broke or the bus went away.
    #[error("lost the connection to systemd while it should {intent}")]
    Disconnected {
        /// What was asked.
        intent: String,
        /// What the connection said.
        source: Option<zbus::Error>,
    },
    /// systemd has no such unit, or cannot load it.
    #[error("systemd has no unit {unit} to {intent}: {message}")]
    NoSuchUnit {
        /// The unit that was asked for.
        unit: String,
        /// What was asked.
        intent: String,
        /// systemd's own words.
        message: String,
    },
    /// The unit is masked.
    #[error("unit {unit} is masked, so systemd will not {intent}: {message}")]
    Masked {
        /// The unit that was asked for.
        unit: String,
        /// What was asked.
        intent: String,
        /// systemd's own words.
        message: String,
    },
    /// The unit file has an error that keeps systemd from loading it.
    #[error("unit {unit} cannot be loaded, so systemd will not {intent}: {message}")]
    BadUnit {
        /// The unit that was asked for.
        unit: String,
        /// What was asked.
        intent: String,
        /// systemd's own words.
        message: String,
    },
    /// The jobs that this would need contradict each other or jobs that are under way.
    #[error("systemd refused to {intent}, since the jobs contradict each other: {message}")]
    Transaction {
        /// What was asked.
        intent: String,
        /// systemd's own words.
        message: String,
    },
    /// The caller may not do this.
    #[error("not allowed to {intent}: {message}")]
    AccessDenied {
        /// What was asked.
        intent: String,
        /// What systemd or the bus said.
        message: String,
    },
    /// systemd did not finish in time. The job goes on in systemd.
    #[error("systemd did not {intent} within {} s", deadline.as_secs_f32())]
    Deadline {
        /// What was asked.
        intent: String,
        /// How long was waited.
        deadline: Duration,
    },
    /// Any other error reply.
    #[error("systemd failed to {intent}: {message}")]
    Refused {
        /// What was asked.
        intent: String,
        /// The D-Bus error name.
        name: String,
        /// systemd's own words.
        message: String,
    },
    /// An answer that does not follow systemd's D-Bus interface (org.freedesktop.systemd1(5)).
    #[error("systemd's answer cannot be understood: {intent}")]
    Protocol {
        /// What was asked.
        intent: String,
        /// What zbus said.
        source: zbus::Error,
    },
}

/// What was asked of systemd, for error messages: "start libvirtd.service".
pub(crate) struct Intent<'a> {
    pub verb: &'static str,
    pub unit: Option<&'a UnitName>,
}

impl<'a> Intent<'a> {
    pub(crate) fn of(verb: &'static str) -> Self {
        Self { verb, unit: None }
    }

    pub(crate) fn on(verb: &'static str, unit: &'a UnitName) -> Self {
        Self {
            verb,
            unit: Some(unit),
        }
    }

    /// The answer to a call, within `deadline`.
    pub(crate) async fn within<T>(
        &self,
        deadline: Duration,
        call: impl Future<Output = zbus::Result<T>>,
    ) -> Result<T> {
        match tokio::time::timeout(deadline, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(source)) => Err(self.failed(source)),
            Err(_) => Err(self.late(deadline)),
        }
    }

    /// The error for a deadline that has passed.
    pub(crate) fn late(&self, deadline: Duration) -> Error {
        Error::Deadline {
            intent: self.text(),
            deadline,
        }
    }

    /// The error for a connection that ended without an answer.
    pub(crate) fn lost(&self) -> Error {
        Error::Disconnected {
            intent: self.text(),
            source: None,
        }
    }

    pub(crate) fn text(&self) -> String {
        match self.unit {
            Some(unit) => format!("{} {unit}", self.verb),
            None => self.verb.to_owned(),
        }
    }

    /// The error for a failed call, by the name of the D-Bus error.
    pub(crate) fn failed(&self, source: zbus::Error) -> Error {
        let intent = self.text();
        match source {
            zbus::Error::MethodError(name, message, _) => {
                self.refused(name.as_str(), message.unwrap_or_default())
            }
            zbus::Error::FDO(fdo) => {
                use zbus::DBusError as _;
                match *fdo {
                    zbus::fdo::Error::ZBus(source) => self.failed(source),
                    other => self.refused(
                        other.name().as_str(),
                        other.description().unwrap_or_default().to_owned(),
                    ),
                }
            }
            source @ zbus::Error::InputOutput(_) => Error::Disconnected {
                intent,
                source: Some(source),
            },
            source => Error::Protocol { intent, source },
        }
    }

    fn refused(&self, name: &str, message: String) -> Error {
        let intent = self.text();
        let unit = || self.unit.map_or_else(String::new, ToString::to_string);
        match name {
            "org.freedesktop.systemd1.NoSuchUnit" | "org.freedesktop.systemd1.LoadFailed" => {
                Error::NoSuchUnit {
                    unit: unit(),
                    intent: self.verb.to_owned(),
                    message,
                }
            }
            "org.freedesktop.systemd1.UnitMasked" => Error::Masked {
                unit: unit(),
                intent: self.verb.to_owned(),
                message,
            },
            "org.freedesktop.systemd1.BadUnitSetting" => Error::BadUnit {
                unit: unit(),
                intent: self.verb.to_owned(),
                message,
            },
            "org.freedesktop.systemd1.TransactionIsDestructive"
            | "org.freedesktop.systemd1.TransactionJobsConflicting"
            | "org.freedesktop.systemd1.TransactionOrderIsCyclic"
            | "org.freedesktop.systemd1.ShuttingDown" => Error::Transaction { intent, message },
            "org.freedesktop.DBus.Error.AccessDenied"
            | "org.freedesktop.DBus.Error.AuthFailed"
            | "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired" => {
                Error::AccessDenied { intent, message }
            }
            "org.freedesktop.DBus.Error.NoReply"
            | "org.freedesktop.DBus.Error.Disconnected"
            | "org.freedesktop.DBus.Error.ServiceUnknown"
            | "org.freedesktop.DBus.Error.NameHasNoOwner" => Error::Disconnected { intent, source: None },
            name => Error::Refused {
                intent,
                name: name.to_owned(),
                message,
            },
        }
    }
}

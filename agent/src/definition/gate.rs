//! Gates: checks that must hold before, during or after a step.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::target::{absolute, bus_name, plain_http, socket, with_port};

/// When a gate is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    /// Before anything of a transaction is touched; a failure vetoes it.
    PreStop,
    /// Right before the service is started.
    PreStart,
    /// Right after the service was started; a failure leads back.
    PostStart,
    /// Over and over during the probation; a failure leads back.
    Probation,
}

impl std::fmt::Display for When {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            When::PreStop => "pre-stop",
            When::PreStart => "pre-start",
            When::PostStart => "post-start",
            When::Probation => "probation",
        })
    }
}

/// Whose trouble a failure is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// This node's: it leads back.
    #[default]
    Local,
    /// Somebody else's: it is reported and the transaction holds.
    Remote,
}

/// What a gate looks at. A closed set: a new kind is a new variant with its own tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// The service's unit is active and has not been restarted by systemd.
    Unit,
    /// A command in the service's container exits with 0. Status 69 (sysexits(3) `EX_UNAVAILABLE`) says that somebody
    /// else does not answer: that is remote trouble, whatever the gate's scope.
    Exec {
        /// Command with its arguments.
        command: Vec<String>,
    },
    /// A unix socket on the host accepts a connection.
    UnixSocket {
        /// Path of the socket.
        path: PathBuf,
    },
    /// A TCP port accepts a connection from the host's network namespace.
    Tcp {
        /// `address:port`.
        address: String,
    },
    /// An HTTP GET is answered with a status below 400.
    Http {
        /// `http://…`
        url: String,
    },
    /// A name on the system bus has an owner.
    DbusName {
        /// The well-known name.
        bus_name: String,
    },
    /// Before the stop: no guest of this libvirt is in danger when its daemon goes. Afterwards: the daemon
    /// knows exactly the guests that run.
    LibvirtGuests,
    /// The service's process reports to nova's conductor, again and again.
    NovaHeartbeat {
        /// Command in the service's container that prints `{"reports": N}`, how often it has reported in all, as the
        /// conductor knows it. It ends with status 69 (sysexits(3) `EX_UNAVAILABLE`) when the conductor can't be
        /// asked: that is remote trouble, whatever the gate's scope.
        command: Vec<String>,
    },
    /// All that ovs-vswitchd would hand over to its successor can be read, and it is not waiting for anything itself.
    OvsDataplane,
}

/// A check with its patience.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "GateForm", into = "GateForm")]
#[schemars(with = "GateForm")]
pub struct Gate {
    /// Name for people, unique within the service.
    pub name: String,
    /// When it is asked.
    pub when: BTreeSet<When>,
    /// What it looks at.
    pub probe: Probe,
    /// Pause between two attempts.
    pub interval: Duration,
    /// Time for one attempt.
    pub timeout: Duration,
    /// Failed attempts in a row that make the gate fail.
    pub attempts: u32,
    /// Whose trouble a failure is.
    pub scope: Scope,
}

/// A gate as it is written.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Gate")]
struct GateForm {
    /// Name for people, unique within the service.
    name: String,
    /// What it looks at.
    kind: Kind,
    /// When it is asked.
    when: BTreeSet<When>,
    /// Pause between two attempts in milliseconds; 1000 if absent.
    #[serde(default = "one_second")]
    interval_ms: u32,
    /// Time for one attempt in milliseconds; 5000 if absent.
    #[serde(default = "five_seconds")]
    timeout_ms: u32,
    /// Failed attempts in a row that make the gate fail; 3 if absent.
    #[serde(default = "three")]
    attempts: u32,
    /// Whose trouble a failure is; `local` if absent.
    #[serde(default)]
    scope: Scope,
    /// For `exec` and `nova-heartbeat`: command with its arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    command: Option<Vec<String>>,
    /// For `unix-socket`: path of the socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<PathBuf>,
    /// For `tcp`: `address:port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    /// For `http`: the URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    /// For `dbus-name`: the well-known name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bus_name: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "GateKind")]
enum Kind {
    Unit,
    Exec,
    UnixSocket,
    Tcp,
    Http,
    DbusName,
    LibvirtGuests,
    NovaHeartbeat,
    OvsDataplane,
}

fn one_second() -> u32 {
    1000
}

fn five_seconds() -> u32 {
    5000
}

fn three() -> u32 {
    3
}

impl GateForm {
    fn probe(&mut self) -> Result<Probe, String> {
        fn need<T>(gate: &str, key: &str, value: Option<T>) -> Result<T, String> {
            value.ok_or_else(|| format!("gate {gate:?} needs {key}"))
        }
        let name = self.name.clone();
        Ok(match self.kind {
            Kind::Unit => Probe::Unit,
            Kind::Exec => Probe::Exec {
                command: absolute(&name, need(&name, "command", self.command.take())?)?,
            },
            Kind::NovaHeartbeat => Probe::NovaHeartbeat {
                command: absolute(&name, need(&name, "command", self.command.take())?)?,
            },
            Kind::UnixSocket => Probe::UnixSocket {
                path: socket(&name, need(&name, "path", self.path.take())?)?,
            },
            Kind::Tcp => Probe::Tcp {
                address: with_port(&name, need(&name, "address", self.address.take())?)?,
            },
            Kind::Http => Probe::Http {
                url: plain_http(&name, need(&name, "url", self.url.take())?)?,
            },
            Kind::DbusName => Probe::DbusName {
                bus_name: bus_name(&name, need(&name, "bus_name", self.bus_name.take())?)?,
            },
            Kind::LibvirtGuests => Probe::LibvirtGuests,
            Kind::OvsDataplane => Probe::OvsDataplane,
        })
    }

    /// The first key that was given and has no meaning for this kind of gate.
    fn surplus(&self) -> Option<&'static str> {
        [
            ("command", self.command.is_some()),
            ("path", self.path.is_some()),
            ("address", self.address.is_some()),
            ("url", self.url.is_some()),
            ("bus_name", self.bus_name.is_some()),
        ]
        .into_iter()
        .find_map(|(key, given)| given.then_some(key))
    }
}

impl TryFrom<GateForm> for Gate {
    type Error = String;

    fn try_from(mut form: GateForm) -> Result<Gate, String> {
        let probe = form.probe()?;
        if let Some(key) = form.surplus() {
            return Err(format!("gate {:?} has no use for {key}", form.name));
        }
        if form.when.is_empty() {
            return Err(format!("gate {:?} is never asked: when is empty", form.name));
        }
        if form.attempts == 0 || form.timeout_ms == 0 || form.interval_ms == 0 {
            return Err(format!(
                "gate {:?} needs attempts, timeout_ms and interval_ms above 0",
                form.name
            ));
        }
        Ok(Gate {
            probe,
            name: form.name,
            when: form.when,
            interval: Duration::from_millis(form.interval_ms.into()),
            timeout: Duration::from_millis(form.timeout_ms.into()),
            attempts: form.attempts,
            scope: form.scope,
        })
    }
}

impl From<Gate> for GateForm {
    fn from(gate: Gate) -> GateForm {
        let millis = |d: Duration| u32::try_from(d.as_millis()).unwrap_or(u32::MAX);
        let mut form = GateForm {
            name: gate.name,
            kind: Kind::Unit,
            when: gate.when,
            interval_ms: millis(gate.interval),
            timeout_ms: millis(gate.timeout),
            attempts: gate.attempts,
            scope: gate.scope,
            command: None,
            path: None,
            address: None,
            url: None,
            bus_name: None,
        };
        match gate.probe {
            Probe::Unit => {}
            Probe::Exec { command } => (form.kind, form.command) = (Kind::Exec, Some(command)),
            Probe::UnixSocket { path } => (form.kind, form.path) = (Kind::UnixSocket, Some(path)),
            Probe::Tcp { address } => (form.kind, form.address) = (Kind::Tcp, Some(address)),
            Probe::Http { url } => (form.kind, form.url) = (Kind::Http, Some(url)),
            Probe::DbusName { bus_name } => (form.kind, form.bus_name) = (Kind::DbusName, Some(bus_name)),
            Probe::LibvirtGuests => form.kind = Kind::LibvirtGuests,
            Probe::NovaHeartbeat { command } => {
                (form.kind, form.command) = (Kind::NovaHeartbeat, Some(command));
            }
            Probe::OvsDataplane => form.kind = Kind::OvsDataplane,
        }
        form
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        toml::from_str::<Gate>(text).unwrap_err().to_string()
    }

    #[test]
    fn a_gate_survives_a_round_trip() {
        let text = r#"
            name = "answers"
            kind = "exec"
            command = ["/bin/true", "x"]
            when = ["post-start", "probation"]
            attempts = 10
        "#;
        let gate: Gate = toml::from_str(text).unwrap();
        assert_eq!(
            gate.probe,
            Probe::Exec {
                command: vec!["/bin/true".into(), "x".into()]
            }
        );
        assert_eq!(gate.timeout, Duration::from_secs(5));
        let again: Gate = serde_json::from_str(&serde_json::to_string(&gate).unwrap()).unwrap();
        assert_eq!(again, gate);
    }

    #[test]
    fn what_is_missing_or_superfluous_is_named() {
        let base = "name = \"g\"\nwhen = [\"probation\"]\n";
        assert!(error(&format!("{base}kind = \"exec\"")).contains("needs command"));
        assert!(error(&format!("{base}kind = \"nova-heartbeat\"")).contains("needs command"));
        assert!(error(&format!("{base}kind = \"nova-heartbeat\"\ncommand = [\"x\"]")).contains("absolute"));
        assert!(error(&format!("{base}kind = \"unit\"\npath = \"/x\"")).contains("no use for path"));
        assert!(error(&format!("{base}kind = \"unit\"\ncolour = 1")).contains("colour"));
        assert!(error(&format!("{base}kind = \"magic\"")).contains("magic"));
        assert!(error(&format!("{base}kind = \"unit\"\nattempts = 0")).contains("attempts"));
        assert!(error("name = \"g\"\nwhen = []\nkind = \"unit\"").contains("never asked"));
        for stray in [
            "kind = \"unix-socket\"\npath = \"run/x\"",
            "kind = \"tcp\"\naddress = \"host\"",
            "kind = \"http\"\nurl = \"https://h/\"",
            "kind = \"dbus-name\"\nbus_name = \"org\"",
            "kind = \"exec\"\ncommand = [\"/a\", \"\\u0000\"]",
        ] {
            assert!(error(&format!("{base}{stray}")).contains("gate \"g\""), "{stray}");
        }
    }
}

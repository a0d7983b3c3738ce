//! Asking gates.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use node_systemd::render::NODE_RUN;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::process::Command;

use super::{clock, guests};
use crate::dataplane;
use crate::definition::{Gate, HttpTarget, Probe, Scope, When, http_target};
use crate::error::{AgentError, Kind, Result};
use crate::guests::{DaemonUnit, agree, may_stop};
use crate::ports::{No, Probes, Units};
use crate::pulse::{self, Pulse, Reports};
use crate::root::Roots;

/// Asks gates on this host.
pub(super) struct Prober {
    roots: Roots,
    units: Arc<dyn Units>,
    /// What was seen of the services that report to somebody, by name.
    pulses: Mutex<BTreeMap<String, Pulse>>,
}

/// Exit code of a program that says that somebody else does not answer, sysexits(3) `EX_UNAVAILABLE`.
const UNAVAILABLE: i32 = 69;

/// The answer of a probe.
type Answer = std::result::Result<(), String>;

impl Prober {
    pub fn new(roots: &Roots, units: Arc<dyn Units>) -> Self {
        Prober {
            roots: roots.clone(),
            units,
            pulses: Mutex::default(),
        }
    }

    async fn once(&self, service: &str, gate: &Gate, when: When) -> Result<std::result::Result<(), No>> {
        let answer = match &gate.probe {
            Probe::Unit => {
                let state = self.units.state(&format!("{service}.service")).await?;
                if state.active {
                    Ok(())
                } else {
                    Err(format!("its unit is not active ({})", state.result))
                }
            }
            Probe::Exec { command } => return self.exec(service, gate, command).await,
            Probe::NovaHeartbeat { command } => return self.heartbeat(service, gate, command).await,
            Probe::UnixSocket { path } => UnixStream::connect(path)
                .await
                .map(drop)
                .map_err(|e| format!("can't connect to {}: {e}", path.display())),
            Probe::Tcp { address } => TcpStream::connect(address)
                .await
                .map(drop)
                .map_err(|e| format!("can't connect to {address}: {e}")),
            Probe::Http { url } => http(url).await,
            Probe::DbusName { bus_name } => dbus_name(bus_name).await?,
            Probe::LibvirtGuests => match when {
                When::PreStop | When::PreStart => self.guests_are_safe(service).await?,
                When::PostStart | When::Probation => self.guests_are_known(service).await?,
            },
            Probe::OvsDataplane => self.dataplane_is_settled(service).await?,
        };
        Ok(answer.map_err(|why| No {
            why,
            whose: gate.scope,
        }))
    }

    /// Asks the conductor how often the service has reported, and compares with what it said before.
    async fn heartbeat(
        &self,
        service: &str,
        gate: &Gate,
        command: &[String],
    ) -> Result<std::result::Result<(), No>> {
        let local = |why: String| No {
            why,
            whose: gate.scope,
        };
        let Some(process) = self.units.state(&format!("{service}.service")).await?.main_pid else {
            return Ok(Err(local("it has no process".into())));
        };
        let text = match self.said(service, command).await? {
            Ok(text) => text,
            Err(no) => return Ok(Err(no)),
        };
        let Ok(Reports { reports }) = serde_json::from_str(&text) else {
            return Ok(Err(local(format!("{text:?} is not an answer"))));
        };
        let mut pulses = self.pulses.lock().unwrap_or_else(PoisonError::into_inner);
        let before = pulses.get(service).copied();
        let (pulse, answer) = pulse::look(before, process, reports, clock::since_boot());
        pulses.insert(service.to_owned(), pulse);
        Ok(answer.map_err(local))
    }

    /// Runs a command inside the service.
    async fn exec(
        &self,
        service: &str,
        gate: &Gate,
        command: &[String],
    ) -> Result<std::result::Result<(), No>> {
        let answer = self.said(service, command).await?;
        Ok(answer.map(drop).map_err(|no| match no.whose {
            Scope::Remote => no,
            Scope::Local => No {
                whose: gate.scope,
                ..no
            },
        }))
    }

    /// What a command inside the service prints; its last words are the reason when it does not end well.
    async fn said(&self, service: &str, command: &[String]) -> Result<std::result::Result<String, No>> {
        let output = self.run_inside(service, command).await?;
        if output.status.success() {
            return Ok(Ok(String::from_utf8_lossy(&output.stdout).into_owned()));
        }
        let program = command.first().map_or("", String::as_str);
        Ok(Err(No {
            why: format!("{program} ended with {}: {}", output.status, last_words(&output)),
            whose: match output.status.code() {
                Some(UNAVAILABLE) => Scope::Remote,
                Some(_) | None => Scope::Local,
            },
        }))
    }

    async fn run_inside(&self, service: &str, command: &[impl AsRef<OsStr>]) -> Result<Output> {
        Command::new(NODE_RUN)
            .arg("--state-root")
            .arg(&self.roots.state)
            .arg("--run-root")
            .arg(&self.roots.run)
            .args(["exec", service, "--"])
            .args(command)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .map_err(|e| AgentError::other(format!("can't run {NODE_RUN}")).because(e))
    }

    /// Whether ovs-vswitchd tells what it would hand over, and handles packets.
    async fn dataplane_is_settled(&self, service: &str) -> Result<Answer> {
        let service = dataplane::Service {
            name: service.to_owned(),
            roots: self.roots.clone(),
            node_run: NODE_RUN.into(),
        };
        let look = move || service.bridges().and_then(|_| service.is_held());
        let looked = tokio::task::spawn_blocking(look).await;
        Ok(match looked {
            Ok(Ok(false)) => Ok(()),
            Ok(Ok(true)) => Err("flow-restore-wait is set: packets of new flows are dropped".into()),
            Ok(Err(e)) => Err(e.chain()),
            Err(e) => Err(e.to_string()),
        })
    }

    /// Whether libvirt's daemon may go.
    async fn guests_are_safe(&self, service: &str) -> Result<Answer> {
        let name = format!("{service}.service");
        let kill_mode = self.units.state(&name).await?.kill_mode;
        let facts = guests::facts(DaemonUnit { name, kill_mode }).await?;
        Ok(may_stop(&facts))
    }

    /// Whether libvirt's daemon has taken over all guests.
    async fn guests_are_known(&self, service: &str) -> Result<Answer> {
        let list = ["/usr/bin/virsh", "--connect", "qemu:///system", "list", "--uuid"];
        let output = self.run_inside(service, &list).await?;
        if !output.status.success() {
            let why = last_words(&output);
            return Ok(Err(format!("libvirt does not tell which guests it has: {why}")));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let listed = text.split_whitespace().map(str::to_owned).collect();
        let (processes, records) = guests::seen()?;
        Ok(agree(&listed, &processes, &records))
    }
}

/// What a command said last.
fn last_words(output: &Output) -> String {
    let text = String::from_utf8_lossy(if output.stderr.is_empty() {
        &output.stdout
    } else {
        &output.stderr
    });
    let last = text.lines().rev().find(|l| !l.trim().is_empty());
    last.unwrap_or("it said nothing").to_owned()
}

#[async_trait]
impl Probes for Prober {
    async fn ask(&self, service: &str, gate: &Gate, when: When) -> Result<std::result::Result<(), No>> {
        match tokio::time::timeout(gate.timeout, self.once(service, gate, when)).await {
            Ok(answer) => answer,
            Err(_) => Ok(Err(No {
                why: silence(gate.timeout),
                whose: match gate.probe {
                    // Whom it asks is not on this node.
                    Probe::NovaHeartbeat { .. } => Scope::Remote,
                    _ => gate.scope,
                },
            })),
        }
    }

    async fn run(
        &self,
        service: &str,
        command: &[String],
        timeout: Duration,
    ) -> Result<std::result::Result<String, No>> {
        match tokio::time::timeout(timeout, self.said(service, command)).await {
            Ok(answer) => answer,
            Err(_) => Ok(Err(No {
                why: silence(timeout),
                whose: Scope::Remote,
            })),
        }
    }
}

fn silence(timeout: Duration) -> String {
    format!("no answer within {} ms", timeout.as_millis())
}

/// A GET of HTTP/1.0: all that a health check needs, without following anything anywhere.
async fn http(url: &str) -> Answer {
    let target = http_target(url).ok_or_else(|| format!("{url} is not an http:// URL"))?;
    let HttpTarget { authority, path, .. } = target;
    let ask = async {
        let mut stream = TcpStream::connect(&target.address).await?;
        let request = format!("GET {path} HTTP/1.0\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut head = Vec::new();
        stream.take(256).read_to_end(&mut head).await?;
        Ok::<_, io::Error>(head)
    };
    let head = ask.await.map_err(|e| format!("can't get {url}: {e}"))?;
    match status_of(&head) {
        Some(status) if (200..400).contains(&status) => Ok(()),
        Some(status) => Err(format!("{url} answers with status {status}")),
        None => Err(format!("{url} does not answer in HTTP")),
    }
}

fn status_of(head: &[u8]) -> Option<u16> {
    let line = String::from_utf8_lossy(head);
    let mut words = line.lines().next()?.split_whitespace();
    words.next().filter(|w| w.starts_with("HTTP/"))?;
    words.next()?.parse().ok()
}

/// Whether a name on the system bus has an owner.
pub(super) async fn dbus_name(name: &str) -> Result<Answer> {
    let unreachable =
        |e: zbus::Error| AgentError::new(Kind::Unavailable, "can't reach the system bus").because(e);
    let bus = zbus::Connection::system().await.map_err(unreachable)?;
    let proxy = zbus::fdo::DBusProxy::new(&bus).await.map_err(unreachable)?;
    let Ok(bus_name) = zbus::names::BusName::try_from(name) else {
        return Ok(Err(format!("{name} is not a bus name")));
    };
    match proxy.name_has_owner(bus_name).await {
        Ok(true) => Ok(Ok(())),
        Ok(false) => Ok(Err(format!("{name} is not on the system bus"))),
        Err(e) => Ok(Err(e.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_lines_are_read_strictly() {
        assert_eq!(status_of(b"HTTP/1.1 204 No Content\r\n"), Some(204));
        for bad in [&b""[..], b"HTTP/1.1", b"SSH-2.0-x", b"HTTP/1.1 abc"] {
            assert_eq!(status_of(bad), None);
        }
    }
}

//! Gates, and the window in which a new deployment is watched.

use std::collections::BTreeMap;
use std::time::Duration;

use super::report::Reporter;
use super::{Engine, unit_of};
use crate::api::{EventKind, ServiceFailure};
use crate::definition::{Definition, Gate, Probe, Scope, When};
use crate::deployment::Deployment;
use crate::error::Result;
use crate::ports::{No, UnitState};

/// Pause between two looks at the units.
const TICK: Duration = Duration::from_millis(500);

/// How long a deployment is watched.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// At least.
    pub window: Duration,
    /// On top of it at most, while remote gates say no.
    pub hold: Duration,
}

/// A gate under watch.
#[derive(Debug)]
struct Watched<'a> {
    service: &'a str,
    gate: &'a Gate,
    due: Duration,
    failures: u32,
    passed: bool,
    /// The last no, and whose trouble it was.
    no: No,
}

impl Watched<'_> {
    /// Takes a no; whether its attempts are used up now. Somebody else's trouble in between begins the count anew.
    fn refuse(&mut self, no: &No) -> bool {
        let same = self.no.whose == no.whose;
        self.failures = if same { self.failures + 1 } else { 1 };
        self.passed = false;
        self.no.clone_from(no);
        self.failures == self.gate.attempts
    }
}

impl Engine {
    /// Asks the gates of a service at this point, each until it holds or its attempts are used up.
    /// Somebody else's trouble is reported and does not count; before a stop it is not even asked about again, lest every
    /// change waits for minutes while the control plane is down.
    pub(super) async fn hold(
        &self,
        definition: &Definition,
        when: When,
        reporter: &Reporter,
    ) -> Result<Option<ServiceFailure>> {
        for gate in definition.gates_at(when) {
            if when == When::PreStop && self.is_silent(definition, gate).await? {
                continue;
            }
            let mut answer = self.ports.probes.ask(&definition.name, gate, when).await?;
            for _ in 1..gate.attempts {
                let last = match &answer {
                    Ok(()) => true,
                    Err(no) => when == When::PreStop && no.whose == Scope::Remote,
                };
                if last {
                    break;
                }
                self.ports.clock.sleep(gate.interval).await;
                answer = self.ports.probes.ask(&definition.name, gate, when).await?;
            }
            tell(reporter, &definition.name, gate, &answer);
            if let Err(No {
                why,
                whose: Scope::Local,
            }) = answer
            {
                let reason = format!("gate {:?}: {why}", gate.name);
                return Ok(Some(self.failure(&definition.name, reason).await));
            }
        }
        Ok(None)
    }

    /// Whether nobody is there to answer: what does not run does nothing that a stop could hurt.
    async fn is_silent(&self, definition: &Definition, gate: &Gate) -> Result<bool> {
        let asks_inside = matches!(gate.probe, Probe::Exec { .. } | Probe::NovaHeartbeat { .. });
        Ok(asks_inside && !self.ports.units.state(&unit_of(&definition.name)).await?.active)
    }

    /// Watches a deployment over the window: units stay up and are not restarted, gates hold.
    /// However short the window, every gate is asked until it has answered.
    ///
    /// A remote gate that says no neither fails nor passes: it holds the watch open beyond the window, up to a limit,
    /// since this node would be no better off where it came from.
    pub(super) async fn watch(
        &self,
        deployment: &Deployment,
        times: Times,
        reporter: &Reporter,
    ) -> Result<Option<ServiceFailure>> {
        let start = self.ports.clock.monotonic();
        let baseline = self.unit_states(deployment).await?;
        let mut gates = probation_gates(deployment, start);
        let mut held = false;
        loop {
            if let Some(failure) = self.crash(deployment, &baseline).await? {
                return Ok(Some(failure));
            }
            for watched in &mut gates {
                if let Some(failure) = self.ask_if_due(watched, reporter).await? {
                    return Ok(Some(failure));
                }
            }
            let elapsed = self.ports.clock.monotonic().saturating_sub(start);
            if elapsed >= times.window && decided(&gates, Scope::Local) {
                if decided(&gates, Scope::Remote) {
                    return Ok(None);
                }
                if elapsed >= times.window + times.hold {
                    reporter.warn(format!("blessed although {}", objections(&gates)));
                    return Ok(None);
                }
                if !held {
                    held = true;
                    let limit = times.hold.as_secs();
                    reporter.warn(format!(
                        "the probation is held open for up to {limit} s: {}",
                        objections(&gates)
                    ));
                }
            }
            self.ports.clock.sleep(TICK).await;
        }
    }

    async fn ask_if_due(
        &self,
        watched: &mut Watched<'_>,
        reporter: &Reporter,
    ) -> Result<Option<ServiceFailure>> {
        let now = self.ports.clock.monotonic();
        if now < watched.due {
            return Ok(None);
        }
        let answer = self
            .ports
            .probes
            .ask(watched.service, watched.gate, When::Probation)
            .await?;
        watched.due = self.ports.clock.monotonic() + watched.gate.interval;
        match &answer {
            Ok(()) => {
                if !watched.passed || watched.failures > 0 {
                    tell(reporter, watched.service, watched.gate, &answer);
                }
                (watched.passed, watched.failures) = (true, 0);
                Ok(None)
            }
            Err(no) => {
                if !watched.refuse(no) {
                    return Ok(None);
                }
                tell(reporter, watched.service, watched.gate, &answer);
                match no.whose {
                    Scope::Remote => Ok(None),
                    Scope::Local => {
                        let reason = format!("gate {:?}: {}", watched.gate.name, no.why);
                        Ok(Some(self.failure(watched.service, reason).await))
                    }
                }
            }
        }
    }

    async fn unit_states(&self, deployment: &Deployment) -> Result<BTreeMap<String, UnitState>> {
        let mut states = BTreeMap::new();
        for name in deployment.document.services.keys() {
            states.insert(name.clone(), self.ports.units.state(&unit_of(name)).await?);
        }
        Ok(states)
    }

    /// A service that is no longer up, or that systemd had to restart since.
    async fn crash(
        &self,
        deployment: &Deployment,
        baseline: &BTreeMap<String, UnitState>,
    ) -> Result<Option<ServiceFailure>> {
        for (name, now) in self.unit_states(deployment).await? {
            let before = baseline.get(&name).cloned().unwrap_or_default();
            let reason = if !now.active {
                format!("it is no longer up ({})", now.result)
            } else if now.restarts > before.restarts {
                format!(
                    "it crashed and was restarted {} times",
                    now.restarts - before.restarts
                )
            } else if now.main_pid != before.main_pid {
                "its main process was replaced".to_owned()
            } else {
                continue;
            };
            return Ok(Some(self.failure(&name, reason).await));
        }
        Ok(None)
    }
}

fn probation_gates(deployment: &Deployment, now: Duration) -> Vec<Watched<'_>> {
    let chosen = |name: &str| deployment.document.services.contains_key(name);
    deployment
        .release
        .services
        .iter()
        .filter(|(name, _)| chosen(name))
        .flat_map(|(name, d)| d.gates_at(When::Probation).map(move |gate| (name, gate)))
        .map(|(service, gate)| Watched {
            service,
            gate,
            due: now,
            failures: 0,
            passed: false,
            no: No {
                why: "it has not answered yet".to_owned(),
                whose: gate.scope,
            },
        })
        .collect()
}

/// Whether no gate's last no is trouble of this scope.
fn decided(gates: &[Watched<'_>], scope: Scope) -> bool {
    gates.iter().all(|w| w.passed || w.no.whose != scope)
}

/// The remote gates that say no, for people.
fn objections(gates: &[Watched<'_>]) -> String {
    let says_no = gates.iter().filter(|w| !w.passed && w.no.whose == Scope::Remote);
    let texts: Vec<String> = says_no
        .map(|w| {
            format!(
                "gate {:?} of service {} says no: {}",
                w.gate.name, w.service, w.no.why
            )
        })
        .collect();
    texts.join("; ")
}

fn tell(reporter: &Reporter, service: &str, gate: &Gate, answer: &std::result::Result<(), No>) {
    reporter.tell(EventKind::Gate {
        service: service.into(),
        gate: gate.name.clone(),
        passed: answer.is_ok(),
        message: answer
            .as_ref()
            .err()
            .map_or_else(|| "holds".into(), |no| no.why.clone()),
    });
}

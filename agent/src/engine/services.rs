//! Start, stop and restart of single services of the current deployment.

use super::activate::GRACE;
use super::report::{EventSink, Reporter};
use super::{Engine, unit_of};
use crate::api::Disruption;
use crate::definition::{Definition, When};
use crate::deployment::{Deployment, current};
use crate::error::{AgentError, Kind, Result};

/// What to do with a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Start it if it does not run.
    Start,
    /// Stop it.
    Stop,
    /// Stop and start it, in one job: systemd finishes it without us.
    Restart,
}

impl Verb {
    /// For the operator, while it goes on and when it is done.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Start => ("starting", "started"),
            Self::Stop => ("stopping", "stopped"),
            Self::Restart => ("restarting", "restarted"),
        }
    }
}

impl Engine {
    /// Starts services, in the order given.
    ///
    /// # Errors
    /// A service is not in the current deployment, or its job did not end well.
    pub async fn start(&self, services: &[String], sink: EventSink) -> Result<()> {
        self.each(services, Verb::Start, false, sink).await
    }

    /// Stops services, in the order given, if the gates of all of them permit it.
    ///
    /// # Errors
    /// As for [`Engine::start`]; something stands against it, and it is not forced.
    pub async fn stop(&self, services: &[String], force: bool, sink: EventSink) -> Result<()> {
        self.each(services, Verb::Stop, force, sink).await
    }

    /// Restarts services, in the order given, if the gates of all of them permit it.
    ///
    /// # Errors
    /// As for [`Engine::stop`]; a gate does not hold afterwards.
    pub async fn restart(&self, services: &[String], force: bool, sink: EventSink) -> Result<()> {
        self.each(services, Verb::Restart, force, sink).await
    }

    async fn each(&self, services: &[String], verb: Verb, force: bool, sink: EventSink) -> Result<()> {
        let _lock = self.lock()?;
        let reporter = Reporter::new(sink, self.ports.clock.clone());
        let Some(seq) = current(&self.roots)? else {
            return Err(AgentError::new(Kind::Usage, "this node runs no release yet"));
        };
        let deployment = Deployment::load(&self.roots, seq)?;
        let definitions = services
            .iter()
            .map(|service| definition(&deployment, service))
            .collect::<Result<Vec<_>>>()?;
        if verb != Verb::Start {
            self.ask_before_stop(&definitions, force, &reporter).await?;
        }
        for definition in definitions {
            self.one(definition, verb, &reporter).await?;
        }
        Ok(())
    }

    async fn ask_before_stop(
        &self,
        definitions: &[&Definition],
        force: bool,
        reporter: &Reporter,
    ) -> Result<()> {
        for definition in definitions {
            let runs = self.ports.units.state(&unit_of(&definition.name)).await?.active;
            if runs && definition.disruption == Disruption::WhenDrained {
                self.spare_guests(&definition.name, "must not be stopped now", force)?;
            }
        }
        self.permit_stop(definitions.iter().copied(), force, reporter)
            .await
    }

    async fn one(&self, definition: &Definition, verb: Verb, reporter: &Reporter) -> Result<()> {
        let service = &definition.name;
        let unit = unit_of(service);
        let units = &self.ports.units;
        let (doing, done) = verb.words();
        let stop = definition.unit.timeout_stop_sec.duration();
        let start = definition.unit.timeout_start_sec.duration();
        reporter.service(service, doing);
        if verb != Verb::Stop {
            units.reset_failed(&unit).await?;
        }
        let ended = match verb {
            Verb::Start => units.start(&unit, start + GRACE).await?,
            Verb::Stop => units.stop(&unit, stop + GRACE).await?,
            Verb::Restart => units.restart(&unit, stop + start + GRACE).await?,
        };
        if let Err(result) = ended {
            let failure = self.failure(service, String::new()).await;
            return Err(
                AgentError::other(format!("{doing} service {service} ended with {result}"))
                    .details(failure.journal),
            );
        }
        reporter.service(service, done);
        if verb == Verb::Restart
            && let Some(failure) = self.hold(definition, When::PostStart, reporter).await?
        {
            return Err(
                AgentError::other(format!("service {service} was restarted: {}", failure.reason))
                    .details(failure.journal),
            );
        }
        Ok(())
    }
}

fn definition<'a>(deployment: &'a Deployment, service: &str) -> Result<&'a Definition> {
    let seq = deployment.seq;
    if !deployment.document.services.contains_key(service) {
        let known: Vec<&str> = deployment.document.services.keys().map(String::as_str).collect();
        return Err(AgentError::new(
            Kind::Usage,
            format!("service {service} is not in deployment {seq}"),
        )
        .hint(format!("its services are {}", known.join(", "))));
    }
    deployment.release.services.get(service).ok_or_else(|| {
        AgentError::other(format!(
            "deployment {seq} is damaged: {service} has no definition"
        ))
    })
}

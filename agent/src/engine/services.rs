//! Start, stop and restart of single services of the current deployment.

use std::time::Duration;

use super::report::{EventSink, Reporter};
use super::{Engine, unit_of};
use crate::deployment::{Deployment, current};
use crate::error::{AgentError, Kind, Result};

/// Time that systemd gets beyond a unit's own timeouts.
const GRACE: Duration = Duration::from_secs(60);

/// What to do with a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Start it if it does not run.
    Start,
    /// Stop it.
    Stop,
    /// Stop and start it.
    Restart,
}

impl Engine {
    /// Starts services, in the order given.
    ///
    /// # Errors
    /// A service is not in the current deployment, or its job did not end well.
    pub async fn start(&self, services: &[String], sink: EventSink) -> Result<()> {
        self.each(services, Verb::Start, sink).await
    }

    /// Stops services, in the order given.
    ///
    /// # Errors
    /// As for [`Engine::start`].
    pub async fn stop(&self, services: &[String], sink: EventSink) -> Result<()> {
        self.each(services, Verb::Stop, sink).await
    }

    /// Restarts services, in the order given.
    ///
    /// # Errors
    /// As for [`Engine::start`].
    pub async fn restart(&self, services: &[String], sink: EventSink) -> Result<()> {
        self.each(services, Verb::Restart, sink).await
    }

    async fn each(&self, services: &[String], verb: Verb, sink: EventSink) -> Result<()> {
        let _lock = self.lock()?;
        let reporter = Reporter::new(sink, self.ports.clock.clone());
        let Some(seq) = current(&self.roots)? else {
            return Err(AgentError::new(Kind::Usage, "this node runs no release yet"));
        };
        let deployment = Deployment::load(&self.roots, seq)?;
        if let Some(unknown) = services
            .iter()
            .find(|s| !deployment.document.services.contains_key(*s))
        {
            let known: Vec<&str> = deployment.document.services.keys().map(String::as_str).collect();
            return Err(AgentError::new(
                Kind::Usage,
                format!("service {unknown} is not in deployment {seq}"),
            )
            .hint(format!("its services are {}", known.join(", "))));
        }
        for service in services {
            self.one(&deployment, service, verb, &reporter).await?;
        }
        Ok(())
    }

    async fn one(
        &self,
        deployment: &Deployment,
        service: &str,
        verb: Verb,
        reporter: &Reporter,
    ) -> Result<()> {
        let Some(definition) = deployment.release.services.get(service) else {
            return Err(AgentError::other(format!(
                "deployment {} is damaged: {service} has no definition",
                deployment.seq
            )));
        };
        let unit = unit_of(service);
        let units = &self.ports.units;
        if matches!(verb, Verb::Stop | Verb::Restart) {
            reporter.service(service, "stopping");
            let deadline = definition.unit.timeout_stop_sec.duration() + GRACE;
            self.must(service, "stopping", units.stop(&unit, deadline).await?)
                .await?;
            reporter.service(service, "stopped");
        }
        if matches!(verb, Verb::Start | Verb::Restart) {
            reporter.service(service, "starting");
            units.reset_failed(&unit).await?;
            let deadline = definition.unit.timeout_start_sec.duration() + GRACE;
            self.must(service, "starting", units.start(&unit, deadline).await?)
                .await?;
            reporter.service(service, "started");
        }
        Ok(())
    }

    async fn must(&self, service: &str, doing: &str, result: std::result::Result<(), String>) -> Result<()> {
        match result {
            Ok(()) => Ok(()),
            Err(result) => {
                let failure = self.failure(service, String::new()).await;
                Err(
                    AgentError::other(format!("{doing} service {service} ended with {result}"))
                        .details(failure.journal),
                )
            }
        }
    }
}

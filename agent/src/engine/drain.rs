//! Draining: while nova-compute is moved, the scheduler gives it nothing new. What was disabled for that stands in a
//! file until it is enabled again, so that neither a crash nor a dead control plane leaves the host disabled unnoticed;
//! what an operator disabled stays as it is.

use std::time::Duration;

use node_images::durable;
use serde::{Deserialize, Serialize};

use super::Engine;
use super::judged::cell_program;
use super::report::Reporter;
use crate::api::{Action, PlannedService};
use crate::deployment::{Deployment, current};
use crate::error::{AgentError, Kind, Result};
use crate::wayback::NOVA_COMPUTE;

/// Attempts to enable the service again, and the pause between them: it may just have been started.
const ATTEMPTS: u32 = 6;
const PAUSE: Duration = Duration::from_secs(5);

/// Format of the record that this version reads and writes.
const FORMAT: u32 = 1;

/// `drained.json`: the compute service of this node is disabled for this reason, or was about to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Drained {
    format: u32,
    reason: String,
}

/// Whether the service is disabled, or was, for our reason.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ours {
    ours: bool,
}

impl Engine {
    /// Disables the compute service if this plan stops it. That nova can't be asked stops nothing: it is told.
    pub(super) async fn drain(
        &self,
        planned: &[PlannedService],
        present: Option<&Deployment>,
        why: &str,
        reporter: &Reporter,
    ) -> Result<()> {
        let stops = planned
            .iter()
            .any(|p| p.name == NOVA_COMPUTE && matches!(p.action, Action::Restart | Action::Retire));
        let Some(present) = present.filter(|_| stops) else {
            return Ok(());
        };
        // What an earlier drain left disabled bears that one's reason.
        let record = self.drained()?.unwrap_or_else(|| Drained {
            format: FORMAT,
            reason: format!("nodectl: {why}"),
        });
        let bytes = serde_json::to_vec_pretty(&record)
            .map_err(|e| AgentError::other("can't write the record of the drain").because(e))?;
        durable::write_file(&self.roots.drained(), &bytes, 0o644)
            .map_err(|e| AgentError::from_leaf(Kind::Other, "can't write the record of the drain", e))?;
        match self.switch_service(present, "disable", &record.reason).await? {
            Ok(true) => reporter.service(NOVA_COMPUTE, "disabled"),
            Ok(false) => self.forget_drain()?,
            Err(why) => reporter.warn(format!("{NOVA_COMPUTE} goes on without being disabled: {why}")),
        }
        Ok(())
    }

    /// Enables the compute service again, if it is disabled for our reason. Trouble is told: it is no reason to call an
    /// operation failed.
    pub(super) async fn undrain(&self, reporter: &Reporter) {
        if let Err(e) = self.try_undrain(reporter).await {
            reporter.warn(e.chain());
        }
    }

    async fn try_undrain(&self, reporter: &Reporter) -> Result<()> {
        let Some(record) = self.drained()? else {
            return Ok(());
        };
        let Some(seq) = current(&self.roots)? else {
            return self.forget_drain();
        };
        let present = Deployment::load(&self.roots, seq)?;
        let mut why = String::new();
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                self.ports.clock.sleep(PAUSE).await;
            }
            match self.switch_service(&present, "enable", &record.reason).await? {
                Ok(enabled) => {
                    if enabled {
                        reporter.service(NOVA_COMPUTE, "enabled");
                    }
                    return self.forget_drain();
                }
                Err(no) => why = no,
            }
        }
        reporter.warn(format!(
            "{NOVA_COMPUTE} stays disabled ({}): {why}; the next operation or start of noded enables it",
            record.reason
        ));
        Ok(())
    }

    /// Whether the compute service is disabled for our reason, as far as this node knows.
    pub(super) fn is_drained(&self) -> Result<bool> {
        Ok(self.drained()?.is_some())
    }

    /// What the cell says; the inner error is why it could not be asked.
    async fn switch_service(
        &self,
        deployment: &Deployment,
        what: &str,
        reason: &str,
    ) -> Result<std::result::Result<bool, String>> {
        let Some(program) = cell_program(deployment) else {
            return Ok(Err(format!("its definition does not say how to {what} it")));
        };
        let command = program.asking(&[what, reason]);
        let answer = self
            .ports
            .probes
            .run(NOVA_COMPUTE, &command, program.timeout())
            .await?;
        Ok(answer.map_err(|no| no.why).and_then(|text| {
            serde_json::from_str::<Ours>(&text)
                .map(|answer| answer.ours)
                .map_err(|e| format!("{text:?} is not an answer: {e}"))
        }))
    }

    fn drained(&self) -> Result<Option<Drained>> {
        let path = self.roots.drained();
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|e| AgentError::other(format!("{} is damaged", path.display())).because(e)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(AgentError::io("read", &path, e)),
        }
    }

    fn forget_drain(&self) -> Result<()> {
        durable::remove_file(&self.roots.drained())
            .map_err(|e| AgentError::from_leaf(Kind::Other, "can't remove the record of the drain", e))
    }
}

//! Whether services may be stopped: asked of their gates, and for the sake of guests, before anything is touched.

use super::Engine;
use super::report::Reporter;
use crate::definition::{Definition, When};
use crate::error::{AgentError, Result};
use crate::plan;

impl Engine {
    /// Asks the gates of services that are to be stopped. What is forced is told instead.
    ///
    /// # Errors
    /// A gate objects, and it is not forced.
    pub(super) async fn permit_stop(
        &self,
        definitions: impl Iterator<Item = &Definition>,
        force: bool,
        reporter: &Reporter,
    ) -> Result<()> {
        for definition in definitions {
            let Some(veto) = self.hold(definition, When::PreStop, reporter).await? else {
                continue;
            };
            let text = format!(
                "service {} must not be stopped now: {}",
                veto.service, veto.reason
            );
            if !force {
                return Err(AgentError::vetoed(text).hint("--force stops it all the same"));
            }
            reporter.warn(text);
        }
        Ok(())
    }

    /// Refuses to stop a service that guests can't do without. `why` it would be stopped follows its name in the error.
    ///
    /// # Errors
    /// There are guests, and it is not forced.
    pub(super) fn spare_guests(&self, service: &str, why: &str, force: bool) -> Result<()> {
        let guests = self.guests(force)?;
        if guests.is_empty() {
            return Ok(());
        }
        let guests = plan::some_of(&guests);
        Err(
            AgentError::vetoed(format!("service {service} {why}, and is needed by {guests}"))
                .hint("move the guests away; --force stops it all the same"),
        )
    }
}

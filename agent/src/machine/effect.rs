//! What has to be done next, as data.

use crate::deployment::Seq;

/// One thing to do. The effects of a transition are done in order; the last one that takes time
/// (fetch, stage, flip, activate, watch, walk back, close) gives the next event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Fetch and verify release and images, and check the host.
    Fetch,
    /// Render and write the deployment.
    Stage,
    /// Make the present state durable in the journal. Nothing after it may happen before it.
    Journal,
    /// Make `current` name this deployment, or nothing.
    Flip(Option<Seq>),
    /// Bring up this deployment's services.
    Activate(Seq),
    /// Watch them over the probation.
    Watch,
    /// Bring back the services of this deployment, or stop all.
    WalkBack(Option<Seq>),
    /// Put the release on record as failed here.
    Reject,
    /// Remove the journal and what was saved for the way back.
    Close,
}

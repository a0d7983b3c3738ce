//! Errors of the image crate, by what kind of trouble they are.

use node_images::pull::PullError;
use node_images::source::SourceError;
use node_images::verify::VerifyError;

use crate::error::{AgentError, Kind};

/// A place could not give what was asked for, or gave something else.
pub(super) fn source(message: impl Into<String>, e: &SourceError) -> AgentError {
    let kind = if e.is_unavailable() || e.is_not_found() {
        Kind::Unavailable
    } else {
        Kind::Verification
    };
    AgentError::new(kind, message).because(chain(e))
}

/// A pull ended.
pub(super) fn pull(e: PullError) -> AgentError {
    let kind = match &e {
        PullError::Source { source, .. } if source.is_unavailable() || source.is_not_found() => {
            Kind::Unavailable
        }
        PullError::Source { .. }
        | PullError::Image { .. }
        | PullError::LayerType { .. }
        | PullError::Import { .. } => Kind::Verification,
        PullError::Partial { .. } | PullError::Store(_) | PullError::Cancelled | PullError::Worker => {
            Kind::Other
        }
    };
    AgentError::from_leaf(kind, "can't fetch the images", e)
}

/// A release is not vouched for.
pub(super) fn verify(reference: &str, e: VerifyError) -> AgentError {
    let kind = match &e {
        VerifyError::Source { source, .. } if source.is_unavailable() => Kind::Unavailable,
        VerifyError::Source { .. }
        | VerifyError::NotCovered { .. }
        | VerifyError::Unsigned { .. }
        | VerifyError::Untrusted { .. }
        | VerifyError::TooFew { .. } => Kind::Verification,
    };
    AgentError::new(kind, format!("release {reference} is not trusted")).because(e)
}

/// The whole chain as one text, for an error that is only lent.
fn chain(e: &dyn std::error::Error) -> String {
    let mut text = e.to_string();
    let mut next = e.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

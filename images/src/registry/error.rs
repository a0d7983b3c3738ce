//! What can go wrong between this client and a registry.

use std::path::PathBuf;
use std::time::Duration;

use crate::digest::Digest;
use crate::manifest::DocumentError;

/// Failure of a registry request. Each names the registry or the content concerned; none ever
/// holds a credential.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The certificates for a host can't be had; it is not asked with others.
    #[error("cannot use the certificates in {}", path.display())]
    CaFile {
        /// The file, from `ca_files`.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No connection, no TLS, a reset or a timeout, after all retries.
    #[error("cannot reach {url}")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// The last failure.
        source: reqwest::Error,
    },
    /// The registry answered with an error, after all retries where retrying helps.
    #[error("{url} answered {status}{}", detail(message))]
    Status {
        /// What was asked for.
        url: String,
        /// HTTP status code.
        status: u16,
        /// What the registry says about it, shortened.
        message: String,
        /// The pause the registry asks for.
        retry_after: Option<Duration>,
    },
    /// An answer that comes too slowly to be of use.
    #[error("{url} sends too slowly")]
    Slow {
        /// What was asked for.
        url: String,
    },
    /// The registry asks for a longer pause than this client takes.
    #[error("{url} asks to come back in {} s", pause.as_secs())]
    Busy {
        /// What was asked for.
        url: String,
        /// The pause the registry wants.
        pause: Duration,
    },
    /// There is no such tag, manifest or blob.
    #[error("{registry} has no {what}")]
    NotFound {
        /// Host and repository.
        registry: String,
        /// Which tag, manifest or blob.
        what: String,
    },
    /// The registry wants credentials, or other ones.
    #[error("{registry} refuses access: {hint}")]
    Unauthorized {
        /// The registry's host.
        registry: String,
        /// What was tried, and where credentials are looked for.
        hint: String,
    },
    /// The registry wants its credentials sent to a host that has nothing to do with it.
    #[error("{registry} wants credentials sent to {realm}; if that is right, list it in auth_realms")]
    ForeignRealm {
        /// The registry's host.
        registry: String,
        /// Where the token would come from.
        realm: String,
    },
    /// The registry challenges with something this client does not speak.
    #[error("{registry} sends a challenge that is not understood: {reason}")]
    Challenge {
        /// The registry's host.
        registry: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A redirect that is not followed.
    #[error("{url} redirects to {target}: {reason}")]
    Redirect {
        /// What was asked for.
        url: String,
        /// Where it leads.
        target: String,
        /// Why it is not followed.
        reason: &'static str,
    },
    /// An answer outside the distribution specification.
    #[error("{url} breaks the protocol: {reason}")]
    Protocol {
        /// What was asked for.
        url: String,
        /// How.
        reason: String,
    },
    /// A document larger than anything sensible.
    #[error("{url} is larger than {limit} bytes")]
    TooLarge {
        /// What was asked for.
        url: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// The bytes are not the ones asked for.
    #[error("{url} has digest {actual}, expected {expected}")]
    Digest {
        /// What was asked for.
        url: String,
        /// The digest asked for.
        expected: Digest,
        /// The digest of what came.
        actual: Digest,
    },
    /// What came under a manifest's address is none.
    #[error("{url} is not usable")]
    Document {
        /// What was asked for.
        url: String,
        /// Why.
        source: DocumentError,
    },
    /// A transfer that ends early, even after retries.
    #[error("blob {blob} from {url} ends after {got} of {size} bytes")]
    Truncated {
        /// What was asked for.
        url: String,
        /// The blob.
        blob: Digest,
        /// Bytes that came.
        got: u64,
        /// Bytes it should have.
        size: u64,
        /// What broke the last attempt; none if the registry ended it in good order.
        source: Option<Box<RegistryError>>,
    },
    /// More bytes than the manifest says.
    #[error("blob {blob} from {url} is longer than its {size} bytes")]
    Oversized {
        /// What was asked for.
        url: String,
        /// The blob.
        blob: Digest,
        /// Bytes it should have.
        size: u64,
    },
    /// A credentials file that exists but can't be used.
    #[error("cannot use credentials file {}", path.display())]
    AuthFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A host name in the configuration or a reference that makes no URL.
    #[error("`{host}` is not a registry host")]
    Host {
        /// The text.
        host: String,
    },
    /// The HTTP client can't be set up (TLS library, proxy variables).
    #[error("cannot set up the HTTP client")]
    Setup(#[source] reqwest::Error),
    /// What is to be pushed can't be read.
    #[error("cannot read what is pushed to {url}")]
    Source {
        /// Where it goes.
        url: String,
        /// Why.
        source: std::io::Error,
    },
}

impl RegistryError {
    /// Whether the same request may succeed a little later.
    pub fn may_pass(&self) -> bool {
        match self {
            RegistryError::Unreachable { .. }
            | RegistryError::Slow { .. }
            | RegistryError::Truncated { .. } => true,
            RegistryError::Status { status, .. } => super::retry::may_pass(*status),
            RegistryError::Busy { .. }
            | RegistryError::NotFound { .. }
            | RegistryError::Unauthorized { .. }
            | RegistryError::ForeignRealm { .. }
            | RegistryError::Challenge { .. }
            | RegistryError::Redirect { .. }
            | RegistryError::Protocol { .. }
            | RegistryError::TooLarge { .. }
            | RegistryError::Digest { .. }
            | RegistryError::Document { .. }
            | RegistryError::Oversized { .. }
            | RegistryError::AuthFile { .. }
            | RegistryError::Host { .. }
            | RegistryError::CaFile { .. }
            | RegistryError::Setup(_)
            | RegistryError::Source { .. } => false,
        }
    }

    /// The pause the registry asks for.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            RegistryError::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

fn detail(message: &str) -> String {
    if message.is_empty() {
        String::new()
    } else {
        format!(": {message}")
    }
}

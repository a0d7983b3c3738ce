//! The requests that read: manifests, blobs, referrers.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use reqwest::Response;
use reqwest::header::{ACCEPT, CONTENT_RANGE, HeaderValue, RANGE};
use tokio::time::Instant;

use super::RegistryConfig;
use super::auth_file::AuthFiles;
use super::endpoint::{Endpoint, endpoints};
use super::error::RegistryError;
use super::retry::{Pauses, RealPauses, RetryPolicy};
use super::transport::{Call, Transport, shown, unreachable};
use crate::digest::Digest;
use crate::manifest::{DOCKER_INDEX, DOCKER_MANIFEST, INDEX, MANIFEST, MAX_DOCUMENT};

/// Bytes that must arrive between two failures of a transfer for the count of failures to start anew.
const PROGRESS: u64 = 64 << 10;

/// Talks to registries. Cheap to clone; tokens and connections are shared.
#[derive(Clone)]
pub struct Client {
    transport: Arc<Transport>,
}

impl Client {
    /// A client with credentials and proxies from the environment.
    pub fn new(config: RegistryConfig) -> Result<Self, RegistryError> {
        let auth = AuthFiles::locate(config.auth_file.as_deref(), &|name| std::env::var_os(name));
        let policy = RetryPolicy {
            retries: config.retries.into(),
            ..RetryPolicy::default()
        };
        Client::with(config, auth, policy, Arc::new(RealPauses))
    }

    /// A client with everything given.
    pub fn with(
        config: RegistryConfig,
        auth: AuthFiles,
        policy: RetryPolicy,
        pauses: Arc<dyn Pauses>,
    ) -> Result<Self, RegistryError> {
        let transport = Arc::new(Transport::new(config, auth, policy, pauses)?);
        Ok(Client { transport })
    }

    /// A repository and its mirrors. Sends nothing yet.
    pub fn repository(&self, host: &str, repository: &str) -> Result<Repository, RegistryError> {
        let endpoints = endpoints(&self.transport.config, host, repository)?;
        Ok(Repository {
            transport: Arc::clone(&self.transport),
            endpoints,
            name: format!("{host}/{repository}"),
        })
    }
}

/// One repository, asked through its mirrors first.
#[derive(Clone)]
pub struct Repository {
    pub(super) transport: Arc<Transport>,
    pub(super) endpoints: Vec<Endpoint>,
    name: String,
}

impl Repository {
    /// `host/repository`, as the operator names it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The registry itself, which is asked last and written to.
    pub(super) fn origin(&self) -> &Endpoint {
        // `endpoints` always ends with the registry itself.
        &self.endpoints[self.endpoints.len() - 1]
    }

    /// The bytes of a manifest or index by tag.
    pub async fn tagged(&self, tag: &str) -> Result<Bytes, RegistryError> {
        self.document(&format!("manifests/{tag}"), &format!("tag {tag}"), None)
            .await
    }

    /// The bytes of a manifest or index by digest; they have that digest.
    pub async fn manifest(&self, digest: &Digest) -> Result<Bytes, RegistryError> {
        let what = format!("manifest {digest}");
        self.document(&format!("manifests/{digest}"), &what, Some(digest))
            .await
    }

    /// The index of what refers to `subject` from the referrers API; none where the registry has
    /// no such API (distribution-spec "listing referrers").
    pub async fn referrers(&self, subject: &Digest) -> Result<Option<Bytes>, RegistryError> {
        let what = format!("referrers of {subject}");
        match self.document(&format!("referrers/{subject}"), &what, None).await {
            Ok(body) => Ok(Some(body)),
            Err(RegistryError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Asks each endpoint in turn. What one mirror lacks or can't give, the next may have; the
    /// answer of the registry itself is the one reported.
    async fn document(
        &self,
        path: &str,
        what: &str,
        expected: Option<&Digest>,
    ) -> Result<Bytes, RegistryError> {
        for mirror in self.endpoints.iter().filter(|endpoint| endpoint.mirror) {
            match self.document_at(mirror, path, what, expected).await {
                Ok(body) => return Ok(body),
                Err(error) => tracing::debug!(mirror = mirror.host, %error, "trying the next"),
            }
        }
        self.document_at(self.origin(), path, what, expected).await
    }

    async fn document_at(
        &self,
        endpoint: &Endpoint,
        path: &str,
        what: &str,
        expected: Option<&Digest>,
    ) -> Result<Bytes, RegistryError> {
        let accept = [MANIFEST, INDEX, DOCKER_MANIFEST, DOCKER_INDEX].join(", ");
        let accept = HeaderValue::from_str(&accept).expect("media types are header values");
        let url = endpoint.url(path)?;
        let policy = self.policy_for(endpoint);
        let mut attempt = 0;
        loop {
            let call = Call::get(url.clone(), endpoint).header(ACCEPT, accept.clone());
            let result = match self.transport.send(&call).await {
                Ok(response) => self.transport.read(response, &url, MAX_DOCUMENT).await,
                Err(error) => Err(not_found(error, &endpoint.name(), what)),
            };
            match result {
                Ok(body) => return checked(body, &shown(&url), expected),
                Err(error) => self.transport.after(policy, &mut attempt, error).await?,
            }
        }
    }

    fn policy_for(&self, endpoint: &Endpoint) -> RetryPolicy {
        if endpoint.mirror {
            self.transport.policy.hasty()
        } else {
            self.transport.policy
        }
    }

    /// A blob's bytes from `offset` on. Nothing is sent before the first [`Blob::chunk`]. The
    /// digest is for the reader to check, who may have the first bytes from elsewhere.
    pub fn blob(&self, digest: Digest, size: u64, offset: u64) -> Blob {
        Blob {
            repository: self.clone(),
            digest,
            size,
            offset,
            endpoint: 0,
            attempt: 0,
            since_failure: 0,
            open: None,
        }
    }
}

fn checked(body: Bytes, url: &str, expected: Option<&Digest>) -> Result<Bytes, RegistryError> {
    match expected {
        Some(expected) => {
            let actual = Digest::of(&body);
            if actual == *expected {
                Ok(body)
            } else {
                Err(RegistryError::Digest {
                    url: url.to_owned(),
                    expected: *expected,
                    actual,
                })
            }
        }
        None => Ok(body),
    }
}

pub(super) fn not_found(error: RegistryError, registry: &str, what: &str) -> RegistryError {
    match error {
        RegistryError::Status { status: 404, .. } => RegistryError::NotFound {
            registry: registry.to_owned(),
            what: what.to_owned(),
        },
        other => other,
    }
}

/// A transfer that survives resets: it asks again from where it stopped, and goes on at the next
/// endpoint where one gives up.
pub struct Blob {
    repository: Repository,
    digest: Digest,
    size: u64,
    offset: u64,
    endpoint: usize,
    attempt: u32,
    since_failure: u64,
    open: Option<Open>,
}

struct Open {
    response: Response,
    url: reqwest::Url,
    /// Bytes to drop because the server ignored the range.
    skip: u64,
    window: Instant,
    window_bytes: u64,
}

impl Blob {
    /// The next bytes, or none after the last one. Never more than the blob's size.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, RegistryError> {
        while self.offset < self.size {
            match self.attempt_chunk().await {
                Ok(Some(bytes)) => {
                    self.offset += bytes.len() as u64;
                    self.since_failure += bytes.len() as u64;
                    return Ok(Some(bytes));
                }
                Ok(None) => {}
                Err(error) => self.failed(error).await?,
            }
        }
        self.ends().await?;
        Ok(None)
    }

    /// A body without a length has to end where the blob does; read to its end, its connection can
    /// be used again, too. One that breaks off here is whole: the digest decides over its bytes.
    async fn ends(&mut self) -> Result<(), RegistryError> {
        let Some(mut open) = self.open.take() else {
            return Ok(());
        };
        if open.response.content_length().is_some() {
            return Ok(());
        }
        match open.response.chunk().await {
            Ok(Some(_)) => Err(self.oversized(&open.url)),
            Ok(None) | Err(_) => Ok(()),
        }
    }

    fn oversized(&self, url: &reqwest::Url) -> RegistryError {
        RegistryError::Oversized {
            url: shown(url),
            blob: self.digest,
            size: self.size,
        }
    }

    /// Opens, or reads once. None means: nothing yet, ask again.
    async fn attempt_chunk(&mut self) -> Result<Option<Bytes>, RegistryError> {
        let Some(open) = &mut self.open else {
            self.open = Some(self.open().await?);
            return Ok(None);
        };
        let url = || shown(&open.url);
        let chunk = open.response.chunk().await;
        let Some(mut bytes) = chunk.map_err(|e| unreachable(&open.url, e))? else {
            return Err(RegistryError::Truncated {
                url: url(),
                blob: self.digest,
                got: self.offset,
                size: self.size,
                source: None,
            });
        };
        open.window_bytes += bytes.len() as u64;
        let patience = self.repository.transport.policy.patience;
        if open.window.elapsed() > patience.pace {
            if open.window_bytes < patience.pace_bytes {
                return Err(RegistryError::Slow { url: url() });
            }
            open.window = Instant::now();
            open.window_bytes = 0;
        }
        let skipped = open.skip.min(bytes.len() as u64);
        bytes.advance(skipped as usize);
        open.skip -= skipped;
        if bytes.len() as u64 > self.size - self.offset {
            let url = open.url.clone();
            return Err(self.oversized(&url));
        }
        Ok((!bytes.is_empty()).then_some(bytes))
    }

    async fn open(&self) -> Result<Open, RegistryError> {
        let endpoint = &self.repository.endpoints[self.endpoint];
        let url = endpoint.url(&format!("blobs/{}", self.digest))?;
        let mut call = Call::get(url.clone(), endpoint);
        if self.offset > 0 {
            let range = format!("bytes={}-", self.offset);
            let range = HeaderValue::from_str(&range).expect("a number is a header value");
            call = call.header(RANGE, range);
        }
        let response = self
            .repository
            .transport
            .send(&call)
            .await
            .map_err(|error| not_found(error, &endpoint.name(), &format!("blob {}", self.digest)))?;
        let partial = response.status().as_u16() == 206;
        if partial && range_start(&response) != Some(self.offset) {
            return Err(RegistryError::Protocol {
                url: shown(&url),
                reason: "another range than asked for".to_owned(),
            });
        }
        let skip = if partial { 0 } else { self.offset };
        let length = response.content_length();
        if length.is_some_and(|length| length > self.size - self.offset + skip) {
            return Err(self.oversized(&url));
        }
        Ok(Open {
            response,
            url,
            skip,
            window: Instant::now(),
            window_bytes: 0,
        })
    }

    /// Counts a failure: asks again, goes to the next endpoint, or gives up.
    async fn failed(&mut self, error: RegistryError) -> Result<(), RegistryError> {
        self.open = None;
        if self.since_failure >= PROGRESS {
            self.attempt = 0;
        }
        self.since_failure = 0;
        let endpoint = &self.repository.endpoints[self.endpoint];
        let policy = self.repository.policy_for(endpoint);
        let outcome = self
            .repository
            .transport
            .after(policy, &mut self.attempt, error)
            .await;
        match outcome {
            Ok(()) => Ok(()),
            Err(error) if endpoint.mirror => {
                tracing::debug!(mirror = endpoint.host, %error, "trying the next");
                self.endpoint += 1;
                self.attempt = 0;
                Ok(())
            }
            Err(error) => Err(self.broken(error)),
        }
    }

    /// Says how far the transfer came, where that is not said already.
    fn broken(&self, error: RegistryError) -> RegistryError {
        match error {
            RegistryError::Unreachable { ref url, .. } | RegistryError::Slow { ref url }
                if self.offset > 0 =>
            {
                RegistryError::Truncated {
                    url: url.clone(),
                    blob: self.digest,
                    got: self.offset,
                    size: self.size,
                    source: Some(Box::new(error)),
                }
            }
            other => other,
        }
    }
}

/// First byte of `Content-Range: bytes 100-199/200`.
fn range_start(response: &Response) -> Option<u64> {
    let value = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    value
        .strip_prefix("bytes ")?
        .split_once('-')?
        .0
        .trim()
        .parse()
        .ok()
}

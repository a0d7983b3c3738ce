//! One request to one endpoint: client choice, redirects, error answers; and what follows a failure.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode, Url};
use serde::Deserialize;

use super::RegistryConfig;
use super::auth_file::AuthFiles;
use super::clients::Clients;
use super::endpoint::{Endpoint, host_of, leads_inward, plain_http};
use super::error::RegistryError;
use super::retry::{Pauses, RetryPolicy, Verdict, retry_after};

const MAX_REDIRECTS: usize = 5;
const MAX_ERROR_BODY: u64 = 16 << 10;

/// What a request may do, for the token's scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Access {
    Pull,
    Push,
}

/// Makes a body for each attempt.
pub(super) type MakeBody<'a> = &'a (dyn Fn() -> reqwest::Body + Send + Sync);

/// One request.
pub(super) struct Call<'a> {
    pub method: Method,
    pub url: Url,
    pub endpoint: &'a Endpoint,
    pub access: Access,
    pub headers: HeaderMap,
    pub body: Option<MakeBody<'a>>,
}

impl<'a> Call<'a> {
    pub fn new(method: Method, url: Url, endpoint: &'a Endpoint, access: Access) -> Self {
        Call {
            method,
            url,
            endpoint,
            access,
            headers: HeaderMap::new(),
            body: None,
        }
    }

    pub fn get(url: Url, endpoint: &'a Endpoint) -> Self {
        Call::new(Method::GET, url, endpoint, Access::Pull)
    }

    pub fn header(mut self, name: reqwest::header::HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }
}

type TokenKey = (String, String, Access);

/// Shared by all requests of a client.
pub(super) struct Transport {
    pub config: RegistryConfig,
    pub policy: RetryPolicy,
    clients: Clients,
    pub auth: AuthFiles,
    pauses: Arc<dyn Pauses>,
    tokens: Mutex<HashMap<TokenKey, HeaderValue>>,
}

impl Transport {
    pub fn new(
        config: RegistryConfig,
        auth: AuthFiles,
        policy: RetryPolicy,
        pauses: Arc<dyn Pauses>,
    ) -> Result<Self, RegistryError> {
        Ok(Transport {
            clients: Clients::new(&config, policy.patience)?,
            config,
            policy,
            auth,
            pauses,
            tokens: Mutex::new(HashMap::new()),
        })
    }

    /// Sends with authorization. The answer is a success; everything else is an error.
    pub async fn send(&self, call: &Call<'_>) -> Result<Response, RegistryError> {
        let key = (
            call.endpoint.host.clone(),
            call.endpoint.repository.clone(),
            call.access,
        );
        let mut authorization = self.token(&key);
        for last in [false, true] {
            let response = self.follow(call, authorization.as_ref()).await?;
            // Only the registry itself may challenge: whoever it redirects to could name any realm.
            let challenged = response.status() == StatusCode::UNAUTHORIZED
                && same_origin(response.url(), &call.endpoint.base);
            if !challenged {
                return self.checked(response).await;
            }
            if last {
                break;
            }
            let fresh = self.authorize(call, response.headers()).await?;
            self.tokens
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(key.clone(), fresh.clone());
            authorization = Some(fresh);
        }
        Err(self.unauthorized(call.endpoint, "the credentials are not accepted"))
    }

    /// After the failure of attempt `attempt`: pauses and counts it, or gives the error back.
    pub async fn after(
        &self,
        policy: RetryPolicy,
        attempt: &mut u32,
        error: RegistryError,
    ) -> Result<(), RegistryError> {
        if !error.may_pass() {
            return Err(error);
        }
        match policy.verdict(*attempt, error.retry_after(), self.pauses.random()) {
            Verdict::Spent => Err(error),
            Verdict::TooLong(pause) => match error {
                RegistryError::Status { url, .. } => Err(RegistryError::Busy { url, pause }),
                other => Err(other),
            },
            Verdict::Again(pause) => {
                *attempt += 1;
                tracing::debug!(%error, attempt, ?pause, "asking the registry again");
                self.pauses.pause(pause).await;
                Ok(())
            }
        }
    }

    fn token(&self, key: &TokenKey) -> Option<HeaderValue> {
        self.tokens
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(key)
            .cloned()
    }

    pub fn client_for(&self, url: &Url) -> &reqwest::Client {
        self.clients.for_url(url)
    }

    /// Sends, following redirects of reads. The authorization stays with the endpoint's own host
    /// and scheme (distribution-spec: clients "MUST NOT forward Authorization headers" elsewhere).
    async fn follow(
        &self,
        call: &Call<'_>,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response, RegistryError> {
        let mut url = call.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let mut request = self
                .client_for(&url)
                .request(call.method.clone(), url.clone())
                .headers(call.headers.clone());
            if let Some(authorization) = authorization.filter(|_| same_origin(&url, &call.endpoint.base)) {
                request = request.header(AUTHORIZATION, authorization);
            }
            if let Some(make) = call.body {
                request = request.body(make());
            }
            let response = request.send().await.map_err(|e| unreachable(&url, e))?;
            let reads = call.method == Method::GET || call.method == Method::HEAD;
            if !(reads && response.status().is_redirection()) {
                return Ok(response);
            }
            url = self.redirect_target(&url, &response)?;
        }
        Err(RegistryError::Redirect {
            url: shown(&call.url),
            target: shown(&url),
            reason: "too many redirects",
        })
    }

    fn redirect_target(&self, from: &Url, response: &Response) -> Result<Url, RegistryError> {
        let location = response
            .headers()
            .get(LOCATION)
            .and_then(|value| value.to_str().ok());
        let Some(target) = location.and_then(|location| from.join(location).ok()) else {
            return Err(RegistryError::Protocol {
                url: shown(from),
                reason: format!("{} without a usable Location", response.status()),
            });
        };
        let refuse = |reason| {
            Err(RegistryError::Redirect {
                url: shown(from),
                target: shown(&target),
                reason,
            })
        };
        if leads_inward(from, &target) {
            return refuse("leads back into this machine");
        }
        match target.scheme() {
            "https" => Ok(target),
            "http" if plain_http(&self.config, &host_of(&target)) => Ok(target),
            "http" => refuse("plain HTTP is not allowed there"),
            _ => refuse("not http(s)"),
        }
    }

    /// Reads a whole body of at most `limit` bytes within [`Patience::document`](super::retry::Patience).
    pub async fn read(&self, response: Response, url: &Url, limit: u64) -> Result<Bytes, RegistryError> {
        let deadline = self.policy.patience.document;
        match tokio::time::timeout(deadline, read_all(response, url, limit)).await {
            Ok(result) => result,
            Err(_) => Err(RegistryError::Slow { url: shown(url) }),
        }
    }

    /// Turns an error answer into an error.
    async fn checked(&self, response: Response) -> Result<Response, RegistryError> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let url = response.url().clone();
        let pause = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| retry_after(value, self.pauses.now()));
        let body = self
            .read(response, &url, MAX_ERROR_BODY)
            .await
            .unwrap_or_default();
        Err(RegistryError::Status {
            url: shown(&url),
            status: status.as_u16(),
            message: message(&body),
            retry_after: pause,
        })
    }
}

fn same_origin(a: &Url, b: &Url) -> bool {
    a.scheme() == b.scheme()
        && a.host_str() == b.host_str()
        && a.port_or_known_default() == b.port_or_known_default()
}

/// A URL for a message: without query (signed URLs carry secrets there) and without user.
pub(super) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // Fails for URLs that can't have a user: then there is none to hide.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.to_string()
}

pub(super) fn unreachable(url: &Url, source: reqwest::Error) -> RegistryError {
    RegistryError::Unreachable {
        url: shown(url),
        source: source.without_url(),
    }
}

async fn read_all(mut response: Response, url: &Url, limit: u64) -> Result<Bytes, RegistryError> {
    let too_large = || RegistryError::TooLarge {
        url: shown(url),
        limit,
    };
    if response.content_length().is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    let mut body = bytes::BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| unreachable(url, e))? {
        if (body.len() + chunk.len()) as u64 > limit {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// The registry's own words, on one line and short; they may be anything.
fn message(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Envelope {
        errors: Vec<Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        code: String,
        #[serde(default)]
        message: String,
    }
    let text = match serde_json::from_slice::<Envelope>(body) {
        Ok(envelope) => {
            let parts: Vec<String> = envelope
                .errors
                .iter()
                .map(|e| format!("{} {}", e.code, e.message).trim_end().to_owned())
                .collect();
            parts.join("; ")
        }
        Err(_) => String::new(),
    };
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_short_and_on_one_line() {
        let body = br#"{"errors":[{"code":"DENIED","message":"no\nway"},{"code":"X"}]}"#;
        assert_eq!(message(body), "DENIED noway; X");
        assert_eq!(message(b"<html>\x1b[31m"), "");
        let long = format!(
            r#"{{"errors":[{{"code":"A","message":"{}"}}]}}"#,
            "x".repeat(9999)
        );
        assert_eq!(message(long.as_bytes()).len(), 200);
    }

    #[test]
    fn urls_are_shown_without_secrets() {
        let url = Url::parse("https://u:p@s3.example/blob?X-Signature=geheim#f").expect("url");
        assert_eq!(shown(&url), "https://s3.example/blob");
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let url = |text| Url::parse(text).expect("url");
        let base = url("https://q.example/");
        assert!(same_origin(&url("https://q.example:443/x"), &base));
        for other in [
            "http://q.example/",
            "https://q.example:444/",
            "https://x.example/",
        ] {
            assert!(!same_origin(&url(other), &base), "{other}");
        }
    }
}

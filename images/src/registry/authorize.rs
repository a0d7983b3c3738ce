//! The answer to a challenge: a password, or a token from the registry's token server
//! (distribution "token authentication").

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{StatusCode, Url};
use serde::Deserialize;

use super::auth_file::Credentials;
use super::challenge::{Challenge, may_have_credentials};
use super::endpoint::{Endpoint, host_of, leads_inward, plain_http};
use super::error::RegistryError;
use super::transport::{Access, Call, Transport, shown, unreachable};

const MAX_TOKEN: u64 = 64 << 10;

impl Transport {
    /// Gets the header that answers a challenge.
    pub async fn authorize(
        &self,
        call: &Call<'_>,
        headers: &HeaderMap,
    ) -> Result<HeaderValue, RegistryError> {
        let endpoint = call.endpoint;
        let odd = |reason: String| RegistryError::Challenge {
            registry: endpoint.host.clone(),
            reason,
        };
        let values = headers
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| value.to_str().ok());
        let challenge = Challenge::parse(values).map_err(odd)?;
        let credentials = self.auth.find(&endpoint.host, &endpoint.repository)?;
        match challenge {
            Challenge::Basic => match credentials {
                Some(credentials) => {
                    basic(&credentials).ok_or_else(|| self.unauthorized(endpoint, "unusable credentials"))
                }
                None => Err(self.unauthorized(endpoint, "it wants a user and a password")),
            },
            Challenge::Bearer {
                mut realm,
                service,
                scope: _,
            } => {
                {
                    let mut query = realm.query_pairs_mut();
                    query.append_pair("scope", &scope(endpoint, call.access));
                    if let Some(service) = &service {
                        query.append_pair("service", service);
                    }
                }
                self.fetch_token(endpoint, &realm, credentials.as_ref()).await
            }
        }
    }

    async fn fetch_token(
        &self,
        endpoint: &Endpoint,
        realm: &Url,
        credentials: Option<&Credentials>,
    ) -> Result<HeaderValue, RegistryError> {
        let odd = |reason: &str| RegistryError::Challenge {
            registry: endpoint.host.clone(),
            reason: reason.to_owned(),
        };
        if realm.scheme() != "https" && !plain_http(&self.config, &host_of(realm)) {
            return Err(odd("its realm is plain HTTP"));
        }
        if leads_inward(&endpoint.base, realm) {
            return Err(odd("its realm leads back into this machine"));
        }
        let mut request = self.client_for(realm).get(realm.clone());
        if let Some(credentials) = credentials {
            let registry = host_of(&endpoint.base);
            if !may_have_credentials(&self.config, &registry, realm)
                && !may_have_credentials(&self.config, &endpoint.host, realm)
            {
                return Err(RegistryError::ForeignRealm {
                    registry: endpoint.host.clone(),
                    realm: shown(realm),
                });
            }
            let header =
                basic(credentials).ok_or_else(|| self.unauthorized(endpoint, "unusable credentials"))?;
            request = request.header(AUTHORIZATION, header);
        }
        let response = request.send().await.map_err(|e| unreachable(realm, e))?;
        match response.status() {
            status if status.is_success() => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                return Err(self.unauthorized(endpoint, "its token server refuses"));
            }
            status => {
                return Err(RegistryError::Status {
                    url: shown(realm),
                    status: status.as_u16(),
                    message: "no token".to_owned(),
                    retry_after: None,
                });
            }
        }
        let body = self.read(response, realm, MAX_TOKEN).await?;
        let token = token(&body).map_err(odd)?;
        sensitive(&format!("Bearer {token}")).ok_or_else(|| odd("its token is no header value"))
    }

    pub fn unauthorized(&self, endpoint: &Endpoint, why: &str) -> RegistryError {
        RegistryError::Unauthorized {
            registry: endpoint.name(),
            hint: format!("{why} (credentials are looked for in {})", self.auth.places()),
        }
    }
}

/// The token in a token server's answer; it has two names.
fn token(body: &[u8]) -> Result<String, &'static str> {
    #[derive(Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
    }
    let answer: Answer = serde_json::from_slice(body).map_err(|_| "its token is no JSON")?;
    answer.token.or(answer.access_token).ok_or("its token is missing")
}

fn scope(endpoint: &Endpoint, access: Access) -> String {
    let actions = match access {
        Access::Pull => "pull",
        Access::Push => "pull,push",
    };
    format!("repository:{}:{actions}", endpoint.repository)
}

fn basic(credentials: &Credentials) -> Option<HeaderValue> {
    let pair = format!("{}:{}", credentials.user, credentials.password);
    sensitive(&format!(
        "Basic {}",
        openssl::base64::encode_block(pair.as_bytes())
    ))
}

fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

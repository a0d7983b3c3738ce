//! The HTTP clients, one for each way a host is reached.

use std::collections::BTreeMap;
use std::path::Path;

use reqwest::{Certificate, ClientBuilder, Url};

use super::RegistryConfig;
use super::endpoint::{host_of, is_loopback};
use super::error::RegistryError;
use super::retry::Patience;

/// Who vouches for a host decides which client asks it.
pub(super) struct Clients {
    /// Through the environment's proxies, with the system's certificates.
    proxied: reqwest::Client,
    /// For loopback.
    direct: reqwest::Client,
    /// For hosts with certificates of their own.
    own: BTreeMap<String, reqwest::Client>,
}

impl Clients {
    /// Reads the certificates; sends nothing.
    pub fn new(config: &RegistryConfig, patience: Patience) -> Result<Self, RegistryError> {
        let builder = || {
            reqwest::Client::builder()
                .user_agent(concat!("nodectl/", env!("CARGO_PKG_VERSION")))
                .redirect(reqwest::redirect::Policy::none())
                .connect_timeout(patience.connect)
                .read_timeout(patience.silence)
        };
        let build = |builder: ClientBuilder| builder.build().map_err(RegistryError::Setup);
        let mut own = BTreeMap::new();
        for (host, path) in &config.ca_files {
            let client = build(builder().tls_certs_only(certificates(path)?))?;
            // Addresses never show the port that is meant anyway.
            own.insert(host.trim_end_matches(":443").to_owned(), client);
        }
        Ok(Clients {
            proxied: build(builder())?,
            direct: build(builder().no_proxy())?,
            own,
        })
    }

    /// The client for a host, also where a redirect or a token server leads to it.
    pub fn for_url(&self, url: &Url) -> &reqwest::Client {
        if url.host_str().is_some_and(is_loopback) {
            return &self.direct;
        }
        self.own.get(&host_of(url)).unwrap_or(&self.proxied)
    }
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, RegistryError> {
    let pem = std::fs::read(path).map_err(|source| RegistryError::CaFile {
        path: path.to_owned(),
        source,
    })?;
    let found = Certificate::from_pem_bundle(&pem).unwrap_or_default();
    if found.is_empty() {
        return Err(RegistryError::CaFile {
            path: path.to_owned(),
            source: std::io::Error::new(std::io::ErrorKind::InvalidData, "no PEM certificates"),
        });
    }
    Ok(found)
}

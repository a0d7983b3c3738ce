//! Which host is asked, in which order, and over which scheme.

use reqwest::Url;

use super::RegistryConfig;
use super::error::RegistryError;

/// One place that serves a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// `host[:port]`, as credentials are filed under.
    pub host: String,
    /// The repository's name there.
    pub repository: String,
    /// `http(s)://host[:port]/`
    pub base: Url,
    /// Whether another endpoint follows.
    pub mirror: bool,
}

impl Endpoint {
    /// `…/v2/<repository>/<rest>`
    pub fn url(&self, rest: &str) -> Result<Url, RegistryError> {
        self.base
            .join(&format!("v2/{}/{rest}", self.repository))
            .map_err(|_| RegistryError::Host {
                host: self.host.clone(),
            })
    }

    /// `host/repository`
    pub fn name(&self) -> String {
        format!("{}/{}", self.host, self.repository)
    }
}

/// All endpoints of a repository: the mirrors as configured, then the registry itself.
pub(super) fn endpoints(
    config: &RegistryConfig,
    host: &str,
    repository: &str,
) -> Result<Vec<Endpoint>, RegistryError> {
    let mut endpoints = Vec::new();
    for mirror in config.mirrors.get(host).into_iter().flatten() {
        let (mirror_host, path) = mirror.split_once('/').unwrap_or((mirror, ""));
        let path = path.trim_matches('/');
        let name = if path.is_empty() {
            repository.to_owned()
        } else {
            format!("{path}/{repository}")
        };
        endpoints.push(endpoint(config, mirror_host, &name, true)?);
    }
    endpoints.push(endpoint(config, host, repository, false)?);
    Ok(endpoints)
}

fn endpoint(
    config: &RegistryConfig,
    host: &str,
    repository: &str,
    mirror: bool,
) -> Result<Endpoint, RegistryError> {
    // Docker Hub answers under another name than the one images are called by.
    let address = if host == "docker.io" {
        "registry-1.docker.io"
    } else {
        host
    };
    let scheme = if plain_http(config, address) {
        "http"
    } else {
        "https"
    };
    let bad = || RegistryError::Host {
        host: host.to_owned(),
    };
    let base = Url::parse(&format!("{scheme}://{address}/")).map_err(|_| bad())?;
    if base.path() != "/" || base.query().is_some() || !base.username().is_empty() {
        return Err(bad());
    }
    Ok(Endpoint {
        host: host.to_owned(),
        repository: repository.to_owned(),
        base,
        mirror,
    })
}

/// Whether `host[:port]` is spoken to without TLS: loopback, or where the configuration says so.
pub(super) fn plain_http(config: &RegistryConfig, host: &str) -> bool {
    let name = without_port(host);
    is_loopback(name)
        || config
            .insecure_http
            .iter()
            .any(|allowed| allowed == host || allowed == name)
}

fn without_port(host: &str) -> &str {
    if host.starts_with('[') {
        return host.split_once(']').map_or(host, |(name, _)| &name[1..]);
    }
    host.split_once(':').map_or(host, |(name, _)| name)
}

/// Whether a host name (no port) is this machine.
pub(super) fn is_loopback(name: &str) -> bool {
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost"
        || name
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// Whether a registry elsewhere leads to this machine, or to what only this machine reaches (link-local: metadata
/// services). Names are not looked up here.
pub(super) fn leads_inward(from: &Url, to: &Url) -> bool {
    let inward = |url: &Url| url.host_str().is_some_and(is_inward);
    inward(to) && !inward(from)
}

fn is_inward(name: &str) -> bool {
    let name = name
        .trim_start_matches('[')
        .trim_end_matches(']')
        .trim_end_matches('.');
    if name == "localhost" || name.ends_with(".localhost") {
        return true;
    }
    let v4 = |address: std::net::Ipv4Addr| {
        address.is_loopback() || address.is_unspecified() || address.is_link_local()
    };
    match name.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V4(address)) => v4(address),
        Ok(std::net::IpAddr::V6(address)) => {
            address.is_loopback()
                || address.is_unspecified()
                || address.is_unicast_link_local()
                || address.to_ipv4_mapped().is_some_and(v4)
        }
        Err(_) => false,
    }
}

/// `host[:port]` of a URL, the port only where it is written.
pub(super) fn host_of(url: &Url) -> String {
    match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host.to_owned(),
        (None, _) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> RegistryConfig {
        RegistryConfig {
            mirrors: [(
                "q.example".to_owned(),
                vec!["m1.example:5000".to_owned(), "m2.example/cache/".to_owned()],
            )]
            .into(),
            insecure_http: vec!["m1.example:5000".to_owned(), "lab.example".to_owned()],
            ..RegistryConfig::default()
        }
    }

    #[test]
    fn mirrors_come_first_and_may_have_a_path() {
        let all = endpoints(&config(), "q.example", "a/b").expect("endpoints");
        let urls: Vec<String> = all
            .iter()
            .map(|e| e.url("manifests/1").expect("url").to_string())
            .collect();
        assert_eq!(
            urls,
            [
                "http://m1.example:5000/v2/a/b/manifests/1",
                "https://m2.example/v2/cache/a/b/manifests/1",
                "https://q.example/v2/a/b/manifests/1",
            ]
        );
        assert_eq!(
            all.iter().map(|e| e.mirror).collect::<Vec<_>>(),
            [true, true, false]
        );
    }

    #[test]
    fn plain_http_is_for_loopback_and_where_configured() {
        let table = [
            ("127.0.0.1:5000", true),
            ("127.8.8.8", true),
            ("localhost", true),
            ("localhost:5000", true),
            ("[::1]:5000", true),
            ("lab.example", true),
            ("lab.example:5000", true),
            ("m1.example", false),
            ("m1.example:5000", true),
            ("localhost.example", false),
            ("127.0.0.1.example", false),
            ("10.0.0.1:5000", false),
        ];
        for (host, expected) in table {
            assert_eq!(plain_http(&config(), host), expected, "{host}");
        }
    }

    #[test]
    fn what_leads_back_into_this_machine_is_known() {
        let url = |host: &str| Url::parse(&format!("https://{host}/")).expect("url");
        let table = [
            ("q.example", "s3.example", false),
            ("q.example", "10.0.0.1", false),
            ("q.example", "127.0.0.1:5000", true),
            ("q.example", "127.1", true),
            ("q.example", "0x7f000001", true),
            ("q.example", "0.0.0.0", true),
            ("q.example", "[::1]:5000", true),
            ("q.example", "[::]", true),
            ("q.example", "[::ffff:127.0.0.1]", true),
            ("q.example", "localhost", true),
            ("q.example", "LOCALHOST.", true),
            ("q.example", "a.localhost", true),
            ("q.example", "localhost.example", false),
            ("q.example", "169.254.169.254", true),
            ("q.example", "[fe80::1]", true),
            ("q.example", "[fd00::1]", false),
            ("127.0.0.1:5000", "localhost:5001", false),
        ];
        for (from, to, expected) in table {
            assert_eq!(leads_inward(&url(from), &url(to)), expected, "{from} {to}");
        }
    }

    #[test]
    fn hosts_that_are_no_hosts_are_refused() {
        for host in ["a b", "x@y", "h?x", ""] {
            endpoints(&RegistryConfig::default(), host, "a").expect_err(host);
        }
    }
}

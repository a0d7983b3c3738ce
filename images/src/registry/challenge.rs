//! `WWW-Authenticate` (RFC 9110, 11.6.1; distribution token authentication), and the decision who
//! may be given a registry's credentials.

use http_auth::parser::ChallengeParser;
use reqwest::Url;

use super::RegistryConfig;
use super::endpoint::{host_of, plain_http};

/// What a registry asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    /// User and password with every request.
    Basic,
    /// A token from `realm`.
    Bearer {
        /// The token server.
        realm: Url,
        /// Name of the registry there.
        service: Option<String>,
        /// What the registry wants the token for, if it says.
        scope: Option<String>,
    },
}

impl Challenge {
    /// Picks from the headers' values: Bearer before Basic.
    ///
    /// # Errors
    /// The reason in words.
    pub fn parse<'a>(values: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let mut basic = None;
        let mut seen = Vec::new();
        for value in values {
            for challenge in ChallengeParser::new(value) {
                let challenge = challenge.map_err(|_| "malformed WWW-Authenticate".to_owned())?;
                if challenge.scheme.eq_ignore_ascii_case("bearer") {
                    return bearer(&challenge);
                }
                if challenge.scheme.eq_ignore_ascii_case("basic") {
                    basic = Some(Challenge::Basic);
                }
                seen.push(challenge.scheme.to_owned());
            }
        }
        basic.ok_or_else(|| match seen.as_slice() {
            [] => "401 without WWW-Authenticate".to_owned(),
            schemes => format!("schemes {}", schemes.join(", ")),
        })
    }
}

fn bearer(challenge: &http_auth::ChallengeRef<'_>) -> Result<Challenge, String> {
    let param = |name: &str| {
        challenge
            .params
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.to_unescaped())
    };
    let realm = param("realm").ok_or("Bearer without realm")?;
    let realm = Url::parse(&realm).map_err(|_| format!("realm `{realm}` is not a URL"))?;
    if !matches!(realm.scheme(), "http" | "https") {
        return Err(format!("realm `{realm}` is not http(s)"));
    }
    Ok(Challenge::Bearer {
        realm,
        service: param("service"),
        scope: param("scope"),
    })
}

/// Token servers that are known to belong to a registry although neither is the other's parent domain.
const KNOWN: &[(&str, &str)] = &[("registry-1.docker.io", "auth.docker.io")];

/// Whether the credentials of `registry` may be sent to `realm`.
///
/// The protocol lets a registry name any URL, so a forged challenge could collect passwords.
/// Allowed are the registry itself, its parent domain (`registry.gitlab.com` → `gitlab.com`) and one below it
/// (`docker.io` → `auth.docker.io`), the [`KNOWN`] pairs, and what `auth_realms` lists; over plain HTTP only where
/// the configuration allows that for the realm's host. A sibling is nobody's relative: under `azurecr.io` or `co.uk`
/// each name has another owner.
pub fn may_have_credentials(config: &RegistryConfig, registry: &str, realm: &Url) -> bool {
    let host = host_of(realm);
    if realm.scheme() != "https" && !plain_http(config, &host) {
        return false;
    }
    let name = realm.host_str().unwrap_or_default();
    if host == registry {
        return true;
    }
    let listed = config.auth_realms.get(registry).into_iter().flatten();
    if listed
        .into_iter()
        .any(|allowed| *allowed == host || *allowed == name)
    {
        return true;
    }
    let registry_name = registry.split_once(':').map_or(registry, |(name, _)| name);
    realm.scheme() == "https" && are_related(registry_name, name)
}

/// The same name, one the parent of the other with at least two labels, or known. Never true for two addresses.
fn are_related(registry: &str, realm: &str) -> bool {
    if [registry, realm]
        .iter()
        .any(|name| name.parse::<std::net::IpAddr>().is_ok())
    {
        return false;
    }
    let is_parent = |parent: &str, child: &str| {
        parent.contains('.') && child.split_once('.').is_some_and(|(_, rest)| rest == parent)
    };
    registry == realm
        || is_parent(registry, realm)
        || is_parent(realm, registry)
        || KNOWN.contains(&(registry, realm))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let bearer = |realm: &str, service: Option<&str>, scope: Option<&str>| Challenge::Bearer {
            realm: Url::parse(realm).expect("url"),
            service: service.map(str::to_owned),
            scope: scope.map(str::to_owned),
        };
        let table: Vec<(&[&str], Challenge)> = vec![
            (&["Basic realm=\"x\""], Challenge::Basic),
            (
                &[
                    "Bearer realm=\"https://a.example/token\",service=\"s\",scope=\"repository:a/b:pull,push\"",
                ],
                bearer(
                    "https://a.example/token",
                    Some("s"),
                    Some("repository:a/b:pull,push"),
                ),
            ),
            (
                &["BEARER Realm=\"https://a.example/t\""],
                bearer("https://a.example/t", None, None),
            ),
            (
                &["Basic realm=x, Bearer realm=\"https://a.example/t\""],
                bearer("https://a.example/t", None, None),
            ),
            (
                &["Basic realm=x", "Bearer realm=\"https://a.example/t\""],
                bearer("https://a.example/t", None, None),
            ),
            (
                &["Bearer realm=\"https://a.example/t\", service=\"with \\\"quotes\\\"\""],
                bearer("https://a.example/t", Some("with \"quotes\""), None),
            ),
        ];
        for (values, expected) in table {
            let found = Challenge::parse(values.iter().copied());
            assert_eq!(found.as_ref(), Ok(&expected), "{values:?}");
        }
    }

    #[test]
    fn bad_challenges_are_refused() {
        let table: &[&[&str]] = &[
            &[],
            &[""],
            &["Negotiate"],
            &["Bearer service=\"s\""],
            &["Bearer realm=\"/relative\""],
            &["Bearer realm=\"file:///etc/passwd\""],
            &["Bearer realm=\"unterminated"],
        ];
        for values in table {
            Challenge::parse(values.iter().copied()).expect_err(&format!("{values:?}"));
        }
    }

    #[test]
    fn credentials_go_to_the_registry_and_its_relatives_only() {
        let config = RegistryConfig {
            insecure_http: vec!["lab.example:80".to_owned()],
            auth_realms: [("q.example".to_owned(), vec!["sso.other".to_owned()])].into(),
            ..RegistryConfig::default()
        };
        let table = [
            ("registry-1.docker.io", "https://auth.docker.io/token", true),
            ("docker.io", "https://auth.docker.io/token", true),
            ("registry.gitlab.com", "https://gitlab.com/jwt/auth", true),
            ("q.example", "https://q.example/token", true),
            ("q.example", "http://q.example/token", false),
            ("q.example", "https://sso.other/token", true),
            ("r.example", "https://sso.other/token", false),
            ("q.example", "https://evil.example/token", false),
            ("q.azurecr.io", "https://q.azurecr.io/oauth2/token", true),
            ("q.azurecr.io", "https://evil.azurecr.io/token", false),
            ("a.co.uk", "https://b.co.uk/token", false),
            ("co.uk", "https://uk/token", false),
            ("registry.example.com", "https://auth.example.com/token", false),
            ("registry.example.com", "https://example.com/token", true),
            ("example.com:5000", "https://auth.example.com/token", true),
            ("example.com", "https://a.b.example.com/token", false),
            ("registry-1.docker.io", "https://evil.docker.io/token", false),
            ("auth.docker.io", "https://registry-1.docker.io/token", false),
            ("q.example.com", "https://q.example.com.evil.net/token", false),
            ("127.0.0.1:5000", "http://127.0.0.1:5000/token", true),
            ("127.0.0.1:5000", "http://127.0.0.1:5001/token", false),
            ("10.0.0.1", "https://11.0.0.1/token", false),
        ];
        for (registry, realm, expected) in table {
            let url = Url::parse(realm).expect("url");
            assert_eq!(
                may_have_credentials(&config, registry, &url),
                expected,
                "{registry} {realm}"
            );
        }
    }
}

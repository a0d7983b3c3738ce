//! Registries and those behind them that try to get at credentials, or into this machine.

mod support;

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use node_images::pull::{PullError, PullReport, pull};
use node_images::registry::{AuthFiles, RegistryConfig, RegistryError};
use node_images::source::{SourceError, Sources};
use support::image::{Built, PLAIN, file, noise, tar};
use support::liar::{Answer, Liar};
use support::{Node, chain, options, request, sources, with_auth};

const SIZE: usize = 1 << 20;

fn sample() -> Arc<Built> {
    Arc::new(Built::new(&[(PLAIN, tar(&[("big", &noise(SIZE))]))]))
}

async fn fetch(node: &Node, sources: &Sources, host: &str, image: &Built) -> Result<PullReport, PullError> {
    let wanted = [request(&format!("{host}/a:1"), image.digest())];
    pull(&node.store, &node.lock, "t", sources, &wanted, &options()).await
}

fn registry_error(error: PullError) -> RegistryError {
    match error {
        PullError::Source { source, .. } => match *source {
            SourceError::Registry(error) => error,
            other => panic!("{}", chain(&other)),
        },
        other => panic!("{}", chain(&other)),
    }
}

fn auth_for(directory: &std::path::Path, host: &str) -> AuthFiles {
    let path = directory.join("auth.json");
    let auth = openssl::base64::encode_block(b"node:geheim");
    std::fs::write(&path, format!(r#"{{"auths":{{"{host}":{{"auth":"{auth}"}}}}}}"#)).expect("written");
    AuthFiles::locate(Some(&path), &|_| None)
}

fn challenge(realm: &str) -> Answer {
    let header = format!(r#"Bearer realm="{realm}",service="test""#);
    Answer::status(401).header("WWW-Authenticate", header)
}

/// A registry that wants credentials and sends for its first layer to `storage`.
fn redirecting(image: &Arc<Built>, storage: String) -> Liar {
    let served = Arc::clone(image);
    let suffix = image.blob(0).to_string();
    Liar::start(move |asked| {
        if asked.header("authorization").is_none() {
            return Answer::status(401).header("WWW-Authenticate", "Basic realm=\"x\"");
        }
        if asked.path.ends_with(&suffix) {
            let target = format!("http://{storage}{}?signature=1", asked.path);
            return Answer::status(307).header("Location", target);
        }
        served.answer(asked)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_elsewhere_carries_no_credentials() {
    let image = sample();
    let served = Arc::clone(&image);
    let storage = Liar::start(move |asked| {
        let mut asked = asked.clone();
        let signed = asked.path.strip_suffix("?signature=1").map(str::to_owned);
        asked.path = signed.expect("the address as the registry gave it");
        served.answer(&asked)
    });
    let registry = redirecting(&image, storage.host.clone());
    let directory = tempfile::tempdir().expect("a directory");
    let (sources, _) = with_auth(
        RegistryConfig::default(),
        auth_for(directory.path(), &registry.host),
    );
    let node = Node::new();
    fetch(&node, &sources, &registry.host, &image)
        .await
        .expect("pulled");
    assert_eq!(file(&node.store, &image.digest(), "big"), noise(SIZE));
    assert_eq!(storage.asked().len(), 1, "the layer came from there");
    for asked in storage.asked() {
        assert_eq!(asked.header("authorization"), None, "{asked:?}");
    }
}

/// Where a registry keeps its layers may not speak for it: neither a password nor a token is for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_challenge_of_a_redirects_target_is_no_challenge() {
    let image = sample();
    for scheme in ["Basic", "Bearer"] {
        let host = Arc::new(OnceLock::<String>::new());
        let own = Arc::clone(&host);
        let storage = Liar::start(move |_| match scheme {
            "Basic" => Answer::status(401).header("WWW-Authenticate", "Basic realm=\"x\""),
            // The registry's own address, which may have its credentials.
            _ => challenge(&format!("http://{}/token", own.get().expect("it runs"))),
        });
        let registry = redirecting(&image, storage.host.clone());
        host.set(registry.host.clone()).expect("once");
        let directory = tempfile::tempdir().expect("a directory");
        let (sources, _) = with_auth(
            RegistryConfig::default(),
            auth_for(directory.path(), &registry.host),
        );
        let node = Node::new();
        let error = fetch(&node, &sources, &registry.host, &image)
            .await
            .expect_err("refused");
        let text = chain(&error);
        let expected = format!(
            "http://{}/v2/a/blobs/{} answered 401",
            storage.host,
            image.blob(0)
        );
        assert!(text.contains(&expected), "{text}");
        assert!(node.named().is_empty());
        assert_eq!(storage.asked().len(), 1, "once, and nothing after the answer");
        assert_eq!(registry.count("/token"), 0);
    }
}

/// The registry is behind a proxy, so that it is elsewhere.
#[test]
fn nothing_leads_back_into_this_machine() {
    let inside = Liar::start(|_| Answer::ok(r#"{"token":"x"}"#));
    let host = inside.host.clone();
    let table = [
        (format!("http://{host}/x"), "redirect"),
        ("https://169.254.169.254/latest/meta-data".to_owned(), "redirect"),
        (format!("http://{host}/token"), "realm"),
    ];
    for (target, how) in table {
        let url = target.clone();
        let proxy = Liar::start(move |_| match how {
            "redirect" => Answer::status(307).header("Location", url.clone()),
            _ => challenge(&url),
        });
        let program = std::env::current_exe().expect("this program");
        let output = Command::new(program)
            .args(["--exact", "child_is_not_led_astray", "--ignored", "--nocapture"])
            .env("HTTP_PROXY", format!("http://{}", proxy.host))
            .env_remove("NO_PROXY")
            .env_remove("no_proxy")
            .env("HOW", how)
            .output()
            .expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && text.contains("1 passed"),
            "{target}: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(proxy.asked().len(), 1, "{target}");
    }
    assert!(inside.asked().is_empty(), "{:?}", inside.asked());
}

#[tokio::test]
#[ignore = "started by the test of what leads inward"]
async fn child_is_not_led_astray() {
    let config = RegistryConfig {
        insecure_http: vec!["registry.test".to_owned()],
        ..RegistryConfig::default()
    };
    let (sources, _) = sources(config);
    let error = fetch(&Node::new(), &sources, "registry.test", &sample())
        .await
        .expect_err("refused");
    let text = chain(&error);
    assert!(text.contains("leads back into this machine"), "{text}");
    let how = std::env::var("HOW").expect("the parent sets it");
    let as_it_was = match registry_error(error) {
        RegistryError::Redirect { .. } => how == "redirect",
        RegistryError::Challenge { .. } => how == "realm",
        _ => false,
    };
    assert!(as_it_was, "{how}: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_that_lead_nowhere_good_are_refused() {
    let table = [
        ("http://10.255.0.1/v2/x", "plain HTTP is not allowed there"),
        ("file:///etc/passwd", "not http(s)"),
        ("/v2/a/manifests/again", "too many redirects"),
    ];
    for (target, expected) in table {
        let liar = Liar::start(move |_| Answer::status(307).header("Location", target));
        let (sources, _) = sources(RegistryConfig::default());
        let node = Node::new();
        let error = fetch(&node, &sources, &liar.host, &sample())
            .await
            .expect_err("refused");
        assert!(node.named().is_empty(), "{:?}", node.named());
        assert!(chain(&error).contains(expected), "{}", chain(&error));
        assert!(liar.asked().len() <= 6);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_fetched_used_and_renewed() {
    let image = sample();
    let served = Arc::clone(&image);
    let issued = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&issued);
    let (host, hear) = (Arc::new(OnceLock::<String>::new()), AtomicUsize::new(0));
    let own = Arc::clone(&host);
    let registry = Liar::start(move |asked| {
        let own = own.get().cloned().unwrap_or_default();
        if asked.path.starts_with("/token?") {
            let basic = openssl::base64::encode_block(b"node:geheim");
            assert_eq!(
                asked.header("authorization"),
                Some(format!("Basic {basic}").as_str())
            );
            assert!(
                asked.path.contains("scope=repository%3Aa%3Apull"),
                "{}",
                asked.path
            );
            assert!(asked.path.contains("service=test"), "{}", asked.path);
            let number = count.fetch_add(1, Ordering::SeqCst) + 1;
            return Answer::ok(format!(r#"{{"token":"t{number}"}}"#));
        }
        let current = format!("Bearer t{}", count.load(Ordering::SeqCst));
        // The first token expires after two requests.
        let heard = hear.fetch_add(1, Ordering::SeqCst);
        let expired = count.load(Ordering::SeqCst) == 1 && heard > 2;
        if asked.header("authorization") != Some(current.as_str()) || expired {
            return challenge(&format!("http://{own}/token"));
        }
        served.answer(asked)
    });
    host.set(registry.host.clone()).expect("once");
    let directory = tempfile::tempdir().expect("a directory");
    let (sources, _) = with_auth(
        RegistryConfig::default(),
        auth_for(directory.path(), &registry.host),
    );
    fetch(&Node::new(), &sources, &registry.host, &image)
        .await
        .expect("pulled");
    assert_eq!(
        issued.load(Ordering::SeqCst),
        2,
        "one token, and another when it expired"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_challenge_cannot_send_credentials_to_another_host() {
    let thief = Liar::start(|_| Answer::ok(r#"{"token":"x"}"#));
    let realm = format!("http://{}/token", thief.host);
    let registry = Liar::start(move |_| challenge(&realm));
    let directory = tempfile::tempdir().expect("a directory");
    let auth = auth_for(directory.path(), &registry.host);
    let (sources, _) = with_auth(RegistryConfig::default(), auth.clone());
    let error = fetch(&Node::new(), &sources, &registry.host, &sample())
        .await
        .expect_err("refused");
    assert!(matches!(
        registry_error(error),
        RegistryError::ForeignRealm { .. }
    ));
    assert!(thief.asked().is_empty());
    // Unless the operator says that it is theirs.
    let realms = [(registry.host.clone(), vec![thief.host.clone()])].into();
    let config = RegistryConfig {
        auth_realms: realms,
        ..RegistryConfig::default()
    };
    let (sources, _) = with_auth(config, auth);
    fetch(&Node::new(), &sources, &registry.host, &sample())
        .await
        .expect_err("the token is no good");
    assert!(
        thief
            .asked()
            .iter()
            .all(|asked| asked.header("authorization").is_some())
    );
    assert!(!thief.asked().is_empty());
}

//! Registries that are hostile on purpose: tags that move, bombs, and certificates that nobody trusts. Each ends in
//! bounded time with a clear error, or with the right image.

mod support;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use node_images::pull::{PullError, PullReport, pull};
use node_images::reference::{Reference, Selector};
use node_images::registry::RegistryConfig;
use node_images::source::Sources;
use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{SslAcceptor, SslMethod};
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509Name};
use support::image::{Built, GZIP, ZSTD, file, tar};
use support::liar::{Answer, Asked, Liar};
use support::{Node, chain, options, request, sources};

async fn fetch(node: &Node, sources: &Sources, host: &str, image: &Built) -> Result<PullReport, PullError> {
    let wanted = [request(&format!("{host}/a:1"), image.digest())];
    pull(&node.store, &node.lock, "t", sources, &wanted, &options()).await
}

/// What a tag named when it was resolved is what is fetched, wherever it points later.
#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_moves_between_requests_changes_nothing() {
    let image = |text: &[u8]| Arc::new(Built::new(&[(GZIP, tar(&[("f", text)]))]));
    let (old, new) = (image(b"old"), image(b"new"));
    let (was, is, asked_for) = (Arc::clone(&old), Arc::clone(&new), AtomicUsize::new(0));
    let liar = Liar::start(move |asked| {
        let tagged = asked.path.ends_with("/manifests/1");
        if tagged && asked_for.fetch_add(1, Ordering::SeqCst) > 0 {
            return is.answer(asked);
        }
        match was.answer(asked) {
            missing if missing.status == 404 => is.answer(asked),
            found => found,
        }
    });
    let (sources, _) = sources(RegistryConfig::default());
    let reference: Reference = format!("{}/a:1", liar.host).parse().expect("a reference");
    let source = sources.open(&reference).expect("opens");
    let tag = Selector::Name("1".to_owned());
    let resolved = source.resolve(&tag).await.expect("resolved");
    assert_eq!(resolved, old.digest());
    assert_eq!(source.resolve(&tag).await.expect("moved"), new.digest());
    let node = Node::new();
    fetch(&node, &sources, &liar.host, &old).await.expect("pulled");
    assert_eq!(file(&node.store, &old.digest(), "f"), b"old");
}

/// Small downloads that unpack to more than they may: refused, and nothing is left of them.
#[tokio::test(flavor = "multi_thread")]
async fn bombs_leave_nothing() {
    // Zeros: one or two megabytes as gzip, some kilobytes as zstd.
    const SIZE: usize = 300 << 20;
    let mut header = tar::Header::new_gnu();
    header.set_size(SIZE as u64);
    header.set_mode(0o644);
    header.set_path("zeros").expect("a name");
    header.set_cksum();
    let mut bomb = header.as_bytes().to_vec();
    bomb.resize(bomb.len() + SIZE + 1024, 0);
    // An archive that has ended: what follows is in no file, and has to be read for its digest all the same.
    let tail = vec![0; SIZE];
    let mut options = options();
    options.policy.limits.ratio = 20;
    for (kind, bomb) in [(GZIP, &bomb), (ZSTD, &bomb), (ZSTD, &tail)] {
        let image = Arc::new(Built::new(&[(kind, bomb.clone())]));
        let served = Arc::clone(&image);
        let liar = Liar::start(move |asked| served.answer(asked));
        let (sources, _) = sources(RegistryConfig::default());
        let node = Node::new();
        let wanted = [request(&format!("{}/a:1", liar.host), image.digest())];
        let error = pull(&node.store, &node.lock, "t", &sources, &wanted, &options)
            .await
            .expect_err("refused");
        let text = chain(&error);
        assert!(
            text.contains("over the limit") || text.contains("more than"),
            "{text}"
        );
        assert!(node.named().is_empty());
        assert_eq!(
            node.partials(),
            Vec::<u64>::new(),
            "{kind}: what is refused is not kept"
        );
    }
}

/// A child process with these variables runs one test of this file that is not run otherwise.
fn run_with(test: &str, variables: &[(&str, &str)]) {
    let program = std::env::current_exe().expect("this program");
    let mut command = Command::new(program);
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    let output = command
        .args(["--exact", test, "--ignored", "--nocapture"])
        .envs(variables.iter().copied())
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn variable(name: &str) -> String {
    std::env::var(name).expect("the parent sets it")
}

/// The answer of an honest registry, asked through a proxy.
fn through_proxy(image: &Built, asked: &Asked) -> Answer {
    let mut asked = asked.clone();
    asked.path = asked.path.trim_start_matches("http://registry.test").to_owned();
    image.answer(&asked)
}

fn plain_image() -> Built {
    Built::new(&[(GZIP, tar(&[("f", b"text")]))])
}

#[test]
fn proxies_of_the_environment_are_used_except_where_they_are_not_wanted() {
    let image = plain_image();
    let proxy = Liar::start(move |asked| through_proxy(&image, asked));
    let url = format!("http://{}", proxy.host);
    run_with("child_pulls_through_the_proxy", &[("HTTP_PROXY", &url)]);
    let paths: Vec<String> = proxy.asked().into_iter().map(|asked| asked.path).collect();
    assert!(
        !paths.is_empty()
            && paths
                .iter()
                .all(|path| path.starts_with("http://registry.test/v2/a/")),
        "{paths:?}"
    );
    let before = proxy.asked().len();
    run_with(
        "child_finds_no_registry",
        &[("HTTP_PROXY", &url), ("NO_PROXY", "registry.test")],
    );
    let image = plain_image();
    let loopback = Liar::start(move |asked| image.answer(asked));
    run_with(
        "child_pulls_from_loopback",
        &[("HTTP_PROXY", &url), ("LOOPBACK", &loopback.host)],
    );
    assert_eq!(proxy.asked().len(), before, "neither went through the proxy");
}

async fn child_pull(host: &str, config: RegistryConfig) -> Result<PullReport, PullError> {
    let (sources, _) = sources(config);
    fetch(&Node::new(), &sources, host, &plain_image()).await
}

fn without_tls() -> RegistryConfig {
    RegistryConfig {
        insecure_http: vec!["registry.test".to_owned()],
        ..RegistryConfig::default()
    }
}

#[tokio::test]
#[ignore = "started by the test of proxies"]
async fn child_pulls_through_the_proxy() {
    child_pull("registry.test", without_tls()).await.expect("pulled");
}

#[tokio::test]
#[ignore = "started by the test of proxies"]
async fn child_finds_no_registry() {
    let error = child_pull("registry.test", without_tls())
        .await
        .expect_err("nobody");
    assert!(chain(&error).contains("cannot reach"), "{}", chain(&error));
}

#[tokio::test]
#[ignore = "started by the test of proxies"]
async fn child_pulls_from_loopback() {
    child_pull(&variable("LOOPBACK"), RegistryConfig::default())
        .await
        .expect("pulled");
}

/// A certificate authority that only this test knows.
struct Authority {
    key: PKey<Private>,
    certificate: X509,
}

impl Authority {
    fn new() -> Self {
        let key = PKey::ec_gen("P-256").expect("a key");
        let certificate = certificate("test authority", None, &key, None);
        Authority { key, certificate }
    }

    fn acceptor(&self, host: &str) -> SslAcceptor {
        let key = PKey::ec_gen("P-256").expect("a key");
        let certificate = certificate(host, Some(host), &key, Some(self));
        let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).expect("TLS");
        acceptor.set_private_key(&key).expect("its key");
        acceptor.set_certificate(&certificate).expect("its certificate");
        acceptor.build()
    }

    fn write(&self, path: &Path) -> String {
        std::fs::write(path, self.certificate.to_pem().expect("PEM")).expect("written");
        path.display().to_string()
    }
}

fn certificate(name: &str, host: Option<&str>, key: &PKey<Private>, by: Option<&Authority>) -> X509 {
    let mut subject = X509Name::builder().expect("a name");
    subject
        .append_entry_by_nid(Nid::COMMONNAME, name)
        .expect("a name");
    let subject = subject.build();
    let mut builder = X509::builder().expect("a certificate");
    builder.set_version(2).expect("version 3");
    let serial = BigNum::from_u32(1)
        .and_then(|n| n.to_asn1_integer())
        .expect("a number");
    builder.set_serial_number(&serial).expect("a number");
    builder.set_subject_name(&subject).expect("a subject");
    let issuer = by.map_or(&*subject, |by| by.certificate.subject_name());
    builder.set_issuer_name(issuer).expect("an issuer");
    builder.set_pubkey(key).expect("a key");
    let day = |days| Asn1Time::days_from_now(days).expect("a time");
    builder.set_not_before(&day(0)).expect("a time");
    builder.set_not_after(&day(2)).expect("a time");
    match host {
        None => builder.append_extension(BasicConstraints::new().critical().ca().build().expect("built")),
        Some(host) => {
            let names = SubjectAlternativeName::new()
                .dns(host)
                .build(&builder.x509v3_context(None, None));
            builder.append_extension(names.expect("built"))
        }
    }
    .expect("an extension");
    builder
        .sign(by.map_or(key, |by| &by.key), MessageDigest::sha256())
        .expect("signed");
    builder.build()
}

/// The registry is behind a proxy, so that it has a name; loopback would be spoken to without TLS.
#[test]
fn a_private_authority_counts_for_its_registry_only() {
    let directory = tempfile::tempdir().expect("a directory");
    let (ours, theirs) = (Authority::new(), Authority::new());
    let ours_file = ours.write(&directory.path().join("ours.pem"));
    let theirs_file = theirs.write(&directory.path().join("theirs.pem"));
    let start = |acceptor| {
        let image = plain_image();
        Liar::behind_tls(acceptor, move |asked| image.answer(asked))
    };
    let good = start(ours.acceptor("registry.test"));
    let misnamed = start(ours.acceptor("other.test"));
    let table = [
        (&good, "registry.test", ours_file.as_str(), "child_is_served"),
        (&good, "registry.test:443", &ours_file, "child_is_served"),
        (&good, "other.test", &ours_file, "child_does_not_trust"),
        (&good, "registry.test", &theirs_file, "child_does_not_trust"),
        (&misnamed, "registry.test", &ours_file, "child_does_not_trust"),
    ];
    for (server, host, file, child) in table {
        let url = format!("http://{}", server.host);
        run_with(
            child,
            &[("HTTPS_PROXY", &url), ("CA_HOST", host), ("CA_FILE", file)],
        );
        let connects = server
            .asked()
            .into_iter()
            .filter(|asked| asked.method == "CONNECT");
        assert!(connects.count() > 0, "it went through the proxy");
    }
}

fn with_authority() -> RegistryConfig {
    RegistryConfig {
        ca_files: [(variable("CA_HOST"), variable("CA_FILE").into())].into(),
        ..RegistryConfig::default()
    }
}

#[tokio::test]
#[ignore = "started by the test of certificates"]
async fn child_is_served() {
    // The port that is meant anyway is left out of addresses, so both ways to write it have to work.
    let host = variable("CA_HOST");
    child_pull(&host, with_authority()).await.expect("pulled");
}

#[tokio::test]
#[ignore = "started by the test of certificates"]
async fn child_does_not_trust() {
    let error = child_pull("registry.test", with_authority())
        .await
        .expect_err("refused");
    assert!(chain(&error).contains("certificate"), "{}", chain(&error));
}

#[test]
fn a_file_that_holds_no_certificates_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("empty.pem");
    for content in [None, Some(""), Some("no certificate")] {
        if let Some(content) = content {
            std::fs::write(&path, content).expect("written");
        }
        let config = RegistryConfig {
            ca_files: [("registry.test".to_owned(), path.clone())].into(),
            ..RegistryConfig::default()
        };
        let error = Sources::new(config).map(drop).expect_err("refused");
        assert!(chain(&error).contains("empty.pem"), "{}", chain(&error));
    }
}

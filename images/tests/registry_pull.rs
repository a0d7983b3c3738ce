//! Push to and pull from the real distribution registry, OCI layouts and archives.

mod support;

use std::process::Command;
use std::sync::Arc;

use node_images::artifact::{NewArtifact, NewLayer, RELEASE_TYPE, fetch_artifact, push_artifact};
use node_images::manifest::Descriptor;
use node_images::progress::Event;
use node_images::pull::{plan, pull};
use node_images::reference::{Reference, Selector};
use node_images::registry::{AuthFiles, RegistryConfig};
use node_images::source::{Layout, Source, Sources, copy_image, write_archive};
use node_images::verify::{Authority, KeyKind, PrivateKey, Trust, VerifyError, sign, verify, verify_digest};
use support::image::{Built, GZIP, PLAIN, ZSTD, file, index, layout, noise, tar};
use support::registry::{PASSWORD, Registry, USER};
use support::{Node, chain, listening, options, request, sources};

fn sample() -> Built {
    Built::new(&[
        (GZIP, tar(&[("etc/base", b"base"), ("etc/os", b"debian")])),
        (ZSTD, tar(&[("etc/app", b"app"), ("etc/os", b"changed")])),
        (PLAIN, tar(&[("big", &noise(3 << 20))])),
    ])
}

/// Copies everything of a layout's entry into the registry.
async fn push(sources: &Sources, from: &Arc<Layout>, digest: &node_images::digest::Digest, to: &str) {
    let reference: Reference = to.parse().expect("a reference");
    let Selector::Name(tag) = reference.selector() else {
        panic!("a tag")
    };
    let sink = sources.sink(&reference).expect("a sink");
    let from: Arc<dyn Source> = from.clone();
    copy_image(&from, digest, sink.as_ref(), Some(&tag))
        .await
        .expect("pushed");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pushed_can_be_pulled_and_skopeo_reads_it() {
    let registry = Registry::start();
    let (sources, _) = sources(RegistryConfig::default());
    let directory = tempfile::tempdir().expect("a directory");
    let from = layout(directory.path());
    let image = sample();
    let digest = image.store(&from, Some("1")).await;
    let name = format!("{}/team/app:1", registry.host);
    push(&sources, &from, &digest, &name).await;

    let source = sources
        .open(&name.parse().expect("a reference"))
        .expect("a source");
    let resolved = source
        .resolve(&Selector::Name("1".to_owned()))
        .await
        .expect("resolved");
    assert_eq!(resolved, digest);

    let node = Node::new();
    let (options, events) = listening();
    let wanted = [request(&name, digest)];
    let planned = plan(&node.store, &sources, &wanted, &options.platform)
        .await
        .expect("a plan");
    assert_eq!(planned.layers.len(), 3);
    let report = pull(&node.store, &node.lock, "t1", &sources, &wanted, &options)
        .await
        .expect("pulled");
    assert_eq!(report.images, [digest]);
    assert_eq!(report.bytes_fetched, planned.bytes_to_fetch);
    assert_eq!(file(&node.store, &digest, "etc/os"), b"changed");
    assert_eq!(file(&node.store, &digest, "etc/base"), b"base");
    assert_eq!(file(&node.store, &digest, "big").len(), 3 << 20);
    assert!(node.partials().is_empty(), "nothing is left to resume");
    let events = events.lock().expect("unpoisoned").clone();
    assert!(
        matches!(
            events.first(),
            Some(Event::Planned {
                images: 1,
                layers: 3,
                ..
            })
        ),
        "{events:?}"
    );
    assert_eq!(events.last(), Some(&Event::Committing));

    let again = pull(&node.store, &node.lock, "t2", &sources, &wanted, &options)
        .await
        .expect("again");
    assert_eq!(
        (again.bytes_fetched, again.commit),
        (0, None),
        "nothing to do the second time"
    );

    let inspected = Command::new("skopeo")
        .args(["inspect", "--tls-verify=false", "--format", "{{.Digest}}"])
        .arg(format!("docker://{name}"))
        .output()
        .expect("skopeo has to be installed (Debian package skopeo)");
    assert!(
        inspected.status.success(),
        "{}",
        String::from_utf8_lossy(&inspected.stderr)
    );
    assert_eq!(
        String::from_utf8_lossy(&inspected.stdout).trim(),
        digest.to_string()
    );
    let copied = Command::new("skopeo")
        .args(["copy", "--quiet", "--src-tls-verify=false", "--insecure-policy"])
        .arg(format!("docker://{name}"))
        .arg(format!("dir:{}", directory.path().join("copied").display()))
        .output()
        .expect("skopeo");
    assert!(
        copied.status.success(),
        "{}",
        String::from_utf8_lossy(&copied.stderr)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn images_share_layers_and_an_index_leads_to_this_platform() {
    let registry = Registry::start();
    let (sources, _) = sources(RegistryConfig::default());
    let directory = tempfile::tempdir().expect("a directory");
    let from = layout(directory.path());
    let base = tar(&[("base", &noise(100_000))]);
    let one = Built::new(&[(GZIP, base.clone()), (GZIP, tar(&[("one", b"1")]))]);
    let two = Built::new(&[(GZIP, base.clone()), (GZIP, tar(&[("two", b"2")]))]);
    let other = Built::on("s390x", &[(GZIP, tar(&[("other", b"x")]))]);
    let host = node_images::manifest::Platform::host().architecture;
    let listed = index(&from, &[("s390x", &other), (&host, &two)], "two").await;
    let single = one.store(&from, Some("one")).await;
    let names = [
        format!("{}/one:1", registry.host),
        format!("{}/two:1", registry.host),
    ];
    push(&sources, &from, &single, &names[0]).await;
    push(&sources, &from, &listed, &names[1]).await;

    let node = Node::new();
    let wanted = [request(&names[0], single), request(&names[1], listed)];
    let report = pull(&node.store, &node.lock, "t", &sources, &wanted, &options())
        .await
        .expect("pulled");
    assert_eq!(report.images, [one.digest(), two.digest()]);
    assert_eq!(report.layers, 3, "the shared one is fetched once");
    assert_eq!(file(&node.store, &two.digest(), "two"), b"2");

    let foreign = Built::on("s390x", &[(GZIP, tar(&[("x", b"x")]))]);
    let listed = index(&from, &[("s390x", &foreign)], "foreign").await;
    let error = pull(
        &node.store,
        &node.lock,
        "t",
        &sources,
        &[request(&format!("oci:{}", directory.path().display()), listed)],
        &options(),
    )
    .await
    .expect_err("no image for this machine");
    assert!(
        chain(&error).contains("only for linux/s390x"),
        "{}",
        chain(&error)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn layouts_and_archives_give_the_same_image() {
    let directory = tempfile::tempdir().expect("a directory");
    let from = layout(&directory.path().join("layout"));
    let image = sample();
    let digest = image.store(&from, Some("app")).await;
    let archive = directory.path().join("image.tar");
    write_archive(&directory.path().join("layout"), &archive).expect("packed");
    let first = std::fs::read(&archive).expect("read");
    write_archive(&directory.path().join("layout"), &archive).expect("packed");
    assert!(
        first == std::fs::read(&archive).expect("read"),
        "packing is reproducible"
    );
    for reference in [
        format!("oci:{}/layout:app", directory.path().display()),
        format!("oci-archive:{}:app", archive.display()),
        archive.display().to_string(),
    ] {
        let (sources, _) = sources(RegistryConfig::default());
        let parsed: Reference = reference.parse().expect("a reference");
        let source = sources.open(&parsed).expect("opens");
        assert_eq!(
            source.resolve(&parsed.selector()).await.expect("resolved"),
            digest,
            "{reference}"
        );
        let node = Node::new();
        let wanted = [request(&reference, digest)];
        pull(&node.store, &node.lock, "t", &sources, &wanted, &options())
            .await
            .expect("pulled");
        assert_eq!(file(&node.store, &digest, "etc/os"), b"changed", "{reference}");
    }
    let skopeo = Command::new("skopeo")
        .args(["inspect", "--format", "{{.Digest}}"])
        .arg(format!("oci-archive:{}:app", archive.display()))
        .output()
        .expect("skopeo");
    assert_eq!(String::from_utf8_lossy(&skopeo.stdout).trim(), digest.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_in_a_layout_is_refused_and_changes_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let from = layout(directory.path());
    let image = sample();
    let digest = image.store(&from, Some("app")).await;
    let (sources, _) = sources(RegistryConfig::default());
    for layer in 0..3 {
        let path = directory
            .path()
            .join("blobs/sha256")
            .join(image.blob(layer).hex());
        let good = std::fs::read(&path).expect("read");
        for at in [0, good.len() / 2, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&path, &bad).expect("written");
            let node = Node::new();
            let wanted = [request(&format!("oci:{}", directory.path().display()), digest)];
            let error = pull(&node.store, &node.lock, "t", &sources, &wanted, &options())
                .await
                .expect_err("refused");
            let text = chain(&error);
            assert!(
                text.contains(&image.blob(layer).to_string()) && text.contains("expected"),
                "{text}"
            );
            assert!(node.named().is_empty(), "{:?}", node.named());
            assert!(node.partials().len() <= 2, "the bad bytes are not kept");
        }
        std::fs::write(&path, &good).expect("restored");
    }
    let node = Node::new();
    let wanted = [request(&format!("oci:{}", directory.path().display()), digest)];
    pull(&node.store, &node.lock, "t", &sources, &wanted, &options())
        .await
        .expect("repaired");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_asked_for_and_taken_from_the_auth_file() {
    let registry = Registry::with_password();
    let directory = tempfile::tempdir().expect("a directory");
    let from = layout(&directory.path().join("layout"));
    let image = sample();
    let digest = image.store(&from, Some("1")).await;
    let name = format!("{}/team/app:1", registry.host);
    let parsed: Reference = name.parse().expect("a reference");

    let (anonymous, pauses) = sources(RegistryConfig::default());
    let error = anonymous
        .open(&parsed)
        .expect("opens")
        .resolve(&Selector::Name("1".to_owned()))
        .await
        .expect_err("refused");
    assert!(
        error
            .to_string()
            .contains("refuses access: it wants a user and a password"),
        "{error}"
    );
    assert!(
        pauses.0.lock().expect("unpoisoned").is_empty(),
        "asking again would not help"
    );

    let auth_path = directory.path().join("auth.json");
    let write_auth = |password: &str| {
        let auth = openssl::base64::encode_block(format!("{USER}:{password}").as_bytes());
        let text = format!(r#"{{"auths":{{"{}/team":{{"auth":"{auth}"}}}}}}"#, registry.host);
        std::fs::write(&auth_path, text).expect("written");
        let auth = AuthFiles::locate(Some(&auth_path), &|_| None);
        support::with_auth(RegistryConfig::default(), auth).0
    };
    push(&write_auth(PASSWORD), &from, &digest, &name).await;
    let node = Node::new();
    let wanted = [request(&name, digest)];
    pull(
        &node.store,
        &node.lock,
        "t",
        &write_auth(PASSWORD),
        &wanted,
        &options(),
    )
    .await
    .expect("pulled");
    let wrong = write_auth("wrong-secret");
    let error = wrong
        .open(&parsed)
        .expect("opens")
        .manifest(&digest)
        .await
        .expect_err("refused");
    assert!(
        error.to_string().contains("the credentials are not accepted"),
        "{error}"
    );
    assert!(!error.to_string().contains("wrong-secret"), "{error}");
}

fn release(version: &str) -> NewArtifact {
    NewArtifact {
        artifact_type: RELEASE_TYPE.to_owned(),
        layers: vec![NewLayer::new(
            "application/json",
            format!("{{\"version\":\"{version}\"}}"),
        )],
        ..NewArtifact::default()
    }
}

fn trust(directory: &std::path::Path, key: &PrivateKey, repository: &str) -> Trust {
    std::fs::create_dir_all(directory).expect("a directory");
    let pem = key.public().and_then(|key| key.to_pem()).expect("pem");
    std::fs::write(directory.join("release.pub"), pem).expect("written");
    let policy = format!("[[repository]]\nname = \"{repository}\"\nkeys = [\"release.pub\"]\n");
    std::fs::write(directory.join("policy.toml"), policy).expect("written");
    Trust::load(directory).expect("a policy")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_signed_fetched_and_verified_online_and_in_a_bundle() {
    let registry = Registry::start();
    let (sources, _) = sources(RegistryConfig::default());
    let directory = tempfile::tempdir().expect("a directory");
    let repository = format!("{}/compute/release", registry.host);
    let reference: Reference = format!("{repository}:1").parse().expect("a reference");
    let (sink, source) = (
        sources.sink(&reference).expect("a sink"),
        sources.open(&reference).expect("a source"),
    );
    let pushed = push_artifact(sink.as_ref(), &release("1"), Some("1"))
        .await
        .expect("pushed");
    let artifact = fetch_artifact(source.as_ref(), &pushed.digest)
        .await
        .expect("fetched");
    let key = PrivateKey::generate(KeyKind::EcdsaP256).expect("a key");
    let trust_dir = directory.path().join("trust");
    let trusted = trust(&trust_dir, &key, &format!("{}/compute", registry.host));

    let unsigned = verify(&trusted, source.as_ref(), artifact.clone())
        .await
        .expect_err("unsigned");
    assert!(matches!(unsigned, VerifyError::Unsigned { .. }), "{unsigned}");

    let stranger = PrivateKey::generate(KeyKind::Ed25519).expect("a key");
    let time: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
    let put = |key| {
        sign(
            source.as_ref(),
            sink.as_ref(),
            &repository,
            &pushed.digest,
            key,
            time,
        )
    };
    put(&stranger).await.expect("signed");
    let untrusted = verify(&trusted, source.as_ref(), artifact.clone())
        .await
        .expect_err("a stranger");
    assert!(matches!(untrusted, VerifyError::Untrusted { .. }), "{untrusted}");

    put(&key).await.expect("signed");
    let verified = verify(&trusted, source.as_ref(), artifact.clone())
        .await
        .expect("verified");
    let expected = Authority::Signed {
        repository: repository.clone(),
        keys: vec!["release.pub".to_owned()],
        time: Some(time),
    };
    assert_eq!(verified.authority(), &expected);
    let nobody = verify(&Trust::default(), source.as_ref(), artifact.clone())
        .await
        .expect_err("no policy");
    assert!(matches!(nobody, VerifyError::NotCovered { .. }), "{nobody}");

    // A bundle: release, signature and image in one file, for a node without the registry.
    let bundle = layout(&directory.path().join("bundle"));
    let image = sample();
    let image_digest = image.store(&bundle, None).await;
    copy_image(
        &source,
        &pushed.digest,
        bundle.as_ref(),
        Some(&format!("{repository}:1")),
    )
    .await
    .expect("copied");
    let tag = node_images::verify::signature_tag(&pushed.digest);
    let signature = source
        .resolve(&Selector::Name(tag.clone()))
        .await
        .expect("signed");
    let name = format!("{repository}:{tag}");
    copy_image(&source, &signature, bundle.as_ref(), Some(&name))
        .await
        .expect("copied");
    let file_path = directory.path().join("bundle.tar");
    write_archive(&directory.path().join("bundle"), &file_path).expect("packed");
    drop(registry);

    let parsed: Reference = file_path.display().to_string().parse().expect("a reference");
    let opened = sources.open(&parsed).expect("opens");
    let digest = opened
        .resolve(&parsed.selector())
        .await
        .expect("the only release");
    assert_eq!(digest, pushed.digest);
    let artifact = fetch_artifact(opened.as_ref(), &digest).await.expect("fetched");
    let verified = verify(&trusted, opened.as_ref(), artifact)
        .await
        .expect("verified offline");
    assert_eq!(verified.authority(), &expected);
    let other = trust(&trust_dir, &stranger, "elsewhere.example");
    verify_digest(&other, opened.as_ref(), digest)
        .await
        .expect_err("another repository's key");

    // The image by its registry name, out of the bundle.
    let node = Node::new();
    let offline = Sources::over(sources.client().clone()).all_from(opened);
    let wanted = [request("registry.invalid/compute/app:1", image_digest)];
    pull(&node.store, &node.lock, "t", &offline, &wanted, &options())
        .await
        .expect("pulled");
    assert_eq!(file(&node.store, &image_digest, "etc/os"), b"changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_sbom_is_listed_as_referrer_in_the_fallback_tag() {
    let registry = Registry::start();
    let (sources, _) = sources(RegistryConfig::default());
    let reference: Reference = format!("{}/app:1", registry.host).parse().expect("a reference");
    let (sink, source) = (
        sources.sink(&reference).expect("a sink"),
        sources.open(&reference).expect("a source"),
    );
    let subject: Descriptor = push_artifact(sink.as_ref(), &release("1"), Some("1"))
        .await
        .expect("pushed");
    let attach = |kind: &str, text: &'static str| NewArtifact {
        artifact_type: kind.to_owned(),
        layers: vec![NewLayer::new(kind, text)],
        subject: Some(subject.clone()),
        ..NewArtifact::default()
    };
    for (kind, text) in [
        ("application/spdx+json", "{}"),
        ("application/x", "1"),
        ("application/x", "2"),
    ] {
        push_artifact(sink.as_ref(), &attach(kind, text), None)
            .await
            .expect("attached");
    }
    push_artifact(sink.as_ref(), &attach("application/x", "2"), None)
        .await
        .expect("again");
    let count = async |kind| {
        source
            .referrers(&subject.digest, kind)
            .await
            .expect("listed")
            .len()
    };
    assert_eq!(count(None).await, 3);
    assert_eq!(count(Some("application/x")).await, 2);
    let found = source
        .referrers(&subject.digest, Some("application/spdx+json"))
        .await
        .expect("listed");
    let sbom = fetch_artifact(source.as_ref(), &found[0].digest)
        .await
        .expect("fetched");
    assert_eq!(
        sbom.layer("application/spdx+json").map(AsRef::as_ref),
        Some(&b"{}"[..])
    );
    let none = source
        .referrers(&node_images::digest::Digest::of(b"none"), None)
        .await
        .expect("none");
    assert!(none.is_empty());
}

/// What `cosign sign --key` leaves in a registry, made here with openssl(1) alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_signature_made_with_openssl_in_cosigns_form_verifies() {
    let registry = Registry::start();
    let (sources, _) = sources(RegistryConfig::default());
    let directory = tempfile::tempdir().expect("a directory");
    let repository = format!("{}/signed", registry.host);
    let reference: Reference = format!("{repository}:1").parse().expect("a reference");
    let sink = sources.sink(&reference).expect("a sink");
    let source = sources.open(&reference).expect("a source");
    for (kind, make, sign) in [
        (
            "ec",
            "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out ec.key",
            "openssl dgst -sha256 -sign ec.key -out sig payload",
        ),
        (
            "ed",
            "openssl genpkey -algorithm ED25519 -out ed.key",
            "openssl pkeyutl -sign -rawin -inkey ed.key -in payload -out sig",
        ),
    ] {
        let subject = push_artifact(sink.as_ref(), &release(kind), Some(kind))
            .await
            .expect("pushed");
        let payload = format!(
            r#"{{"critical":{{"identity":{{"docker-reference":"{repository}"}},"image":{{"docker-manifest-digest":"{}"}},"type":"cosign container image signature"}},"optional":null}}"#,
            subject.digest
        );
        std::fs::write(directory.path().join("payload"), &payload).expect("written");
        let script = format!(
            "set -e; {make} 2>/dev/null; openssl pkey -in {kind}.key -pubout -out {kind}.pub; {sign}"
        );
        let status = Command::new("sh")
            .args(["-c", &script])
            .current_dir(directory.path())
            .status();
        assert!(status.expect("sh").success(), "{script}");
        let signature = std::fs::read(directory.path().join("sig")).expect("a signature");
        let mut layer = NewLayer::new(node_images::verify::SIGNATURE_TYPE, payload);
        layer.annotations.insert(
            "dev.cosignproject.cosign/signature".to_owned(),
            openssl::base64::encode_block(&signature),
        );
        let manifest = NewArtifact {
            config: Some((node_images::manifest::CONFIG.to_owned(), "{}".into())),
            layers: vec![layer],
            ..NewArtifact::default()
        };
        let tag = node_images::verify::signature_tag(&subject.digest);
        push_artifact(sink.as_ref(), &manifest, Some(&tag))
            .await
            .expect("pushed");
        let policy = format!("[[repository]]\nname = \"{repository}\"\nkeys = [\"{kind}.pub\"]\n");
        std::fs::write(directory.path().join("policy.toml"), policy).expect("written");
        let trust = Trust::load(directory.path()).expect("a policy");
        verify_digest(&trust, source.as_ref(), subject.digest)
            .await
            .expect(kind);
    }
    // And the other way: openssl verifies what we sign.
    let key =
        PrivateKey::from_pem(&std::fs::read(directory.path().join("ec.key")).expect("key")).expect("key");
    std::fs::write(
        directory.path().join("sig"),
        key.sign(b"payload").expect("signed"),
    )
    .expect("written");
    std::fs::write(directory.path().join("payload"), b"payload").expect("written");
    let checked = Command::new("openssl")
        .args([
            "dgst",
            "-sha256",
            "-verify",
            "ec.pub",
            "-signature",
            "sig",
            "payload",
        ])
        .current_dir(directory.path())
        .output()
        .expect("openssl");
    assert!(checked.status.success());
}

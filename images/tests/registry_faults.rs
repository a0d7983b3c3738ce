//! Registries that lie, break off or answer with errors: bounded time and memory, a clear error, nothing changed.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use node_images::progress::Event;
use node_images::pull::{PullError, PullReport, pull};
use node_images::reference::{Reference, Selector};
use node_images::registry::{RegistryConfig, RegistryError};
use node_images::source::{SourceError, Sources};
use support::image::{Built, GZIP, PLAIN, ZSTD, file, layout, noise, tar};
use support::liar::{Answer, Liar};
use support::registry::Registry;
use support::{NoPauses, Node, chain, listening, options, request, sources};

const SIZE: usize = 1 << 20;

fn sample() -> Arc<Built> {
    Arc::new(Built::new(&[(PLAIN, tar(&[("big", &noise(SIZE))]))]))
}

/// Answers so to whoever asks for the image's first layer, and honestly otherwise.
fn answering(image: &Arc<Built>, answer: Answer) -> Liar {
    let (served, suffix) = (Arc::clone(image), image.blob(0).to_string());
    Liar::start(move |asked| {
        if asked.path.ends_with(&suffix) {
            answer.clone()
        } else {
            served.answer(asked)
        }
    })
}

async fn fetch(node: &Node, sources: &Sources, host: &str, image: &Built) -> Result<PullReport, PullError> {
    let wanted = [request(&format!("{host}/a:1"), image.digest())];
    pull(&node.store, &node.lock, "t", sources, &wanted, &options()).await
}

/// Why a node does not take the image from there; nothing of it has a name then.
async fn refusal(host: &str, image: &Built) -> PullError {
    let (sources, _) = sources(RegistryConfig::default());
    let node = Node::new();
    let error = fetch(&node, &sources, host, image).await.expect_err("refused");
    assert!(node.named().is_empty(), "{:?}", node.named());
    error
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

fn paused(pauses: &NoPauses) -> Vec<Duration> {
    pauses.0.lock().expect("unpoisoned").clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_that_breaks_off_goes_on_where_it_stopped() {
    let image = sample();
    let served = Arc::clone(&image);
    let blob = image.blob(0).to_string();
    let suffix = blob.clone();
    let liar = Liar::start(move |asked| {
        let answer = served.answer(asked);
        if asked.path.ends_with(&suffix) {
            answer.cut(SIZE / 8)
        } else {
            answer
        }
    });
    let (sources, pauses) = sources(RegistryConfig::default());
    let node = Node::new();
    let report = fetch(&node, &sources, &liar.host, &image).await.expect("pulled");
    assert_eq!(file(&node.store, &image.digest(), "big"), noise(SIZE));
    assert_eq!(
        liar.count(&blob),
        9,
        "eight pieces and the rest: each byte asked for once"
    );
    assert_eq!(report.bytes_fetched, image.layers[0].1.len() as u64);
    let expected = [Duration::from_millis(250); 8];
    assert_eq!(paused(&pauses), expected, "progress starts the schedule anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ignores_ranges_is_read_again_from_the_start() {
    let image = sample();
    let (served, tries) = (Arc::clone(&image), AtomicUsize::new(0));
    let suffix = image.blob(0).to_string();
    let liar = Liar::start(move |asked| {
        if !asked.path.ends_with(&suffix) {
            return served.answer(asked);
        }
        let whole = Answer::ok(served.layers[0].1.clone());
        if tries.fetch_add(1, Ordering::SeqCst) == 0 {
            whole.cut(SIZE / 2)
        } else {
            whole
        }
    });
    let (sources, _) = sources(RegistryConfig::default());
    let node = Node::new();
    fetch(&node, &sources, &liar.host, &image).await.expect("pulled");
    assert_eq!(file(&node.store, &image.digest(), "big"), noise(SIZE));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_layer_is_an_error_and_the_next_pull_takes_it_up() {
    let image = sample();
    let served = Arc::clone(&image);
    let suffix = image.blob(0).to_string();
    let half = SIZE / 2;
    let liar = Liar::start(move |asked| {
        if !asked.path.ends_with(&suffix) {
            return served.answer(asked);
        }
        // The first half is all there is.
        Answer::ok(served.layers[0].1[asked.offset().min(half)..half].to_vec())
    });
    let (sources, pauses) = sources(RegistryConfig::default());
    let node = Node::new();
    let error = fetch(&node, &sources, &liar.host, &image)
        .await
        .expect_err("truncated");
    let text = chain(&error);
    assert!(text.contains(&format!("ends after {half} of")), "{text}");
    assert!(matches!(registry_error(error), RegistryError::Truncated { .. }));
    assert_eq!(paused(&pauses).len(), 3, "the retries without progress");
    assert!(node.named().is_empty(), "{:?}", node.named());
    assert_eq!(node.partials(), [half as u64]);

    let served = Arc::clone(&image);
    let honest = Liar::start(move |asked| served.answer(asked));
    let (options, events) = listening();
    let wanted = [request(&format!("{}/a:1", honest.host), image.digest())];
    let report = pull(&node.store, &node.lock, "t", &sources, &wanted, &options)
        .await
        .expect("resumed");
    assert_eq!(report.bytes_resumed, half as u64);
    let range = format!("bytes={half}-");
    assert!(
        honest
            .asked()
            .iter()
            .any(|asked| asked.header("range") == Some(&range))
    );
    assert_eq!(file(&node.store, &image.digest(), "big"), noise(SIZE));
    assert!(node.partials().is_empty());
    let events = events.lock().expect("unpoisoned");
    let resumed =
        |event: &Event| matches!(event, Event::LayerStarted { resumed, .. } if *resumed == half as u64);
    assert!(events.iter().any(resumed), "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_partial_download_is_fetched_again() {
    let image = sample();
    let served = Arc::clone(&image);
    let liar = Liar::start(move |asked| served.answer(asked));
    let (sources, _) = sources(RegistryConfig::default());
    for junk in [
        vec![0u8; SIZE / 3],
        vec![0; image.layers[0].1.len()],
        vec![0; 2 * SIZE],
    ] {
        let node = Node::new();
        let blobs = node.directory.path().join("store/tmp/blobs");
        std::fs::create_dir_all(&blobs).expect("a directory");
        std::fs::write(blobs.join(format!("{}.part", image.blob(0).hex())), junk).expect("written");
        fetch(&node, &sources, &liar.host, &image).await.expect("pulled");
        assert_eq!(file(&node.store, &image.digest(), "big"), noise(SIZE));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_are_named_by_digest_and_change_nothing() {
    for (kind, part) in [(GZIP, 0), (ZSTD, 0), (PLAIN, 0), (GZIP, 1), (GZIP, 2)] {
        let image = Arc::new(Built::new(&[(kind, tar(&[("f", &noise(50_000))]))]));
        let served = Arc::clone(&image);
        let target = match part {
            0 => image.blob(0),
            1 => image.digest(),
            _ => node_images::digest::Digest::of(&image.config),
        };
        let liar = Liar::start(move |asked| {
            let mut answer = served.answer(asked);
            if asked.path.ends_with(&target.to_string()) {
                let middle = answer.body.len() / 2;
                answer.body[middle] ^= 1;
            }
            answer
        });
        let (sources, pauses) = sources(RegistryConfig::default());
        let node = Node::new();
        let error = fetch(&node, &sources, &liar.host, &image)
            .await
            .expect_err("refused");
        let text = chain(&error);
        assert!(
            text.contains("has digest sha256:") && text.contains(&target.to_string()),
            "{text}"
        );
        assert!(node.named().is_empty() && node.partials().is_empty());
        assert!(paused(&pauses).is_empty(), "a lie is not asked for again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_that_lie_are_refused() {
    let image = sample();
    let size = image.layers[0].1.len();
    let answers: Vec<(Answer, &str)> = vec![
        (Answer::ok(vec![0; size + 1]), "longer than its"),
        (
            Answer {
                endless: true,
                ..Answer::ok("")
            },
            "longer than its",
        ),
        (
            Answer {
                endless: true,
                body: noise(size - 10),
                ..Answer::ok("")
            },
            "longer than its",
        ),
        // What is too much is read apart from what is right: pieces of a body are chunks or parts of them.
        (chunked(&image, b"1\r\n \r\n0\r\n\r\n"), "longer than its"),
    ];
    for (answer, expected) in answers {
        let liar = answering(&image, answer);
        let error = refusal(&liar.host, &image).await;
        let text = chain(&error);
        assert!(text.contains(expected), "{text}");
    }
}

/// The layer as one chunk of a body without a length (RFC 9112, section 7.1), and then `end`.
fn chunked(image: &Built, end: &[u8]) -> Answer {
    let layer = &image.layers[0].1;
    let head = format!("{:x}\r\n", layer.len());
    Answer {
        unmeasured: true,
        ..Answer::ok([head.as_bytes(), layer, b"\r\n", end].concat())
    }
    .header("Transfer-Encoding", "chunked")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_without_a_length_is_pulled_however_its_body_ends() {
    let image = sample();
    for end in ["0\r\n\r\n", ""] {
        let liar = answering(&image, chunked(&image, end.as_bytes()));
        let (sources, _) = sources(RegistryConfig::default());
        let node = Node::new();
        fetch(&node, &sources, &liar.host, &image).await.expect("pulled");
        assert_eq!(file(&node.store, &image.digest(), "big"), noise(SIZE));
        assert_eq!(liar.count(&image.blob(0).to_string()), 1, "asked once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_manifest_is_bounded() {
    let liar = Liar::start(|_| Answer {
        endless: true,
        ..Answer::ok("{")
    });
    let (sources, _) = sources(RegistryConfig::default());
    let reference: Reference = format!("{}/a:1", liar.host).parse().expect("a reference");
    let source = sources.open(&reference).expect("opens");
    let error = source
        .resolve(&Selector::Name("1".to_owned()))
        .await
        .expect_err("refused");
    assert!(
        matches!(error, SourceError::Registry(RegistryError::TooLarge { .. })),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_that_may_pass_are_asked_again_as_the_registry_wishes() {
    let image = sample();
    let (served, tries) = (Arc::clone(&image), AtomicUsize::new(0));
    let liar = Liar::start(move |asked| match tries.fetch_add(1, Ordering::SeqCst) {
        0 => Answer::status(503),
        1 => Answer::status(429).header("Retry-After", "7"),
        2 => Answer::status(500),
        _ => served.answer(asked),
    });
    let (sources, pauses) = sources(RegistryConfig::default());
    let node = Node::new();
    fetch(&node, &sources, &liar.host, &image).await.expect("pulled");
    let ms = Duration::from_millis;
    assert_eq!(paused(&pauses), [ms(250), ms(7000), ms(1000)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_errors_ends() {
    let table: [(Answer, usize, &str); 5] = [
        (Answer::status(429), 4, "answered 429"),
        (Answer::status(500), 4, "answered 500"),
        (
            Answer::status(503).header("Retry-After", "86400"),
            1,
            "asks to come back in 86400 s",
        ),
        (Answer::ok(r#"{"errors":[]}"#), 1, "has digest sha256:debf84af"),
        (
            Answer {
                status: 403,
                ..Answer::ok(r#"{"errors":[{"code":"DENIED","message":"no"}]}"#)
            },
            1,
            "answered 403: DENIED no",
        ),
    ];
    for (answer, count, expected) in table {
        let liar = Liar::start(move |_| answer.clone());
        let (sources, _) = sources(RegistryConfig::default());
        let node = Node::new();
        let image = sample();
        let wanted = [request(&format!("{}/a:1", liar.host), image.digest())];
        let error = pull(&node.store, &node.lock, "t", &sources, &wanted, &options())
            .await
            .expect_err("refused");
        let text = chain(&error);
        assert!(text.contains(expected), "{text}");
        assert_eq!(liar.asked().len(), count, "{expected}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_and_nothing_there_are_told_apart() {
    let image = sample();
    let node = Node::new();
    let (sources, _) = sources(RegistryConfig::default());
    let gone = Liar::start(|_| Answer::status(404)).host.clone();
    let error = fetch(&node, &sources, &gone, &image).await.expect_err("nobody");
    assert!(
        chain(&error).contains(&format!("cannot reach http://{gone}/v2/a/manifests/")),
        "{}",
        chain(&error)
    );
    let empty = Liar::start(|_| Answer::status(404));
    let error = fetch(&node, &sources, &empty.host, &image)
        .await
        .expect_err("nothing");
    let expected = format!("{}/a has no manifest {}", empty.host, image.digest());
    assert!(chain(&error).contains(&expected), "{}", chain(&error));
    assert_eq!(empty.asked().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_dies_halfway_leaves_the_store_as_it_was() {
    let mut registry = Registry::start();
    let (sources, _) = sources(RegistryConfig::default());
    let directory = tempfile::tempdir().expect("a directory");
    let from = layout(directory.path());
    // One layer: of several, any may be the one that finds the registry gone first.
    let image = Built::new(&[(PLAIN, tar(&[("big", &noise(64 << 20))]))]);
    let digest = image.store(&from, Some("1")).await;
    let reference: Reference = format!("{}/a:1", registry.host).parse().expect("a reference");
    let sink = sources.sink(&reference).expect("a sink");
    let from: Arc<dyn node_images::source::Source> = from;
    node_images::source::copy_image(&from, &digest, sink.as_ref(), Some("1"))
        .await
        .expect("pushed");
    let node = Node::new();
    let host = registry.host.clone();
    let (started, mut wait) = tokio::sync::mpsc::unbounded_channel();
    let mut options = options();
    let big = image.blob(0);
    options.progress = Arc::new(move |event| {
        if matches!(event, Event::LayerProgress { blob, .. } if blob == big) {
            // The receiver is gone after the first.
            let _ = started.send(());
        }
    });
    let wanted = [request(&format!("{host}/a:1"), digest)];
    let pulling = pull(&node.store, &node.lock, "t", &sources, &wanted, &options);
    let killing = async {
        wait.recv().await.expect("it starts");
        registry.kill();
    };
    let (result, ()) = tokio::join!(pulling, killing);
    let text = chain(&result.expect_err("the registry is gone"));
    assert!(
        text.contains(&format!("blob {big}")) && text.contains("ends after"),
        "{text}"
    );
    assert!(node.named().is_empty(), "{:?}", node.named());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_pull_ends_and_leaves_the_store_as_it_was() {
    let image = sample();
    let served = Arc::clone(&image);
    let suffix = image.blob(0).to_string();
    // Sends half of the layer and then nothing, with the connection open.
    let liar = Liar::start(move |asked| {
        if !asked.path.ends_with(&suffix) {
            return served.answer(asked);
        }
        Answer {
            length: Some(SIZE * 2),
            endless: true,
            ..Answer::ok(served.layers[0].1[..SIZE / 2].to_vec())
        }
    });
    let (sources, _) = sources(RegistryConfig::default());
    let node = Node::new();
    let mut options = options();
    let cancel = options.cancel.clone();
    options.progress = Arc::new(move |event| {
        if matches!(event, Event::LayerStarted { .. }) {
            cancel.cancel();
        }
    });
    let wanted = [request(&format!("{}/a:1", liar.host), image.digest())];
    let result = pull(&node.store, &node.lock, "t", &sources, &wanted, &options).await;
    assert!(matches!(result, Err(PullError::Cancelled)), "{result:?}");
    assert!(node.named().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_is_refused_names_the_entry() {
    let mut header = tar::Header::new_gnu();
    header.set_size(4);
    header.set_mode(0o644);
    let name = b"a/../../etc/passwd";
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_cksum();
    let mut archive = tar::Builder::new(Vec::new());
    archive.append(&header, &b"evil"[..]).expect("appended");
    let hostile = archive.into_inner().expect("finished");
    let image = Arc::new(Built::new(&[(GZIP, tar(&[("ok", b"ok")])), (GZIP, hostile)]));
    let served = Arc::clone(&image);
    let liar = Liar::start(move |asked| served.answer(asked));
    let error = refusal(&liar.host, &image).await;
    let text = chain(&error);
    assert!(
        text.contains(&image.blob(1).to_string()) && text.contains("a/../../etc/passwd"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_of_an_unknown_type_is_refused_before_anything_is_fetched() {
    let image = Arc::new(Built::new(&[(
        "application/vnd.example.layer+brotli",
        b"x".to_vec(),
    )]));
    let served = Arc::clone(&image);
    let liar = Liar::start(move |asked| served.answer(asked));
    let error = refusal(&liar.host, &image).await;
    assert!(matches!(error, PullError::LayerType { .. }), "{}", chain(&error));
    assert_eq!(liar.count(&image.blob(0).to_string()), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn mirrors_are_asked_in_order_and_one_that_fails_is_passed_over() {
    let image = sample();
    let served = Arc::clone(&image);
    let origin = Liar::start(move |asked| served.answer(asked));
    let empty = Liar::start(|_| Answer::status(404));
    let dead = Liar::start(|_| Answer::ok("")).host.clone();
    let served = Arc::clone(&image);
    let half = SIZE / 2;
    let breaking = Liar::start(move |asked| served.answer(asked).cut(half));
    let mirrors = vec![empty.host.clone(), dead, format!("{}/cache", breaking.host)];
    let config = RegistryConfig {
        mirrors: [(origin.host.clone(), mirrors)].into(),
        ..RegistryConfig::default()
    };
    let (sources, _) = sources(config);
    let node = Node::new();
    fetch(&node, &sources, &origin.host, &image)
        .await
        .expect("pulled");
    assert_eq!(file(&node.store, &image.digest(), "big"), noise(SIZE));
    let blob = image.blob(0).to_string();
    assert!(breaking.count(&format!("/v2/cache/a/blobs/{blob}")) >= 1);
    assert_eq!(empty.count(&blob), 1);
    assert_eq!(
        origin.count(&format!("/manifests/{}", image.digest())),
        0,
        "a mirror has it"
    );
}

//! Answers that break off at any byte, and answers that hardly come: of the manifest, the configuration, a layer and
//! the token server. The pull goes on and the image is right, or it ends in bounded time and says what was too slow.

mod support;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::TryStreamExt;
use node_images::digest::Digest;
use node_images::manifest::{CONFIG, Descriptor};
use node_images::pull::{PullError, PullReport, pull};
use node_images::reference::Reference;
use node_images::registry::{AuthFiles, Patience, RegistryConfig};
use node_images::source::{SourceError, Sources};
use support::image::{Built, GZIP, PLAIN, file, noise, tar};
use support::liar::{Answer, Asked, Liar};
use support::{Node, chain, options, request, sources, with_patience};

async fn fetch(node: &Node, sources: &Sources, host: &str, image: &Built) -> Result<PullReport, PullError> {
    let wanted = [request(&format!("{host}/a:1"), image.digest())];
    pull(&node.store, &node.lock, "t", sources, &wanted, &options()).await
}

/// What a registry is asked for in a pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Token,
    Manifest,
    Config,
    Layer,
}

const PARTS: [Part; 4] = [Part::Token, Part::Manifest, Part::Config, Part::Layer];

impl Part {
    /// How the path of such a request ends.
    fn ending(self, image: &Built) -> String {
        match self {
            Part::Token => "scope=repository%3Aa%3Apull".to_owned(),
            Part::Manifest => format!("/manifests/{}", image.digest()),
            Part::Config => format!("/blobs/{}", Digest::of(&image.config)),
            Part::Layer => format!("/blobs/{}", image.blob(0)),
        }
    }
}

/// A registry with a token server, in which the answer for one part is what `bad` makes of it.
fn registry(image: &Arc<Built>, part: Part, bad: impl Fn(Answer) -> Answer + Send + Sync + 'static) -> Liar {
    let (served, ending) = (Arc::clone(image), part.ending(image));
    let own = Arc::new(OnceLock::<String>::new());
    let host = Arc::clone(&own);
    let liar = Liar::start(move |asked| {
        let answer = honest(&served, asked, host.get().expect("it runs"));
        if answer.status < 300 && asked.path.ends_with(&ending) {
            bad(answer)
        } else {
            answer
        }
    });
    own.set(liar.host.clone()).expect("once");
    liar
}

fn honest(image: &Built, asked: &Asked, host: &str) -> Answer {
    if asked.path.starts_with("/token?") {
        return Answer::ok(r#"{"token":"t"}"#);
    }
    if asked.header("authorization") != Some("Bearer t") {
        let challenge = format!(r#"Bearer realm="http://{host}/token""#);
        return Answer::status(401).header("WWW-Authenticate", challenge);
    }
    image.answer(asked)
}

/// Each answer is cut once at each of its bytes, headers included, by an end and by a reset.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_may_be_cut_at_every_byte() {
    let image = Arc::new(Built::new(&[(GZIP, tar(&[("f", &noise(40))]))]));
    let (sources, _) = sources(RegistryConfig::default());
    for part in PARTS {
        let mut cuts = 0;
        for reset in [false, true] {
            for at in 0.. {
                // The last cut is the one that takes nothing away.
                let (first, whole) = (AtomicBool::new(true), Arc::new(AtomicBool::new(false)));
                let complete = Arc::clone(&whole);
                let liar = registry(&image, part, move |answer| {
                    if !first.swap(false, Ordering::SeqCst) {
                        return answer;
                    }
                    complete.store(at >= length(&answer), Ordering::SeqCst);
                    Answer {
                        reset,
                        ends_after: Some(at),
                        ..answer
                    }
                });
                let name = format!("{part:?} cut at {at}, reset {reset}");
                gets(&sources, &liar.host, &image, part)
                    .await
                    .unwrap_or_else(|error| panic!("{name}: {error}"));
                if whole.load(Ordering::SeqCst) {
                    break;
                }
                let asked = liar.count(&part.ending(&image));
                assert!(asked > 1, "{name} was not noticed");
                cuts += 1;
            }
        }
        println!("{part:?}: {cuts} cuts, nothing wrong");
    }
}

/// The part comes in the end, byte for byte: the layer in a whole pull, since it goes on where it stopped.
async fn gets(sources: &Sources, host: &str, image: &Built, part: Part) -> Result<(), String> {
    if part == Part::Layer {
        let node = Node::new();
        let pulled = fetch(&node, sources, host, image).await;
        pulled.map_err(|error| chain(&error))?;
        assert_eq!(file(&node.store, &image.digest(), "f"), noise(40));
        return Ok(());
    }
    let reference: Reference = format!("{host}/a:1").parse().expect("a reference");
    let source = sources.open(&reference).expect("opens");
    if part == Part::Config {
        let config = Descriptor::of(CONFIG, &image.config);
        let stream = source.blob(&config, 0).await.map_err(|error| chain(&error))?;
        let read: Result<Vec<Bytes>, SourceError> = stream.try_collect().await;
        let read = read.map_err(|error| chain(&error))?;
        assert_eq!(read.concat(), image.config);
        return Ok(());
    }
    let read = source.manifest(&image.digest()).await;
    assert_eq!(read.map_err(|error| chain(&error))?, image.manifest);
    Ok(())
}

/// Bytes of a whole answer, as the liar sends it.
fn length(answer: &Answer) -> usize {
    let headers: usize = answer
        .headers
        .iter()
        .map(|(name, value)| name.len() + value.len() + 4)
        .sum();
    let fixed = format!(
        "HTTP/1.1 {} Test\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        answer.status,
        answer.body.len()
    );
    headers + fixed.len() + answer.body.len()
}

/// A sender of one byte now and then is cut off, in the headers and in the body of each part.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_sender_is_cut_off() {
    let patience = Patience {
        silence: Duration::from_millis(400),
        document: Duration::from_millis(800),
        pace: Duration::from_millis(400),
        pace_bytes: 1 << 10,
        ..Patience::default()
    };
    let image = Arc::new(Built::new(&[(PLAIN, tar(&[("f", &noise(4000))]))]));
    for part in PARTS {
        for prompt_head in [false, true] {
            // Each byte comes long before silence would count as an end.
            let pause = Duration::from_millis(if part == Part::Token { 100 } else { 20 });
            let slow = Arc::new(AtomicUsize::new(0));
            let count = Arc::clone(&slow);
            let liar = registry(&image, part, move |answer| {
                count.fetch_add(1, Ordering::SeqCst);
                Answer {
                    drip: Some(pause),
                    prompt_head,
                    ..answer
                }
            });
            let (sources, _) = with_patience(RegistryConfig::default(), AuthFiles::default(), patience);
            let begun = Instant::now();
            let node = Node::new();
            let error = fetch(&node, &sources, &liar.host, &image)
                .await
                .expect_err("too slow");
            let (text, name) = (chain(&error), format!("{part:?}, headers at once: {prompt_head}"));
            let path = match part {
                Part::Token => "/token".to_owned(),
                _ => part.ending(&image),
            };
            let reason = if prompt_head {
                format!("{path} sends too slowly")
            } else {
                format!("cannot reach http://{}{path}", on(&liar, part))
            };
            assert!(text.contains(&reason), "{name}: {text}");
            assert!(prompt_head || text.contains("timed out"), "{name}: {text}");
            assert_eq!(
                slow.load(Ordering::SeqCst),
                4,
                "{name}: once and three times again"
            );
            // Four tries of at most three limits each.
            assert!(
                begun.elapsed() < Duration::from_secs(12),
                "{name}: {:?}",
                begun.elapsed()
            );
            assert!(node.named().is_empty(), "{name}");
        }
    }
}

/// Host and repository of a part's address.
fn on(liar: &Liar, part: Part) -> String {
    match part {
        Part::Token => liar.host.clone(),
        _ => format!("{}/v2/a", liar.host),
    }
}

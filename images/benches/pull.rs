//! Pulling one image from a registry on loopback, next to podman and skopeo:
//! `cargo bench -p node-images`. The image is a Debian root in one gzip layer.
//!
//! This crate verifies, unpacks and syncs to disk; podman verifies and unpacks without a sync; skopeo
//! only fetches and verifies. Needs root, docker-registry, podman, skopeo, and the Debian root that the
//! container tests keep in the cache.

#[path = "../tests/support/mod.rs"]
mod support;

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use node_images::pull::{plan, pull};
use node_images::reference::Selector;
use node_images::registry::RegistryConfig;
use node_images::source::{Source, copy_image};
use std::sync::Arc;
use support::image::{Built, GZIP, layout};
use support::registry::Registry;
use support::{Node, options, request, sources};

const RUNS: usize = 5;

/// Wall and CPU time of one pull in milliseconds.
type Sample = (f64, f64);

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let registry = Registry::start();
    let name = format!("{}/bench:1", registry.host);
    let digest = runtime.block_on(publish(&name));
    let mut table = [
        ("nodectl", Vec::new()),
        ("podman", Vec::new()),
        ("skopeo", Vec::new()),
    ];
    for _ in 0..RUNS {
        for (puller, samples) in &mut table {
            samples.push(match *puller {
                "nodectl" => nodectl(&runtime, &name, digest),
                "podman" => podman(&name),
                _ => skopeo(&name),
            });
        }
    }
    for (puller, samples) in &table {
        let median = |pick: fn(&Sample) -> f64| {
            let mut values: Vec<f64> = samples.iter().map(pick).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        println!(
            "pull {puller:<19} n={RUNS} cpu med {:>7.0} ms | wall med {:>7.0} ms",
            median(|s| s.1),
            median(|s| s.0)
        );
    }
}

fn cached_tree() -> PathBuf {
    let cache = std::env::var("NODECTL_CACHE").unwrap_or_else(|_| "/var/cache/nodectl".into());
    let base = PathBuf::from(cache).join("runtime-tests");
    let roots = std::fs::read_dir(&base).into_iter().flatten().flatten();
    let tree = roots
        .map(|e| e.path())
        .filter(|path| path.join("usr/bin/true").exists())
        .min();
    tree.expect("the root of the container tests in the cache: run them first")
}

/// Puts the image into the registry.
async fn publish(name: &str) -> node_images::digest::Digest {
    let tar = Command::new("tar")
        .arg("-C")
        .arg(cached_tree())
        .args(["-c", "."])
        .output();
    let image = Built::new(&[(GZIP, tar.expect("tar").stdout)]);
    let directory = tempfile::tempdir().expect("a directory");
    let from = layout(directory.path());
    let digest = image.store(&from, Some("1")).await;
    let (sources, _) = sources(RegistryConfig::default());
    let reference = name.parse().expect("a reference");
    let sink = sources.sink(&reference).expect("a sink");
    let from: Arc<dyn Source> = from.clone();
    let Selector::Name(tag) = reference.selector() else {
        panic!("the name has a tag")
    };
    copy_image(&from, &digest, sink.as_ref(), Some(&tag))
        .await
        .expect("pushed");
    digest
}

fn nodectl(runtime: &tokio::runtime::Runtime, name: &str, digest: node_images::digest::Digest) -> Sample {
    let node = Node::new();
    timed(UsageWho::RUSAGE_SELF, || {
        runtime.block_on(async {
            let (sources, _) = sources(RegistryConfig::default());
            let wanted = [request(name, digest)];
            let options = options();
            plan(&node.store, &sources, &wanted, &options.platform)
                .await
                .expect("a plan");
            pull(&node.store, &node.lock, "bench", &sources, &wanted, &options)
                .await
                .expect("pulled");
        });
    })
}

fn podman(name: &str) -> Sample {
    let store = tempfile::tempdir().expect("a directory");
    let part = |name: &str| store.path().join(name).display().to_string();
    let (root, run) = (part("root"), part("run"));
    let sample = command(&[
        "podman",
        "--root",
        &root,
        "--runroot",
        &run,
        "pull",
        "-q",
        "--tls-verify=false",
        name,
    ]);
    // Its own mount on the store.
    let _ = nix::mount::umount2(
        &store.path().join("root/overlay"),
        nix::mount::MntFlags::MNT_DETACH,
    );
    sample
}

fn skopeo(name: &str) -> Sample {
    let store = tempfile::tempdir().expect("a directory");
    let (from, to) = (
        format!("docker://{name}"),
        format!("dir:{}", store.path().display()),
    );
    command(&["skopeo", "copy", "-q", "--src-tls-verify=false", &from, &to])
}

fn command(arguments: &[&str]) -> Sample {
    timed(UsageWho::RUSAGE_CHILDREN, || {
        let status = Command::new(arguments[0])
            .args(&arguments[1..])
            .stdout(Stdio::null())
            .status();
        assert!(
            status.is_ok_and(|status| status.success()),
            "{arguments:?} failed"
        );
    })
}

fn timed(who: UsageWho, work: impl FnOnce()) -> Sample {
    let cpu = || {
        let usage: Usage = getrusage(who).expect("usage");
        usage.user_time().num_milliseconds() + usage.system_time().num_milliseconds()
    };
    let (begin, before) = (Instant::now(), cpu());
    work();
    let spent = u32::try_from(cpu() - before).unwrap_or_default();
    (begin.elapsed().as_secs_f64() * 1e3, f64::from(spent))
}

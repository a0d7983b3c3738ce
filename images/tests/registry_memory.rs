//! A pull of several hundred megabytes stays under 64 MiB of memory. A binary of its own, since the
//! memory is measured for the whole process.

mod support;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use node_images::digest::Digest;
use node_images::manifest::{CONFIG, Descriptor, MANIFEST, Manifest, Platform};
use node_images::pull::pull;
use node_images::reference::Reference;
use node_images::registry::RegistryConfig;
use node_images::source::{Layout, Memory, Sink, Source, copy_image};
use support::image::GZIP;
use support::registry::Registry;
use support::{Node, options, request, sources};

/// Files of the layer and their size: 400 MiB in 5,000 files, like an OpenStack image.
const FILES: usize = 5_000;
const FILE_SIZE: usize = 84_000;
/// Upper bound of the promise, in KiB.
const LIMIT_KIB: u64 = 64 << 10;

/// Writes to two places.
struct Tee<A, B>(A, B);

impl<A: Write, B: Write> Write for Tee<A, B> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write_all(bytes)?;
        self.1.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()?;
        self.1.flush()
    }
}

fn cache() -> PathBuf {
    let root = std::env::var_os("NODECTL_CACHE").map_or_else(|| "/var/cache/nodectl".into(), PathBuf::from);
    root.join("test-images")
        .join(format!("one-layer-{FILES}x{FILE_SIZE}-v1"))
}

/// The content of a file: half of it compresses, half does not.
fn content(number: usize, state: &mut u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(FILE_SIZE + 64);
    while bytes.len() < FILE_SIZE {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
        bytes.extend_from_slice(b"def test_");
        bytes.extend_from_slice(number.to_string().as_bytes());
    }
    bytes.truncate(FILE_SIZE);
    bytes
}

/// The layout of the big image, made once. Streams, so that it does not count as memory here.
async fn big_image() -> (PathBuf, Digest) {
    let path = cache();
    let marker = path.join("digest");
    if let Ok(text) = std::fs::read_to_string(&marker) {
        return (path, Digest::parse(text.trim()).expect("a digest"));
    }
    let layout = Arc::new(Layout::create(&path).expect("a layout"));
    let (blob, diff_id) = write_layer(&path);
    let config = serde_json::json!({
        "architecture": Platform::host().architecture, "os": "linux",
        "config": {"Cmd": ["/bin/true"]},
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
    });
    let mut memory = Memory::default();
    let config = memory.add(CONFIG, config.to_string());
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(MANIFEST.to_owned()),
        artifact_type: None,
        config: config.clone(),
        layers: vec![blob],
        subject: None,
        annotations: std::collections::BTreeMap::new(),
    };
    let memory: Arc<dyn Source> = Arc::new(memory);
    layout.put_blob(&config, memory).await.expect("a config");
    let bytes = serde_json::to_vec(&manifest).expect("json");
    let digest = layout
        .put_manifest(&bytes, Some("big"))
        .await
        .expect("a manifest");
    std::fs::write(marker, digest.to_string()).expect("written");
    (path, digest)
}

fn write_layer(layout: &Path) -> (Descriptor, Digest) {
    let target = layout.join("blobs/sha256/new");
    let file = File::create(&target).expect("created");
    let compressed = node_images::digest::HashingWriter::new(BufWriter::new(file));
    let encoder = flate2::write::GzEncoder::new(compressed, flate2::Compression::new(6));
    let mut builder = tar::Builder::new(Tee(encoder, HashOnly(openssl::sha::Sha256::new())));
    let mut state = 0x2545_f491_4f6c_dd1d;
    for number in 0..FILES {
        let bytes = content(number, &mut state);
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1_700_000_000);
        let name = format!("usr/lib/python3/dist-packages/p{}/m{number}.py", number / 50);
        builder
            .append_data(&mut header, name, &bytes[..])
            .expect("appended");
    }
    let Tee(encoder, HashOnly(plain)) = builder.into_inner().expect("finished");
    let diff_id = Digest::from_hex(&hex::encode(plain.finish())).expect("a digest");
    let (digest, size, mut writer) = encoder.finish().expect("compressed").finish();
    writer.flush().expect("written");
    drop(writer);
    std::fs::rename(&target, layout.join("blobs/sha256").join(digest.hex())).expect("renamed");
    (
        Descriptor {
            digest,
            size,
            ..Descriptor::of(GZIP, b"")
        },
        diff_id,
    )
}

struct HashOnly(openssl::sha::Sha256);

impl Write for HashOnly {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Peak resident memory since the last reset, in KiB (proc_pid_status(5)).
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .expect("VmHWM");
    line.split_whitespace()
        .nth(1)
        .and_then(|text| text.parse().ok())
        .expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_pull_stays_small_in_memory() {
    let registry = Registry::start();
    let (sources, _) = sources(RegistryConfig::default());
    let (path, digest) = big_image().await;
    let name = format!("{}/big:1", registry.host);
    let reference: Reference = name.parse().expect("a reference");
    let from: Arc<dyn Source> = Arc::new(Layout::open(&path).expect("a layout"));
    let sink = sources.sink(&reference).expect("a sink");
    copy_image(&from, &digest, sink.as_ref(), Some("1"))
        .await
        .expect("pushed");

    let node = Node::new();
    // The barrier at the end of the pull writes out the whole file system: what the push left is not its.
    nix::unistd::sync();
    // Resets the peak (proc_pid_clear_refs(5)).
    std::fs::write("/proc/self/clear_refs", "5").expect("reset");
    let begin = Instant::now();
    let wanted = [request(&name, digest)];
    let report = pull(&node.store, &node.lock, "t", &sources, &wanted, &options())
        .await
        .expect("pulled");
    let (elapsed, peak) = (begin.elapsed(), peak_kib());
    println!(
        "pulled {} MB compressed, {} MB unpacked, durable, in {elapsed:.2?}; peak memory {} MiB",
        report.bytes_fetched / 1_000_000,
        FILES * FILE_SIZE / 1_000_000,
        peak >> 10
    );
    assert!(
        peak < LIMIT_KIB,
        "peak memory is {peak} KiB, the promise is {LIMIT_KIB}"
    );
}

//! What the kernel does for a store on a file system with fs-verity, on a node in QEMU: what a pull has sealed stays
//! sealed through a power cut, nobody changes it, and a bit that flips on the disk is never served. Needs root, and
//! `make stage` before it.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use node_agent::api::{FsckReport, Sealing, Status};
use node_tests::command::{attempt, command, output};
use node_tests::node::{Kind, Name, Node, Setup};
use node_tests::nodectl;
use node_tests::registry;
use node_tests::stage::play;
use node_tests::story::Story;
use node_tests::tiny::{self, Forge, Image, Release, Service, reference};

const STORE: &str = "/var/lib/nodectl/store";

/// The same file in both images, and the only one that their services need.
const PROGRAM: &str = "bin/busybox";

/// In the padding of an ELF header, which nobody but a checksum looks at: without the seal it is served, and runs.
const FLIPPED: u64 = 12;

const SCRIPT: &str = "exec /bin/busybox sleep 1000000";

#[test]
fn the_kernel_guards_what_is_sealed() {
    play("nodectl-sealed", "a sealed store", tell);
}

fn tell(story: &mut Story, stage: &Path) -> Result<()> {
    registry::up()?;
    let forge = Forge::open(stage)?;
    let images = story.step("a release of two images that share their program", |_| {
        let payload = tiny::noise(300 << 10);
        let images = [
            forge.image("first", &[("payload", &payload)])?,
            forge.image("second", &[])?,
        ];
        publish(&forge, &images)?;
        Ok(images)
    })?;
    let node = story.step("a node boots in QEMU", |_| boot(stage, &forge))?;
    story.step("nodectl upgrade seals all objects", |_| {
        nodectl::on(&node, &["upgrade", &reference("1")])?.expect(0)?;
        all_sealed(&node)
    })?;
    story.step("root can't change a file, however it comes to it", |_| {
        unchangeable(&node, &images)
    })?;
    story.step(
        "a power cut takes no seal; meanwhile one bit flips on the disk",
        |_| {
            node.cut()?;
            flip(&node, &tree(&images[0], PROGRAM))?;
            node.boot()
        },
    )?;
    story.step("the file is not served, and its services say so", |_| {
        let journals = refused(&node, &images)?;
        ensure!(journals.contains("I/O error"), "no reason: {journals}");
        Ok(())
    })?;
    story.step("fsck names image, file and services", |_| named(&node, &images))?;
    story.step("--repair mends it, for both", |_| repaired(&node))?;
    story.step("what was never sealed is, by --repair", |_| {
        sealed_later(&node, &images)
    })
}

fn publish(forge: &Forge, images: &[Image; 2]) -> Result<()> {
    let services = ["one", "two"].iter().zip(images);
    let services: Vec<Service> = services
        .map(|(name, image)| Service::new(name, image, SCRIPT))
        .collect();
    forge.release(&Release {
        version: "1",
        images: &images.each_ref(),
        services: &services,
        more: "",
    })?;
    forge.sign("1", "key")
}

fn boot(stage: &Path, forge: &Forge) -> Result<Node> {
    let policy = format!(
        "[[repository]]\nname = \"{}/{}\"\nkeys = [\"key.pub\"]\n",
        registry::from_nodes(),
        tiny::REPOSITORY
    );
    let configuration = format!(
        "[registries]\ninsecure_http = [\"{}\"]\n\n[probation]\nwindow_sec = 1\n",
        registry::from_nodes()
    );
    let setup = Setup::node_on(Kind::Vm)?
        .install(stage)
        .file("etc/nodectl/node.toml", configuration)
        .file("etc/nodectl/trust/policy.toml", policy)
        .file("etc/nodectl/trust/key.pub", forge.public("key")?);
    Node::up(&Name::parse("s1")?, &setup)
}

fn tree(image: &Image, path: &str) -> String {
    let hex = image.digest.trim_start_matches("sha256:");
    format!("{STORE}/trees/{hex}/{path}")
}

/// As lsattr(1) has it, of every file with content below the store's objects and trees, and as nodectl says.
fn all_sealed(node: &Node) -> Result<()> {
    const LIST: &str = "find \"$1/objects\" \"$1/trees\" -type f -size +0 -exec lsattr {} +";
    let listed = node.run(["sh", "-ec", LIST, "list", STORE])?;
    let without: Vec<&str> = listed
        .lines()
        .filter(|line| {
            line.split_once(' ')
                .is_none_or(|(attributes, _)| !attributes.contains('V'))
        })
        .collect();
    ensure!(listed.lines().count() >= 10, "next to nothing is there: {listed}");
    ensure!(without.is_empty(), "not sealed: {without:#?}");
    let report: FsckReport = nodectl::json(node, &["fsck"])?;
    ensure!(report.sealed == Some(report.objects), "{report:?}");
    let status: Status = nodectl::json(node, &["status"])?;
    ensure!(
        status.sealing == Some(Sealing::Sealed) && status.healthy,
        "{status:#?}"
    );
    Ok(())
}

fn unchangeable(node: &Node, images: &[Image; 2]) -> Result<()> {
    let file = tree(&images[0], "payload");
    for change in [
        "echo more >>\"$1\"",
        "truncate --size=0 \"$1\"",
        "dd if=/dev/zero of=\"$1\" bs=1 count=1 conv=notrunc",
    ] {
        let tried = node.attempt(["sh", "-c", change, "change", &file])?;
        let said = String::from_utf8_lossy(&tried.stderr);
        ensure!(
            !tried.status.success() && said.contains("Operation not permitted"),
            "{change}: {said}"
        );
    }
    Ok(())
}

/// Flips one bit of a file's first block, in the disk of a node that is off, behind its file system's back.
fn flip(node: &Node, path: &str) -> Result<()> {
    let image = node.image();
    // What the cut left in the journal is where the file's blocks are said.
    let replayed = attempt(command("e2fsck", ["-p", "-E", "journal_only"]).arg(&image))?;
    // 1 says that something was put right.
    ensure!(
        replayed.status.code().is_some_and(|code| code <= 1),
        "e2fsck: {}",
        String::from_utf8_lossy(&replayed.stdout)
    );
    let said = output(command("debugfs", ["-R", &format!("bmap {path} 0")]).arg(&image))?;
    let block: u64 = said
        .trim()
        .parse()
        .with_context(|| format!("where {path} is: {said}"))?;
    ensure!(block > 0, "{path} has no first block");
    let superblock = output(command("dumpe2fs", ["-h"]).arg(&image))?;
    let size: u64 = superblock
        .lines()
        .find_map(|line| line.strip_prefix("Block size:"))
        .context("no block size")?
        .trim()
        .parse()?;
    let disk = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&image)
        .with_context(|| format!("open {}", image.display()))?;
    let at = block * size + FLIPPED;
    let mut byte = [0];
    disk.read_exact_at(&mut byte, at)?;
    disk.write_all_at(&[byte[0] ^ 1], at)
        .context("flip a bit on the disk")
}

fn refused(node: &Node, images: &[Image; 2]) -> Result<String> {
    let mut journals = String::new();
    for (service, image) in ["one", "two"].iter().zip(images) {
        let read = node.attempt(["cat", &tree(image, PROGRAM)])?;
        let said = String::from_utf8_lossy(&read.stderr);
        ensure!(
            !read.status.success() && said.contains("Input/output error"),
            "the flipped bit is served: {:?}, {said}",
            read.status
        );
        ensure!(
            nodectl::main_process(node, service).is_err(),
            "{service} runs a damaged program"
        );
        journals += &nodectl::on(node, &["logs", service])?.output;
    }
    let status: Status = nodectl::json(node, &["status"])?;
    ensure!(!status.healthy, "healthy: {status:#?}");
    Ok(journals)
}

fn named(node: &Node, images: &[Image; 2]) -> Result<()> {
    let said = nodectl::on(node, &["--json", "fsck"])?;
    ensure!(said.code == 65, "{said:?}");
    let report: FsckReport = serde_json::from_str(&said.output)?;
    let [finding] = report.findings.as_slice() else {
        anyhow::bail!("one thing is damaged: {report:#?}");
    };
    ensure!(
        finding.problem.contains(&format!("/{PROGRAM}")),
        "no file: {finding:#?}"
    );
    for image in images {
        ensure!(finding.images.contains(&image.digest), "no image: {finding:#?}");
    }
    ensure!(finding.services == ["one", "two"], "no services: {finding:#?}");
    Ok(())
}

fn repaired(node: &Node) -> Result<()> {
    let said = nodectl::on(node, &["fsck", "--repair"])?.expect(0)?;
    ensure!(said.contains("repaired"), "{said}");
    nodectl::on(node, &["start", "one", "two"])?.expect(0)?;
    for service in ["one", "two"] {
        nodectl::main_process(node, service)?;
    }
    all_sealed(node)
}

/// A copy in an object's place is what a store has that is older than sealing.
fn sealed_later(node: &Node, images: &[Image; 2]) -> Result<()> {
    const COPY: &str = "file=$(find \"$1/objects\" -samefile \"$2\"); cp --archive \"$file\" \"$file.copy\"; \
                        mv \"$file.copy\" \"$file\"; ln --force \"$file\" \"$2\"; touch --date=@1700000000 \"$(dirname \"$2\")\"";
    let file = tree(&images[0], "payload");
    node.run(["sh", "-ec", COPY, "copy", STORE, &file])?;
    let report: FsckReport = nodectl::json(node, &["fsck"])?;
    ensure!(report.sealed == Some(report.objects - 1), "{report:?}");
    let status: Status = nodectl::json(node, &["status"])?;
    ensure!(status.sealing == Some(Sealing::Partly), "{status:#?}");
    nodectl::on(node, &["fsck", "--repair"])?.expect(0)?;
    all_sealed(node)
}

//! The store on a real file system, as root: owners, times, extended attributes, hard links.

mod tarball;

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use node_images::digest::Digest;
use node_images::error::{ImportError, StoreError};
use node_images::layer::Policy;
use node_images::store::{
    Content, Fault, Finding, FsckOptions, Ingest, LayerRef, Locked, NewImage, Store, Verification,
};
use tarball::Tarball;

const NO_CONTENT: Content = Content::Shards { first: 0, count: 0 };
const FULL: FsckOptions = FsckOptions {
    content: Content::All,
};

struct Setup {
    dir: tempfile::TempDir,
    store: Store,
    lock: Locked,
}

impl Setup {
    fn new() -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "this test needs root: it changes file owners"
        );
        // Not /tmp: a tmpfs has neither ext4's link limit nor user.* attributes everywhere.
        let dir = tempfile::Builder::new()
            .prefix("nodectl-store-")
            .tempdir_in("/var/tmp")
            .unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let lock = Locked::acquire(&dir.path().join("lock")).unwrap();
        Self { dir, store, lock }
    }

    fn ingest(&self, layers: &[Vec<u8>]) -> (Ingest, Digest) {
        let ingest = self.store.begin(&self.lock, "txn").unwrap();
        for tar in layers {
            ingest
                .layer(&tar[..], &Digest::of(tar), &Policy::default())
                .unwrap();
        }
        let image = image(layers);
        let digest = image.manifest;
        ingest.image(image).unwrap();
        (ingest, digest)
    }

    fn pull(&self, layers: &[Vec<u8>]) -> Digest {
        let (ingest, digest) = self.ingest(layers);
        ingest.commit().unwrap();
        digest
    }

    fn tree(&self, image: &Digest) -> PathBuf {
        self.store.tree_path(image)
    }

    fn objects(&self) -> Vec<PathBuf> {
        files_below(&self.store.root().join("objects"))
    }

    fn assert_clean(&self) {
        let report = self.store.fsck(FULL).unwrap();
        assert!(report.findings.is_empty(), "{:#?}", report.findings);
        assert_eq!(files_below(&self.store.root().join("tmp")), Vec::<PathBuf>::new());
    }
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.symlink_metadata().unwrap().is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Manifest and config as a registry would have them; the blobs are the archives themselves.
fn image(layers: &[Vec<u8>]) -> NewImage {
    let digests: Vec<_> = layers.iter().map(|tar| Digest::of(tar)).collect();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux",
        "rootfs": { "type": "layers", "diff_ids": digests },
    });
    let config = config.to_string().into_bytes();
    let descriptors: Vec<_> = layers
        .iter()
        .map(|tar| {
            serde_json::json!({
                "mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": Digest::of(tar), "size": tar.len(),
            })
        })
        .collect();
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": Digest::of(&config), "size": config.len(),
        },
        "layers": descriptors,
    });
    let manifest = manifest.to_string().into_bytes();
    let layer = |tar: &Vec<u8>| LayerRef {
        blob: Digest::of(tar),
        size: tar.len() as u64,
        media_type: "application/vnd.oci.image.layer.v1.tar".to_owned(),
        diff_id: Digest::of(tar),
    };
    NewImage {
        manifest: Digest::of(&manifest),
        manifest_bytes: manifest,
        config_bytes: config,
        layers: layers.iter().map(layer).collect(),
        reference: "localhost/test:1".to_owned(),
        verification: Verification::Digest,
        pulled: jiff::Timestamp::UNIX_EPOCH,
    }
}

fn capability() -> Vec<u8> {
    // VFS_CAP_REVISION_2 with cap_dac_override and cap_fowner: 0x0a is a line feed too.
    [&[0, 0, 0, 2, 0x0a, 0, 0, 0][..], &[0; 12]].concat()
}

fn base() -> Vec<u8> {
    Tarball::new()
        .dir("usr/bin")
        .pax(&[
            ("mtime", b"1700000000.123456789"),
            ("uid", b"64055"),
            ("gid", b"108"),
        ])
        .file_mode("usr/bin/su", b"setuid", 0o6755)
        .pax(&[("SCHILY.xattr.security.capability", &capability()), ("uid", b"7")])
        .file_mode("usr/bin/ping", b"caps", 0o755)
        .pax(&[
            ("SCHILY.xattr.user.note", b"hi"),
            ("gid", b"9"),
            ("mtime", b"1500000000.5"),
        ])
        .dir("var")
        .file("var/empty", b"")
        .file("var/empty2", b"")
        .hardlink("usr/bin/su2", "usr/bin/su")
        .symlink("bin", "usr/bin")
        .long_name(&"n".repeat(200))
        .file("n", b"long")
        .long_link(&"t/".repeat(200))
        .symlink("far", "t")
        .file("var/big", &vec![7; 3 << 20])
        .finish()
}

#[test]
fn files_get_everything_that_the_archive_says() {
    let setup = Setup::new();
    let image = setup.pull(&[base()]);
    let tree = setup.tree(&image);
    let su = tree.join("usr/bin/su").metadata().unwrap();
    assert_eq!(su.permissions().mode() & 0o7777, 0o6755);
    assert_eq!((su.uid(), su.gid()), (64055, 108));
    assert_eq!((su.mtime(), su.mtime_nsec()), (1_700_000_000, 123_456_789));
    assert_eq!(su.ino(), tree.join("usr/bin/su2").metadata().unwrap().ino());
    let ping = tree.join("usr/bin/ping");
    assert_eq!(ping.metadata().unwrap().uid(), 7);
    assert_eq!(
        xattr::get(&ping, "security.capability").unwrap(),
        Some(capability())
    );
    let var = tree.join("var");
    assert_eq!(
        xattr::get(&var, "user.note").unwrap().as_deref(),
        Some(&b"hi"[..])
    );
    let var = var.metadata().unwrap();
    assert_eq!(
        (var.gid(), var.mtime(), var.mtime_nsec()),
        (9, 1_500_000_000, 500_000_000)
    );
    let empty = tree.join("var/empty").metadata().unwrap();
    assert_eq!((empty.nlink(), empty.mtime()), (1, 1_600_000_000));
    let bin = tree.join("bin").symlink_metadata().unwrap();
    assert_eq!(bin.mtime(), 1_600_000_000);
    assert_eq!(fs::read(tree.join("n".repeat(200))).unwrap(), b"long");
    assert_eq!(
        fs::read_link(tree.join("far")).unwrap(),
        Path::new(&"t/".repeat(200))
    );
    assert_eq!(fs::read(tree.join("var/big")).unwrap(), vec![7; 3 << 20]);
    setup.assert_clean();
    let record = setup.store.image(&image).unwrap().unwrap();
    assert_eq!(record.files, 13);
    assert_eq!(record.unpacked_size, 6 + 6 + 4 + 4 + (3 << 20));
}

#[test]
fn images_share_objects_and_layers() {
    let setup = Setup::new();
    let first = setup.pull(&[base()]);
    let before = setup.objects();
    let upper = Tarball::new()
        .file("usr/bin/new", b"new")
        .file("var/.wh.big", b"")
        .finish();
    assert!(setup.store.has_layer(&Digest::of(&base())).unwrap());
    let ingest = setup.store.begin(&setup.lock, "two").unwrap();
    ingest
        .layer(&upper[..], &Digest::of(&upper), &Policy::default())
        .unwrap();
    let both = image(&[base(), upper]);
    let second = both.manifest;
    ingest.image(both).unwrap();
    let report = ingest.commit().unwrap();
    assert_eq!((report.objects, report.layers, report.images), (1, 1, 1));
    assert_eq!(setup.objects().len(), before.len() + 1);
    let ino = |image| setup.tree(image).join("usr/bin/ping").metadata().unwrap().ino();
    assert_eq!(ino(&first), ino(&second));
    assert!(!setup.tree(&second).join("var/big").exists());
    assert_eq!(setup.store.images().unwrap().len(), 2);
    setup.assert_clean();
}

#[test]
fn same_content_with_other_attributes_is_another_object() {
    let setup = Setup::new();
    let tar = Tarball::new()
        .file("a", b"x")
        .pax(&[("mtime", b"1600000000.000000001")])
        .file("b", b"x")
        .file_mode("c", b"x", 0o600)
        .file("d", b"x")
        .finish();
    let image = setup.pull(&[tar]);
    assert_eq!(setup.objects().len(), 3);
    let links = |name| setup.tree(&image).join(name).metadata().unwrap().nlink();
    assert_eq!((links("a"), links("b"), links("c"), links("d")), (3, 2, 2, 3));
}

#[test]
fn what_was_not_committed_is_only_in_tmp_and_goes_away() {
    let setup = Setup::new();
    let (ingest, image) = setup.ingest(&[base()]);
    let partial = ingest.download_path(&image);
    fs::write(&partial, b"half").unwrap();
    assert_eq!(setup.objects(), Vec::<PathBuf>::new());
    assert!(setup.store.image(&image).unwrap().is_none());
    // As if the process had been killed: nothing of its own is run.
    std::mem::forget(ingest);
    assert!(setup.store.root().join("tmp/txn/objects").is_dir());
    let report = setup.store.gc(&setup.lock, &BTreeSet::new(), true).unwrap();
    assert!(report.bytes > 3 << 20 && partial.exists());
    let ingest = setup.store.begin(&setup.lock, "txn").unwrap();
    assert!(partial.exists(), "partial downloads outlive a pull");
    drop(ingest);
    assert!(!setup.store.root().join("tmp/txn").exists());
    setup.store.gc(&setup.lock, &BTreeSet::new(), false).unwrap();
    assert!(!partial.exists());
    setup.assert_clean();
}

#[test]
fn wrong_bytes_are_refused_and_leave_nothing() {
    let setup = Setup::new();
    let good = base();
    let mut flipped = good.clone();
    let at = flipped.len() - 4096;
    flipped[at] ^= 1;
    for bad in [&flipped[..], &good[..good.len() / 2], b"not an archive at all"] {
        let ingest = setup.store.begin(&setup.lock, "txn").unwrap();
        let error = ingest
            .layer(bad, &Digest::of(&good), &Policy::default())
            .unwrap_err();
        assert!(matches!(error, ImportError::Digest { .. }), "{error}");
        let missing = ingest.image(image(std::slice::from_ref(&good))).unwrap_err();
        assert!(matches!(missing, StoreError::MissingLayer { .. }), "{missing}");
        ingest.commit().unwrap();
        assert_eq!(setup.objects(), Vec::<PathBuf>::new());
    }
    let ingest = setup.store.begin(&setup.lock, "txn").unwrap();
    let failing = io::Read::chain(&good[..5000], Failing);
    let error = ingest
        .layer(failing, &Digest::of(&good), &Policy::default())
        .unwrap_err();
    assert!(matches!(error, ImportError::Read { .. }), "{error}");
}

struct Failing;

impl Read for Failing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::ConnectionReset.into())
    }
}

#[test]
fn documents_that_do_not_belong_together_are_refused() {
    let setup = Setup::new();
    let ingest = setup.store.begin(&setup.lock, "txn").unwrap();
    let other = Tarball::new().file("x", b"1").finish();
    for break_it in [
        (|i: &mut NewImage| i.manifest_bytes.push(b' ')) as fn(&mut NewImage),
        |i| i.config_bytes.push(b' '),
        |i| i.layers.clear(),
        |i| i.layers[0].diff_id = Digest::of(b"x"),
        |i| i.layers[0].blob = Digest::of(b"x"),
    ] {
        let mut image = image(std::slice::from_ref(&other));
        break_it(&mut image);
        let error = ingest.image(image).unwrap_err();
        assert!(matches!(error, StoreError::Image { .. }), "{error}");
    }
    for name in ["", "..", "a/b", "blobs", "a b"] {
        assert!(setup.store.begin(&setup.lock, name).is_err(), "{name:?}");
    }
}

#[test]
fn layers_come_in_parallel() {
    let setup = Setup::new();
    let layers: Vec<_> = (0..6u8)
        .map(|n| {
            let own = (0..100).fold(Tarball::new(), |tar, i| {
                tar.file(&format!("l{n}/f{i}"), &vec![n; 1000 + i])
            });
            // The same in all, so that threads meet.
            let same = (0..100).fold(own, |tar, i| tar.file(&format!("s/f{i}"), &vec![9; 5000 + i]));
            same.file("s/big", &vec![5; 1 << 20]).finish()
        })
        .collect();
    let ingest = setup.store.begin(&setup.lock, "txn").unwrap();
    std::thread::scope(|scope| {
        for tar in &layers {
            let ingest = &ingest;
            scope.spawn(move || {
                ingest
                    .layer(&tar[..], &Digest::of(tar), &Policy::default())
                    .unwrap();
            });
        }
    });
    ingest.image(image(&layers)).unwrap();
    assert_eq!(ingest.commit().unwrap().objects, 600 + 100 + 1);
    setup.assert_clean();
}

#[test]
fn more_links_than_an_inode_can_have() {
    const LINKS: usize = 65_100;
    let setup = Setup::new();
    let tar = (0..LINKS).fold(Tarball::new().file("o", b"x"), |tar, i| {
        tar.hardlink(&format!("l{i}"), "o")
    });
    let image = setup.pull(&[tar.finish()]);
    let tree = setup.tree(&image);
    let last = tree.join(format!("l{}", LINKS - 1));
    assert_eq!(fs::read(&last).unwrap(), b"x");
    assert_eq!(last.metadata().unwrap().mtime(), 1_600_000_000);
    assert_eq!(
        setup.store.image(&image).unwrap().unwrap().files as usize,
        LINKS + 2
    );
    setup.assert_clean();
}

/// A process in a mount namespace of its own, as a guest's is; it ends when this is dropped.
struct Holder(std::process::Child);

impl Holder {
    /// Does what the shell script says, with these as $0 and so on, and stays.
    fn new(script: &str, arguments: &[&Path]) -> Self {
        let stay = format!("{script} && echo up && read _");
        Self::start(
            std::process::Command::new("unshare").args([
                "--mount",
                "--propagation=private",
                "sh",
                "-c",
                &stay,
            ]),
            arguments,
        )
    }

    /// The same in perl, which can change its root and stay.
    fn perl(script: &str, arguments: &[&Path]) -> Self {
        let stay = format!("$|=1; {script}; print \"up\\n\"; <STDIN>");
        Self::start(
            std::process::Command::new("unshare").args([
                "--mount",
                "--propagation=private",
                "perl",
                "-e",
                &stay,
            ]),
            arguments,
        )
    }

    fn start(command: &mut std::process::Command, arguments: &[&Path]) -> Self {
        let mut child = command
            .args(arguments)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("this test needs unshare(1)");
        let mut up = [0; 3];
        child.stdout.take().unwrap().read_exact(&mut up).unwrap();
        Self(child)
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

#[test]
fn a_tree_is_in_use_however_it_is_mounted() {
    let setup = Setup::new();
    // An image of its own: one of the same digest counts as in use in the stores of all other tests, too.
    let own = Tarball::new().file("own", b"in use").finish();
    let image = setup.pull(&[base(), own]);
    let tree = setup.tree(&image);
    let (usr, mount) = (tree.join("usr"), setup.dir.path().join("mnt"));
    let skeleton = setup.dir.path().join("skeleton");
    fs::create_dir(&mount).unwrap();
    fs::create_dir_all(skeleton.join("old")).unwrap();
    let overlay = "mount -t overlay none -o ro,lowerdir=\"$2:$0\" \"$1\"";
    let pivoted = format!("{overlay} && cd \"$1\" && pivot_root . old");
    let bind = "system('mount', '--bind', $ARGV[0], $ARGV[1]) == 0 or die";
    let chroot = format!("{bind}; chroot(\"$ARGV[1]/usr\") or die; chdir '/'");
    let both: [&Path; 2] = [&tree, &mount];
    let three: [&Path; 3] = [&tree, &mount, &skeleton];
    let holders = [
        (
            "a directory of it",
            Holder::new("mount --bind \"$0\" \"$1\"", &[&usr, &mount]),
        ),
        ("below an overlay", Holder::new(overlay, &three)),
        ("the root of all", Holder::new(&pivoted, &three)),
        (
            "above the root of the one process that has it",
            Holder::perl(&chroot, &both),
        ),
    ];
    let mut pids: BTreeSet<u32> = holders.iter().map(|(_, holder)| holder.pid()).collect();
    assert_eq!(
        setup.store.roots_in_use().unwrap(),
        [(image, pids.clone())].into()
    );
    for (what, holder) in holders {
        pids.remove(&holder.pid());
        drop(holder);
        let found = setup.store.roots_in_use().unwrap();
        assert_eq!(
            found.get(&image).cloned().unwrap_or_default(),
            pids,
            "after {what}"
        );
    }
    assert_eq!(setup.store.roots_in_use().unwrap(), Default::default());
}

#[test]
fn gc_keeps_what_is_asked_for_and_what_is_mounted() {
    let setup = Setup::new();
    let only = Tarball::new().file("only", b"mounted").finish();
    let [a, b, c] = [
        setup.pull(&[base()]),
        setup.pull(&[base(), Tarball::new().file("b", b"b").finish()]),
        setup.pull(&[only]),
    ];
    let mountpoint = setup.dir.path().join("mnt");
    fs::create_dir(&mountpoint).unwrap();
    let holder = Holder::new("mount --bind \"$0\" \"$1\"", &[&setup.tree(&c), &mountpoint]);
    let found = setup.store.roots_in_use().unwrap();
    assert_eq!(found, [(c, BTreeSet::from([holder.pid()]))].into());
    let report = setup.store.gc(&setup.lock, &BTreeSet::from([b]), false).unwrap();
    assert_eq!(report.images, BTreeSet::from([a]));
    assert_eq!(report.in_use, BTreeSet::from([c]));
    assert_eq!((report.layers, report.objects), (0, 0));
    setup.assert_clean();
    drop(holder);
    let report = setup.store.gc(&setup.lock, &BTreeSet::from([b]), false).unwrap();
    assert_eq!(
        (report.images, report.layers, report.objects),
        (BTreeSet::from([c]), 1, 1)
    );
    assert!(!setup.tree(&c).exists() && setup.tree(&b).join("usr/bin/su").exists());
    setup.assert_clean();
    let rest = setup.store.gc(&setup.lock, &BTreeSet::new(), false).unwrap();
    assert!(rest.bytes > 3 << 20);
    assert_eq!(setup.objects(), Vec::<PathBuf>::new());
}

#[test]
fn fsck_names_what_is_broken_and_repair_fetches_only_that() {
    let setup = Setup::new();
    let upper = Tarball::new().file("upper", b"upper").finish();
    let image = setup.pull(&[base(), upper.clone()]);
    let tree = setup.tree(&image);
    let inode = |name: &str| tree.join(name).metadata().unwrap().ino();
    let untouched = inode("usr/bin/ping");
    // Same size, so that only reading finds it.
    fs::write(tree.join("upper"), b"UPPER").unwrap();
    fs::remove_file(tree.join("var/empty")).unwrap();
    fs::remove_dir_all(tree.join("usr")).unwrap();
    fs::write(tree.join("extra"), b"x").unwrap();
    fs::set_permissions(tree.join("var"), PermissionsExt::from_mode(0o777)).unwrap();
    let report = setup.store.fsck(FULL).unwrap();
    let mut seen: Vec<_> = report.findings.iter().map(ToString::to_string).collect();
    seen.sort();
    let all = seen.join("\n");
    for want in [
        "/upper",
        "/var/empty: missing",
        "/usr/bin/su: missing",
        "/extra: should not be there",
        "/var: has the wrong owner, mode",
        &image.to_string(),
    ] {
        assert!(all.contains(want), "{want} is not in:\n{all}");
    }
    let mut fetched = Vec::new();
    let done = setup
        .store
        .repair(&setup.lock, &report, &Policy::default(), &mut |layer| {
            fetched.push(layer.diff_id);
            Ok(Box::new(io::Cursor::new(upper.clone())))
        })
        .unwrap();
    assert_eq!(fetched, [Digest::of(&upper)]);
    assert_eq!((done.layers, done.objects), (1, 1));
    assert_eq!(done.remaining.findings, []);
    assert_eq!(fs::read(tree.join("upper")).unwrap(), b"upper");
    assert_eq!(inode("usr/bin/ping"), untouched);
    setup.assert_clean();
}

#[test]
fn lost_documents_and_objects_are_found_and_repaired() {
    let setup = Setup::new();
    let base = base();
    let image = setup.pull(std::slice::from_ref(&base));
    let root = setup.store.root();
    let layer = root
        .join("layers")
        .join(format!("{}.json", Digest::of(&base).hex()));
    let objects = setup.objects();
    fs::remove_file(&objects[0]).unwrap();
    let quick = setup.store.fsck(FsckOptions { content: NO_CONTENT }).unwrap();
    let missing = quick.findings.iter().any(|f| {
        matches!(
            f,
            Finding::Object {
                problem: Fault::Missing,
                ..
            }
        )
    });
    assert!(missing, "{:?}", quick.findings);
    let mut fetch =
        |_: &LayerRef| -> io::Result<Box<dyn Read + Send>> { Ok(Box::new(io::Cursor::new(base.clone()))) };
    let policy = Policy::default();
    let done = setup
        .store
        .repair(&setup.lock, &quick, &policy, &mut fetch)
        .unwrap();
    assert_eq!(done.remaining.findings, []);
    fs::write(&layer, b"{").unwrap();
    fs::remove_dir_all(setup.tree(&image)).unwrap();
    let report = setup.store.fsck(FULL).unwrap();
    assert!(
        matches!(&report.findings[..], [Finding::Layer { .. }]),
        "{:?}",
        report.findings
    );
    assert!(
        setup
            .store
            .gc(&setup.lock, &BTreeSet::from([image]), false)
            .is_err()
    );
    let done = setup
        .store
        .repair(&setup.lock, &report, &policy, &mut fetch)
        .unwrap();
    assert_eq!(done.remaining.findings, []);
    let record = root.join("images").join(format!("{}.json", image.hex()));
    let text = fs::read_to_string(&record).unwrap().replace("amd64", "arm64");
    fs::write(&record, text).unwrap();
    let report = setup.store.fsck(FULL).unwrap();
    assert!(
        matches!(&report.findings[..], [Finding::Record { .. }]),
        "{:?}",
        report.findings
    );
    let done = setup
        .store
        .repair(&setup.lock, &report, &policy, &mut fetch)
        .unwrap();
    assert_eq!(done.records, BTreeSet::from([image]));
    setup.pull(std::slice::from_ref(&base));
    setup.assert_clean();
}

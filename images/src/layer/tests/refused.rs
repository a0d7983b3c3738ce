//! Tricks that must be refused, with the entry's name.

use tar::EntryType;

use super::*;
use crate::error::{EntryError, EntryProblem};

fn refuse(policy: &Policy, tar: Tarball) -> ImportError {
    let sink = Memory::default();
    import_with(policy, &sink, &tar.finish()).unwrap_err()
}

fn problem(tar: Tarball) -> (String, EntryProblem) {
    match refuse(&Policy::default(), tar) {
        ImportError::Entry { entry, .. } => (entry.name, entry.problem),
        other => panic!("{other}"),
    }
}

fn apply_problem(layers: impl IntoIterator<Item = Tarball>) -> EntryError {
    let sink = Memory::default();
    let mut tree = Tree::default();
    let mut last = Ok(());
    for layer in layers {
        last.as_ref().unwrap();
        let index = import_with(&Policy::default(), &sink, &layer.finish()).unwrap();
        last = tree.apply(&index);
    }
    last.unwrap_err()
}

#[test]
fn entries_that_cannot_be() {
    let long = "x".repeat(256);
    let sparse: &[(&str, &[u8])] = &[("GNU.sparse.size", b"9"), ("GNU.sparse.map", b"0,5,3,1")];
    for (tar, name, want) in [
        (Tarball::new().file("../x", b"1"), "../x", EntryProblem::Escapes),
        (
            Tarball::new().file("a/../../x", b"1"),
            "a/../../x",
            EntryProblem::Escapes,
        ),
        (Tarball::new().file("/../x", b"1"), "/../x", EntryProblem::Escapes),
        (Tarball::new().dir(".."), "..", EntryProblem::Escapes),
        (Tarball::new().symlink("../l", "x"), "../l", EntryProblem::Escapes),
        (
            Tarball::new().file("../.wh.x", b""),
            "../.wh.x",
            EntryProblem::Escapes,
        ),
        (
            Tarball::new().file("a/.wh..", b""),
            "a/.wh..",
            EntryProblem::Whiteout,
        ),
        (
            Tarball::new().file("a/.wh...", b""),
            "a/.wh...",
            EntryProblem::Whiteout,
        ),
        (Tarball::new().file(".wh.", b""), ".wh.", EntryProblem::Whiteout),
        (
            Tarball::new().pax(&[("path", b"a\0b")]).file("x", b"1"),
            "a\0b",
            EntryProblem::Nul,
        ),
        (
            Tarball::new().pax(&[("path", long.as_bytes())]).file("x", b"1"),
            &long,
            EntryProblem::LongComponent,
        ),
        (Tarball::new().symlink("./", "x"), "./", EntryProblem::Root),
        (
            Tarball::new().hardlink("l", "../../etc/shadow"),
            "l",
            EntryProblem::LinkEscapes("../../etc/shadow".to_owned()),
        ),
        (
            Tarball::new().dir("d").hardlink("l", "d"),
            "l",
            EntryProblem::LinkToDirectory("d".to_owned()),
        ),
        (
            Tarball::new().hardlink("l", "/"),
            "l",
            EntryProblem::LinkToDirectory("/".to_owned()),
        ),
        (Tarball::new().symlink("l", ""), "l", EntryProblem::SymlinkTarget),
        (
            Tarball::new().member(EntryType::new(b'Z'), b"z", b"", |_| {}),
            "z",
            EntryProblem::Kind('Z'),
        ),
        (
            Tarball::new().pax(sparse).file("s", b"123456"),
            "s",
            EntryProblem::Sparse,
        ),
        (
            Tarball::new().pax(&[("uid", b"4294967295")]).file("u", b"1"),
            "u",
            EntryProblem::Owner(u64::from(u32::MAX)),
        ),
        (
            Tarball::new()
                .pax(&[("SCHILY.xattr.trusted.overlay.opaque", b"y")])
                .dir("o"),
            "o",
            EntryProblem::Xattr("trusted.overlay.opaque".to_owned()),
        ),
        (
            Tarball::new()
                .pax(&[("SCHILY.xattr.user.", b"y")])
                .file("o", b"1"),
            "o",
            EntryProblem::Xattr("user.".to_owned()),
        ),
    ] {
        assert_eq!(problem(tar), (name.to_owned(), want));
    }
}

#[test]
fn policy_refuses_what_it_says() {
    let policy = Policy {
        devices: DevicePolicy::Refuse,
        setuid: PrivilegePolicy::Refuse,
        file_capabilities: PrivilegePolicy::Refuse,
        ..Policy::default()
    };
    let capability: &[(&str, &[u8])] = &[("SCHILY.xattr.security.capability", b"x")];
    for (tar, want) in [
        (
            Tarball::new().member(EntryType::Block, b"n", b"", |_| {}),
            EntryProblem::Device,
        ),
        (Tarball::new().file_mode("n", b"1", 0o4755), EntryProblem::Setuid),
        (Tarball::new().file_mode("n", b"", 0o2755), EntryProblem::Setuid),
        (
            Tarball::new().pax(capability).file("n", b"1"),
            EntryProblem::FileCapability,
        ),
    ] {
        match refuse(&policy, tar) {
            ImportError::Entry { entry, .. } => {
                assert_eq!((entry.name.as_str(), entry.problem), ("n", want));
            }
            other => panic!("{other}"),
        }
    }
}

#[test]
fn limits_hold() {
    let limits = Limits {
        entries: 2,
        depth: 3,
        path_bytes: 20,
        unpacked_bytes: 1000,
        metadata_bytes: 100,
        ..Limits::default()
    };
    let policy = Policy {
        limits,
        ..Policy::default()
    };
    let hole: &[(&str, &[u8])] = &[("GNU.sparse.size", b"1000000000000"), ("GNU.sparse.map", b"0,1")];
    let note = [b'x'; 101];
    let xattr: &[(&str, &[u8])] = &[("SCHILY.xattr.user.a", &note)];
    for (tar, want) in [
        (
            Tarball::new().file("a", b"").file("b", b"").file("c", b""),
            "more than 2 entries",
        ),
        (Tarball::new().file("a/b/c/d", b""), "deeper than 3 levels"),
        (
            Tarball::new().file("aaaaaaaaaa/bbbbbbbbbbb", b""),
            "longer than 20 bytes",
        ),
        (
            Tarball::new().pax(hole).file("bomb", b"1"),
            "1000000000000 bytes, over the limit",
        ),
        (
            Tarball::new().file("a", &[1; 600]).file("b", &[1; 600]),
            "over the limit",
        ),
        (
            Tarball::new().pax(xattr).file("a", b""),
            "more than 100 bytes of names",
        ),
        (
            Tarball::new()
                .file(".wh.aaaaaaaaaaaaaaa", b"")
                .pax(&[("SCHILY.xattr.user.a", &note[..85])])
                .dir("b"),
            "more than 100 bytes of names",
        ),
    ] {
        let error = refuse(&policy, tar).to_string();
        assert!(error.contains(want), "{error}");
    }
}

#[test]
fn broken_archives() {
    let good = Tarball::new().file("a", &[1; 2000]).finish();
    let mut sum = good.clone();
    sum[0] ^= 1;
    let huge = Tarball::new()
        .member(EntryType::XHeader, b"x", b"", |h| h.set_size(1 << 40))
        .finish();
    let alone = Tarball::new().long_name("x").raw(b"").finish();
    for (tar, want) in [
        (&good[..100], "middle of a header"),
        (&good[..700], "middle of an entry"),
        (&good[..512], "middle of an entry"),
        (&sum, "checksum"),
        (&huge, "over 1 MiB"),
        (&alone, "before the entry"),
    ] {
        let result = import_with(&Policy::default(), &Memory::default(), tar);
        match result {
            Err(ImportError::Malformed { problem, .. }) => {
                assert!(problem.contains(want), "{problem}");
            }
            other => panic!("{want}: {other:?}"),
        }
    }
}

#[test]
fn layers_that_do_not_fit() {
    for (lower, upper, name, want) in [
        (
            Tarball::new().file("a", b"1"),
            Tarball::new().file("a/b", b"1"),
            "a/b",
            "is not a directory",
        ),
        (
            Tarball::new(),
            Tarball::new().hardlink("l", "no"),
            "l",
            "does not exist",
        ),
        (
            Tarball::new().dir("d"),
            Tarball::new().hardlink("l", "d"),
            "l",
            "is a directory",
        ),
        (
            Tarball::new().symlink("out", "../../etc"),
            Tarball::new().file("out/passwd", b"1"),
            "out/passwd",
            "leads out of the tree",
        ),
        (
            Tarball::new().symlink("a", "b").symlink("b", "a"),
            Tarball::new().file("a/x", b"1"),
            "a/x",
            "in a circle",
        ),
    ] {
        let error = apply_problem([lower, upper]);
        assert_eq!(error.name, name);
        assert!(error.to_string().contains(want), "{error}");
    }
}

/// Each hard link to a file without content has a copy of its attributes in memory.
#[test]
fn hard_links_cost_what_they_copy() {
    let policy = Policy {
        limits: Limits {
            metadata_bytes: 10_000,
            ..Limits::default()
        },
        ..Policy::default()
    };
    let note = [b'x'; 1000];
    let first = Tarball::new()
        .pax(&[("SCHILY.xattr.user.a", &note)])
        .file("f", b"");
    let tar = (0..20).fold(first, |tar, n| tar.hardlink(&format!("l{n}"), "f"));
    let error = refuse(&policy, tar).to_string();
    assert!(error.contains("more than 10000 bytes of names"), "{error}");
}

/// A few names of a layer imply gigabytes of directories.
#[test]
fn a_tree_is_bounded_by_what_its_names_imply() {
    let sink = Memory::default();
    let deep = "/x0123456789012345678901234567".repeat(127);
    let mut tree = Tree::default();
    let error = (0..40).find_map(|n| {
        let layer = (0..100).fold(Tarball::new(), |tar, m| {
            let name = format!("{n}-{m}{deep}");
            tar.pax(&[("path", name.as_bytes())]).file("x", b"")
        });
        let index = import_with(&Policy::default(), &sink, &layer.finish()).unwrap();
        tree.apply(&index).err()
    });
    assert_eq!(error.unwrap().problem, EntryProblem::TreeSize);
}

#[test]
fn a_bomb_is_measured_by_what_it_came_from() {
    let limits = Limits::default();
    for (compressed, unpacked) in [
        (1, Limits::ALWAYS_UNPACKED),
        (1 << 20, Limits::ALWAYS_UNPACKED),
        (10 << 20, 2000 << 20),
        (1 << 40, limits.unpacked_bytes),
        (u64::MAX, limits.unpacked_bytes),
    ] {
        assert_eq!(limits.for_compressed(compressed).unpacked_bytes, unpacked);
    }
}

#[test]
fn names_that_only_a_link_spells() {
    let through = |target: &str, name: &str| {
        Tarball::new()
            .pax(&[("linkpath", target.as_bytes())])
            .symlink("l", "")
            .pax(&[("path", name.as_bytes())])
            .file("f", b"1")
    };
    let error = apply_problem([through(&"x".repeat(256), "l/f")]);
    assert_eq!(
        (error.name.as_str(), error.problem),
        ("l/f", EntryProblem::LongComponent)
    );
    let deep = format!("{}/", "y".repeat(199)).repeat(20);
    let far = format!("l/{}", "z".repeat(96));
    let error = apply_problem([through(&deep, &far)]);
    assert_eq!((error.name, error.problem), (far, EntryProblem::LongPath(4095)));
}

#[test]
fn an_index_that_removes_the_root_does_not_fit() {
    let mut index = LayerIndex::new(Digest::of(b""));
    index.whiteouts.insert(EntryPath::root());
    let error = Tree::default().apply(&index).unwrap_err();
    assert!(matches!(error.problem, EntryProblem::Root), "{error}");
}

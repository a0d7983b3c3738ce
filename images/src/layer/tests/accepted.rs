//! Tricks that must come out right.

use tar::EntryType;

use super::*;

#[test]
fn later_entry_of_the_same_name_wins() {
    let tree = unpack([Tarball::new()
        .file("a", b"one")
        .dir("d")
        .file("d/x", b"x")
        .file("./a", b"two")
        .file("d", b"file now")]);
    assert_eq!(names(&tree), ["a", "d"]);
    assert_eq!(
        (content(&tree, "a"), content(&tree, "d")),
        (&b"two"[..], &b"file now"[..])
    );
}

#[test]
fn directory_listed_again_keeps_its_entries() {
    let again = |h: &mut tar::Header| h.set_mode(0o700);
    let tree =
        unpack([Tarball::new()
            .dir("d")
            .file("d/x", b"x")
            .member(EntryType::Directory, b"d/", b"", again)]);
    assert_eq!(names(&tree), ["d", "d/x"]);
    assert_eq!(tree["d"], Seen::Directory(0o700));
}

#[test]
fn missing_parents_are_implied() {
    let tree = unpack([Tarball::new().file("usr/lib/x/y", b"1")]);
    assert_eq!(names(&tree), ["usr", "usr/lib", "usr/lib/x", "usr/lib/x/y"]);
    assert_eq!(tree["usr/lib"], Seen::Directory(0o755));
}

#[test]
fn implied_parent_keeps_the_lower_layers_directory() {
    let private = |h: &mut tar::Header| h.set_mode(0o700);
    let lower = Tarball::new().member(EntryType::Directory, b"root", b"", private);
    let tree = unpack([lower, Tarball::new().file("root/x", b"1")]);
    assert_eq!(tree["root"], Seen::Directory(0o700));
}

#[test]
fn whiteouts_hide_lower_layers_only_wherever_they_stand() {
    let lower = Tarball::new()
        .file("d/a", b"1")
        .file("d/b", b"1")
        .file("e/f/g", b"1");
    for upper in [
        Tarball::new()
            .file("d/.wh.a", b"")
            .file("d/a", b"new")
            .file(".wh.e", b""),
        Tarball::new()
            .file(".wh.e", b"")
            .file("d/a", b"new")
            .file("d/.wh.a", b""),
    ] {
        let tree = unpack([lower.clone(), upper]);
        assert_eq!(names(&tree), ["d", "d/a", "d/b"]);
        assert_eq!(content(&tree, "d/a"), b"new");
    }
}

#[test]
fn whiteout_of_nothing_is_harmless() {
    let tree = unpack([Tarball::new()
        .file("a", b"1")
        .file("x/.wh.y", b"")
        .file(".wh.z", b"")]);
    assert_eq!(names(&tree), ["a"]);
}

#[test]
fn opaque_directories_hide_what_is_below_wherever_the_mark_stands() {
    let lower = Tarball::new()
        .dir("d")
        .file("d/old", b"1")
        .file("d/s/t", b"1")
        .file("d2", b"1");
    for upper in [
        Tarball::new().file("d/.wh..wh.opq", b"").file("d/new", b"2"),
        Tarball::new().file("d/new", b"2").file("d/.wh..wh.opq", b""),
    ] {
        let tree = unpack([lower.clone(), upper]);
        assert_eq!(names(&tree), ["d", "d/new", "d2"]);
    }
    let all = unpack([lower, Tarball::new().file(".wh..wh.opq", b"").file("only", b"3")]);
    assert_eq!(names(&all), ["only"]);
}

#[test]
fn aufs_marks_are_left_out() {
    let tree = unpack([Tarball::new()
        .file(".wh..wh.aufs", b"")
        .dir(".wh..wh.plnk")
        .file("a", b"1")]);
    assert_eq!(names(&tree), ["a"]);
}

#[test]
fn hard_links_name_what_stood_there_at_that_moment() {
    let tree = unpack([Tarball::new()
        .file("a", b"one")
        .hardlink("b", "./a")
        .file("a", b"two")
        .hardlink("c", "/a")
        .symlink("s", "a")
        .hardlink("t", "s")]);
    assert_eq!(content(&tree, "b"), b"one");
    assert_eq!(content(&tree, "c"), b"two");
    assert_eq!(tree["t"], Seen::Symlink("a".to_owned()));
}

#[test]
fn hard_links_reach_into_lower_layers() {
    let lower = Tarball::new()
        .file("d/a", b"one")
        .file("b", b"low")
        .symlink("l", "d");
    let upper = Tarball::new()
        .hardlink("x", "d/a")
        .hardlink("y", "x")
        .hardlink("z", "l/a")
        .file(".wh.b", b"")
        .hardlink("kept", "b");
    let tree = unpack([lower, upper]);
    for name in ["x", "y", "z"] {
        assert_eq!(content(&tree, name), b"one");
    }
    assert_eq!(content(&tree, "kept"), b"low");
    assert!(!tree.contains_key("b"));
}

#[test]
fn entries_behind_a_linked_directory_stay_in_the_tree() {
    let lower = Tarball::new()
        .dir("usr/lib")
        .symlink("lib", "usr/lib")
        .symlink("up", "/usr/../usr/lib/x");
    let tree = unpack([lower, Tarball::new().file("lib/a", b"1").file("up/b", b"2")]);
    assert_eq!(tree["lib"], Seen::Symlink("usr/lib".to_owned()));
    assert_eq!(content(&tree, "usr/lib/a"), b"1");
    assert_eq!(content(&tree, "usr/lib/x/b"), b"2");
}

#[test]
fn listed_directory_replaces_a_link_or_file() {
    let lower = Tarball::new()
        .dir("usr/lib")
        .symlink("lib", "usr/lib")
        .file("f", b"1");
    let tree = unpack([lower, Tarball::new().dir("lib").file("lib/a", b"1").dir("f")]);
    assert_eq!(tree["lib"], Seen::Directory(0o755));
    assert_eq!(tree["f"], Seen::Directory(0o755));
    assert!(tree.contains_key("lib/a") && !tree.contains_key("usr/lib/a"));
}

#[test]
fn symlinks_may_point_anywhere() {
    let tree = unpack([Tarball::new()
        .symlink("a", "/etc/passwd")
        .symlink("b", "../../../x")]);
    assert_eq!(tree["a"], Seen::Symlink("/etc/passwd".to_owned()));
    assert_eq!(tree["b"], Seen::Symlink("../../../x".to_owned()));
}

#[test]
fn long_names_in_both_forms() {
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(200));
    let target = "t".repeat(300);
    let tree = unpack([Tarball::new()
        .long_name(&long)
        .file("short", b"gnu")
        .long_link(&target)
        .symlink("s", "x")
        .pax(&[("path", b"p/\xc3\xa9"), ("linkpath", target.as_bytes())])
        .symlink("short", "x")]);
    assert_eq!(content(&tree, &long), b"gnu");
    assert_eq!(tree["s"], Seen::Symlink(target.clone()));
    assert_eq!(tree["p/é"], Seen::Symlink(target));
}

#[test]
fn pax_header_overrides_owner_time_and_size() {
    let tree = unpack([Tarball::new()
        .member(
            EntryType::XGlobalHeader,
            b"pax_global_header",
            b"16 comment=hello",
            |_| {},
        )
        .pax(&[
            ("uid", b"3000000"),
            ("gid", b"3000001"),
            ("mtime", b"1700000000.123456789"),
            ("size", b"5"),
        ])
        .member(EntryType::Regular, b"f", b"hello", |h| h.set_size(0))
        .file("after", b"x")]);
    let a = attributes(&tree, "f");
    assert_eq!((a.uid, a.gid), (3_000_000, 3_000_001));
    assert_eq!(
        a.mtime,
        Mtime {
            secs: 1_700_000_000,
            nanos: 123_456_789
        }
    );
    assert_eq!(content(&tree, "f"), b"hello");
    assert_eq!(content(&tree, "after"), b"x");
    assert_eq!(attributes(&tree, "after").uid, 0);
}

#[test]
fn xattrs_and_capabilities_are_kept_and_host_labels_are_not() {
    let capability = b"\x01\0\0\x02\x0a\x0a=\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let tree = unpack([Tarball::new()
        .pax(&[
            ("SCHILY.xattr.security.capability", capability),
            ("SCHILY.xattr.user.note", b"hi"),
            ("SCHILY.xattr.security.selinux", b"system_u:object_r:x:s0\0"),
        ])
        .file("ping", b"elf")]);
    let xattrs = &attributes(&tree, "ping").xattrs;
    assert_eq!(
        xattrs.keys().collect::<Vec<_>>(),
        ["security.capability", "user.note"]
    );
    assert_eq!(xattrs["security.capability"].0, capability);
}

#[test]
fn policy_strips_what_it_says() {
    let policy = Policy {
        setuid: PrivilegePolicy::Strip,
        file_capabilities: PrivilegePolicy::Strip,
        ..Policy::default()
    };
    let tar = Tarball::new()
        .file_mode("su", b"elf", 0o6755)
        .pax(&[("SCHILY.xattr.security.capability", b"x")])
        .file("ping", b"elf")
        .member(EntryType::Char, b"null", b"", |_| {})
        .member(EntryType::Fifo, b"pipe", b"", |_| {});
    let sink = Memory::default();
    let mut tree = Tree::default();
    tree.apply(&import_with(&policy, &sink, &tar.finish()).unwrap())
        .unwrap();
    let tree = see(&sink, &tree);
    assert_eq!(names(&tree), ["ping", "pipe", "su"]);
    assert_eq!(attributes(&tree, "su").mode, 0o755);
    assert!(attributes(&tree, "ping").xattrs.is_empty());
    assert_eq!(tree["pipe"], Seen::Fifo);
}

#[test]
fn sparse_files_in_all_four_forms() {
    let want = [&b"ab"[..], &[0; 510], &b"c"[..], &[0; 87]].concat();
    let data = b"abc";
    let gnu = |h: &mut tar::Header| {
        let gnu = h.as_gnu_mut().unwrap();
        gnu.realsize[..11].copy_from_slice(b"00000001130");
        for (slot, (offset, len)) in [(0, 2), (512, 1), (600, 0)].into_iter().enumerate() {
            gnu.sparse[slot].offset[..11].copy_from_slice(format!("{offset:011o}").as_bytes());
            gnu.sparse[slot].numbytes[..11].copy_from_slice(format!("{len:011o}").as_bytes());
        }
    };
    let mut map_then_data = b"2\n0\n2\n512\n1\n".to_vec();
    map_then_data.resize(512, 0);
    map_then_data.extend_from_slice(data);
    let tree = unpack([Tarball::new()
        .member(EntryType::GNUSparse, b"old", data, gnu)
        .pax(&[
            ("GNU.sparse.size", b"600"),
            ("GNU.sparse.numblocks", b"2"),
            ("GNU.sparse.offset", b"0"),
            ("GNU.sparse.numbytes", b"2"),
            ("GNU.sparse.offset", b"512"),
            ("GNU.sparse.numbytes", b"1"),
        ])
        .file("pax00", data)
        .pax(&[
            ("GNU.sparse.size", b"600"),
            ("GNU.sparse.name", b"pax01"),
            ("GNU.sparse.map", b"0,2,512,1"),
        ])
        .file("GNUSparseFile.1/x", data)
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"pax10"),
            ("GNU.sparse.realsize", b"600"),
        ])
        .file("GNUSparseFile.1/x", &map_then_data)
        .file("after", b"x")]);
    assert_eq!(names(&tree), ["after", "old", "pax00", "pax01", "pax10"]);
    for name in ["old", "pax00", "pax01", "pax10"] {
        assert_eq!(content(&tree, name), want, "{name}");
    }
}

#[test]
fn archive_without_its_end_is_whole() {
    let mut tar = Tarball::new().file("a", b"1").finish();
    tar.truncate(tar.len() - 1024);
    let index = import_with(&Policy::default(), &Memory::default(), &tar).unwrap();
    assert_eq!(index.entries.len(), 1);
}

#[test]
fn index_survives_a_round_trip() {
    let tar = Tarball::new()
        .dir("d")
        .pax(&[("path", b"d/\xff%"), ("SCHILY.xattr.user.x", b"\0\xff")])
        .file("x", b"1")
        .symlink("s", "t")
        .hardlink("h", "lower")
        .file("empty", b"")
        .file(".wh.gone", b"")
        .file("d/.wh..wh.opq", b"");
    let index = import_with(&Policy::default(), &Memory::default(), &tar.finish()).unwrap();
    let json = serde_json::to_string(&index).unwrap();
    assert_eq!(serde_json::from_str::<LayerIndex>(&json).unwrap(), index);
}

//! Makes a tree reproducible and final: drops what differs between two builds, applies what the
//! definition removes and adds. Pure: a tree in, a tree out.

use std::collections::BTreeMap;

use super::definition::{Directory, File};
use super::tree::{Content, Entry, Kind, Tree, TreePath};

/// Left out of every image: run-time state, caches, logs, identities and keys made by maintainer
/// scripts. Two builds, and two nodes, must not share or differ in any of these.
const VOLATILE: &[&str] = &[
    "/dev/*",
    "/proc/*",
    "/run/*",
    "/sys/*",
    "/tmp/*",
    "/var/tmp/*",
    "/var/cache/apt/*",
    "/var/cache/debconf/*-old",
    "/var/cache/ldconfig/*",
    "/var/lib/apt/lists/*",
    "/var/lib/dbus/machine-id",
    "/var/lib/dpkg/*-old",
    "/var/lib/systemd/random-seed",
    "/var/lib/urandom/random-seed",
    "/etc/group-",
    "/etc/gshadow-",
    "/etc/iscsi/initiatorname.iscsi",
    "/etc/passwd-",
    "/etc/shadow-",
    "/etc/ssh/ssh_host_*",
    "/etc/ssl/certs/ssl-cert-snakeoil.pem",
    "/etc/ssl/private/ssl-cert-snakeoil.key",
    "/etc/subgid-",
    "/etc/subuid-",
];

/// Directories in which only directories stay: packages expect theirs to exist.
const HOLLOW: &[&str] = &["var/log"];

/// Files that are there and empty: the host's are mounted over them.
const EMPTY: &[&str] = &[
    "/etc/hostname",
    "/etc/hosts",
    "/etc/machine-id",
    "/etc/resolv.conf",
];

/// What definitions say about the tree.
#[derive(Debug, Default)]
pub struct Rules<'d> {
    /// Latest time stamp of any entry, seconds since 1970.
    pub epoch: u64,
    /// `remove` of the whole chain of definitions.
    pub remove: Vec<&'d str>,
    /// `keep` of the whole chain of definitions.
    pub keep: Vec<&'d str>,
    /// `directories` of the whole chain of definitions.
    pub directories: Vec<&'d Directory>,
    /// Files of this definition.
    pub files: &'d [File],
}

/// Applies the rules to `tree`.
///
/// # Errors
/// A text naming the path of the definition that cannot be applied.
pub fn normalise(tree: Tree, rules: &Rules<'_>) -> Result<Tree, String> {
    let mut tree = remove(tree, rules);
    for path in EMPTY {
        put(
            &mut tree,
            path,
            Kind::File(Content::of(b"")),
            (0o644, 0, 0),
            rules.epoch,
        )?;
    }
    for directory in &rules.directories {
        let owner = (directory.mode.0, directory.uid, directory.gid);
        put(&mut tree, &directory.path, Kind::Directory, owner, rules.epoch)?;
    }
    for file in rules.files {
        let content = Content::of(file.content.as_bytes());
        let owner = (file.mode.0, file.uid, file.gid);
        put(&mut tree, &file.path, Kind::File(content), owner, rules.epoch)?;
        drop_bytecode(&mut tree, &file.path);
    }
    for entry in tree.values_mut() {
        entry.mtime = entry.mtime.min(rules.epoch);
    }
    Ok(tree)
}

fn remove(tree: Tree, rules: &Rules<'_>) -> Tree {
    let dropped = |path: &TreePath, entry: &Entry| {
        if VOLATILE.iter().any(|pattern| covers(pattern, path)) {
            return true;
        }
        if HOLLOW.iter().any(|top| is_below(path, top)) && entry.kind != Kind::Directory {
            return true;
        }
        rules.remove.iter().any(|pattern| covers(pattern, path))
            && !rules.keep.iter().any(|pattern| covers(pattern, path))
    };
    let mut kept = Tree::new();
    let mut gone = BTreeMap::new();
    for (path, entry) in tree {
        let side = if dropped(&path, &entry) {
            &mut gone
        } else {
            &mut kept
        };
        side.insert(path, entry);
    }
    restore_parents(&mut kept, &gone);
    restore_link_targets(&mut kept, &gone);
    kept
}

/// A kept entry keeps the directories above it.
fn restore_parents(kept: &mut Tree, gone: &Tree) {
    let parents: Vec<TreePath> = kept
        .keys()
        .flat_map(TreePath::ancestors)
        .filter(|parent| gone.contains_key(parent))
        .collect();
    for parent in parents {
        if let Some(entry) = gone.get(&parent) {
            kept.insert(parent, entry.clone());
        }
    }
}

/// The first kept name of a file whose main name is gone becomes the file.
fn restore_link_targets(kept: &mut Tree, gone: &Tree) {
    let mut moved: BTreeMap<TreePath, TreePath> = BTreeMap::new();
    for (path, entry) in kept.iter_mut() {
        let Kind::HardLink(target) = &entry.kind else {
            continue;
        };
        if let Some(first) = moved.get(target) {
            entry.kind = Kind::HardLink(first.clone());
        } else if let Some(file) = gone.get(target) {
            moved.insert(target.clone(), path.clone());
            *entry = file.clone();
        }
    }
}

fn put(
    tree: &mut Tree,
    path: &str,
    kind: Kind,
    (mode, uid, gid): (u32, u32, u32),
    mtime: u64,
) -> Result<(), String> {
    let place = TreePath::from_absolute(path).ok_or_else(|| format!("{path:?} is the root"))?;
    let entry = |kind, mode, uid, gid| Entry {
        kind,
        mode,
        uid,
        gid,
        mtime,
        xattrs: BTreeMap::new(),
    };
    for parent in place.ancestors() {
        match tree.get(&parent) {
            Some(found) if found.kind == Kind::Directory => {}
            Some(_) => return Err(format!("{path:?} leads through {parent}, which is no directory")),
            None => {
                tree.insert(parent, entry(Kind::Directory, 0o755, 0, 0));
            }
        }
    }
    let is_directory = |e: &Entry| e.kind == Kind::Directory;
    if tree
        .get(&place)
        .is_some_and(|old| is_directory(old) != (kind == Kind::Directory))
    {
        return Err(format!(
            "{path:?} is a directory on one side and none on the other"
        ));
    }
    promote_links(tree, &place);
    tree.insert(place, entry(kind, mode, uid.into(), gid.into()));
    Ok(())
}

/// Before the file `place` changes: its other names keep the old content.
fn promote_links(tree: &mut Tree, place: &TreePath) {
    let Some(file) = tree.remove(place) else {
        return;
    };
    let gone = Tree::from([(place.clone(), file)]);
    restore_link_targets(tree, &gone);
}

/// Bytecode of a replaced Python file would win over it, since it is not checked.
fn drop_bytecode(tree: &mut Tree, path: &str) {
    let Some(module) = path.strip_suffix(".py") else {
        return;
    };
    let Some((directory, name)) = module.rsplit_once('/') else {
        return;
    };
    let pattern = format!("{directory}/__pycache__/{name}.*.pyc");
    tree.retain(|path, _| !covers(&pattern, path));
}

fn is_below(path: &TreePath, top: &str) -> bool {
    path.as_bytes()
        .strip_prefix(top.as_bytes())
        .is_some_and(|rest| rest.starts_with(b"/"))
}

/// Whether `pattern` (absolute, `*` within names) names `path` or a directory above it.
fn covers(pattern: &str, path: &TreePath) -> bool {
    let mut names = path.as_bytes().split(|b| *b == b'/');
    pattern.trim_start_matches('/').split('/').all(|glob| {
        names
            .next()
            .is_some_and(|name| glob_matches(glob.as_bytes(), name))
    })
}

fn glob_matches(glob: &[u8], name: &[u8]) -> bool {
    match glob.split_first() {
        None => name.is_empty(),
        Some((b'*', rest)) => (0..=name.len()).any(|skip| glob_matches(rest, &name[skip..])),
        Some((byte, rest)) => name
            .split_first()
            .is_some_and(|(first, after)| first == byte && glob_matches(rest, after)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::definition::Mode;
    use crate::build::tree::sample::{self, path};

    fn entry(kind: Kind) -> Entry {
        sample::entry(kind, 1000)
    }

    /// Names that end in `/` are directories; the parents of all are made.
    fn tree(names: &[&str]) -> Tree {
        let mut tree = Tree::new();
        for name in names {
            let kind = match name.strip_suffix('/') {
                Some(_) => Kind::Directory,
                None => Kind::File(Content::of(name.as_bytes())),
            };
            let place = path(name);
            for parent in place.ancestors() {
                tree.entry(parent).or_insert_with(|| entry(Kind::Directory));
            }
            tree.insert(place, entry(kind));
        }
        tree
    }

    fn files(tree: &Tree) -> Vec<String> {
        let shown = |p: &&TreePath| !EMPTY.iter().any(|e| path(e) == **p);
        let only_files = tree
            .iter()
            .filter(|(_, e)| e.kind != Kind::Directory)
            .map(|(p, _)| p);
        only_files.filter(shown).map(ToString::to_string).collect()
    }

    #[test]
    fn patterns_match_names_and_what_is_below() {
        for (pattern, place, expected) in [
            ("/a", "/a", true),
            ("/a", "/a/b/c", true),
            ("/a/*", "/a", false),
            ("/a/*", "/a/b/c", true),
            ("/a/*/c", "/a/b/c", true),
            ("/a/*/c", "/a/b/d", false),
            ("/a/x*.pyc", "/a/x.311.pyc", true),
            ("/a/*-old", "/a/status-old", true),
            ("/a/*-old", "/a/status", false),
        ] {
            assert_eq!(covers(pattern, &path(place)), expected, "{pattern} {place}");
        }
    }

    #[test]
    fn volatile_removed_and_kept_files() {
        let before = tree(&[
            "/var/lib/apt/lists/x",
            "/var/log/apt/term.log",
            "/etc/passwd-",
            "/etc/passwd",
            "/usr/share/doc/apt/copyright",
            "/usr/share/doc/apt/changelog.gz",
            "/usr/share/man/man1/apt.1.gz",
        ]);
        let rules = Rules {
            epoch: 500,
            remove: vec!["/usr/share/doc/*", "/usr/share/man"],
            keep: vec!["/usr/share/doc/*/copyright"],
            ..Rules::default()
        };
        let after = normalise(before, &rules).expect("rules apply");
        assert_eq!(files(&after), ["/etc/passwd", "/usr/share/doc/apt/copyright"]);
        assert!(after.contains_key(&path("/var/log/apt")));
        assert!(after.contains_key(&path("/usr/share/doc/apt")));
        assert!(!after.contains_key(&path("/usr/share/man")));
        assert!(after.values().all(|e| e.mtime == 500));
    }

    #[test]
    fn a_replaced_module_loses_its_bytecode() {
        let before = tree(&[
            "/lib/a.py",
            "/lib/__pycache__/a.cpython-311.pyc",
            "/lib/__pycache__/b.cpython-311.pyc",
        ]);
        let files_of_definition = [File {
            path: "/lib/a.py".to_owned(),
            content: "raise SystemExit(1)\n".to_owned(),
            mode: Mode(0o644),
            uid: 0,
            gid: 0,
        }];
        let rules = Rules {
            epoch: 500,
            files: &files_of_definition,
            ..Rules::default()
        };
        let after = normalise(before, &rules).expect("rules apply");
        assert_eq!(files(&after), ["/lib/__pycache__/b.cpython-311.pyc", "/lib/a.py"]);
    }

    #[test]
    fn other_names_of_a_removed_or_replaced_file_stay_whole() {
        let mut before = tree(&["/a", "/b", "/c"]);
        before.insert(path("/b"), entry(Kind::HardLink(path("/a"))));
        before.insert(path("/c"), entry(Kind::HardLink(path("/a"))));
        let rules = Rules {
            remove: vec!["/a"],
            ..Rules::default()
        };
        let after = normalise(before, &rules).expect("rules apply");
        assert_eq!(after[&path("/b")].kind, Kind::File(Content::of(b"/a")));
        assert_eq!(after[&path("/c")].kind, Kind::HardLink(path("/b")));
    }

    #[test]
    fn a_file_through_a_link_is_refused() {
        let mut before = tree(&["/usr/lib/"]);
        before.insert(path("/lib"), entry(Kind::Symlink(b"usr/lib".to_vec())));
        let files = [File {
            path: "/lib/x".to_owned(),
            content: String::new(),
            mode: Mode(0o644),
            uid: 0,
            gid: 0,
        }];
        let rules = Rules {
            files: &files,
            ..Rules::default()
        };
        let refused = normalise(before, &rules).expect_err("leads through a link");
        assert_eq!(refused, "\"/lib/x\" leads through /lib, which is no directory");
    }
}

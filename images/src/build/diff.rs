//! What one layer has to say on top of another: the difference of two trees.

use super::tree::{Entry, Kind, Tree, TreePath, resolved};
use std::collections::BTreeMap;

/// Prefix of the file that says "the entry of that name is gone" (OCI image-spec, layer.md).
const WHITEOUT: &[u8] = b".wh.";

/// The entries of the layer that turns `lower` into `upper`, in the order of a walk.
///
/// Entries that are the same in both are left out. A missing entry becomes a whiteout (one for a
/// whole directory). The directories above each entry are repeated: some readers create missing
/// parents with a mode of their own. A hard link to a file that is not in the layer becomes a file,
/// since what a link across layers means differs between readers.
#[must_use]
pub fn diff(lower: &Tree, upper: &Tree, mtime: u64) -> Tree {
    let mut layer = Tree::new();
    for (path, entry) in upper {
        if lower.contains_key(path) && same(resolved(lower, path), resolved(upper, path)) {
            continue;
        }
        layer.insert(path.clone(), entry.clone());
    }
    untie(&mut layer, upper);
    for (path, gone) in whiteouts(lower, upper, mtime) {
        layer.insert(path, gone);
    }
    repeat_parents(&mut layer, upper);
    layer
}

fn same(lower: Option<&Entry>, upper: Option<&Entry>) -> bool {
    lower == upper
}

/// Makes every hard link of `layer` point to the first name of its file that is in `layer`.
fn untie(layer: &mut Tree, upper: &Tree) {
    let mut first_names: BTreeMap<TreePath, TreePath> = BTreeMap::new();
    for (path, entry) in layer.iter_mut() {
        let Kind::HardLink(target) = &entry.kind else {
            if let Kind::File(_) = entry.kind {
                first_names.insert(path.clone(), path.clone());
            }
            continue;
        };
        if let Some(first) = first_names.get(target) {
            entry.kind = Kind::HardLink(first.clone());
        } else if let Some(file) = upper.get(target) {
            first_names.insert(target.clone(), path.clone());
            *entry = file.clone();
        }
    }
}

fn whiteouts(lower: &Tree, upper: &Tree, mtime: u64) -> Vec<(TreePath, Entry)> {
    lower
        .keys()
        .filter(|path| !upper.contains_key(path))
        .filter(|path| match path.parent() {
            // Where the parent is gone or no directory any more, that says it all.
            Some(parent) => matches!(upper.get(&parent), Some(e) if e.kind == Kind::Directory),
            None => true,
        })
        .map(|path| {
            let name = [WHITEOUT, path.file_name()].concat();
            (path.with_file_name(&name), Entry::whiteout(mtime))
        })
        .collect()
}

fn repeat_parents(layer: &mut Tree, upper: &Tree) {
    let missing: Vec<TreePath> = layer
        .keys()
        .flat_map(TreePath::ancestors)
        .filter(|parent| !layer.contains_key(parent))
        .collect();
    for parent in missing {
        if let Some(entry) = upper.get(&parent) {
            layer.insert(parent, entry.clone());
        }
    }
}

impl Entry {
    fn whiteout(mtime: u64) -> Self {
        Self {
            kind: Kind::File(super::tree::Content::of(b"")),
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime,
            xattrs: BTreeMap::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::tree::Content;
    use crate::build::tree::sample::{self, path};

    fn entry(kind: Kind) -> Entry {
        sample::entry(kind, 7)
    }

    /// `/d/` directory, `/f=text` file, `/l->target` symbolic link, `/h=>/f` hard link.
    fn tree(lines: &[&str]) -> Tree {
        let one = |line: &&str| {
            if let Some((link, target)) = line.split_once("=>") {
                (path(link), entry(Kind::HardLink(path(target))))
            } else if let Some((link, target)) = line.split_once("->") {
                (path(link), entry(Kind::Symlink(target.as_bytes().to_vec())))
            } else if let Some((file, text)) = line.split_once('=') {
                (path(file), entry(Kind::File(Content::of(text.as_bytes()))))
            } else {
                (path(line), entry(Kind::Directory))
            }
        };
        lines.iter().map(one).collect()
    }

    fn lines(tree: &Tree) -> Vec<String> {
        let line = |(path, entry): (&TreePath, &Entry)| match &entry.kind {
            Kind::Directory => format!("{path}/"),
            Kind::File(content) => format!("{path}={}", content.size),
            Kind::Symlink(target) => format!("{path}->{}", String::from_utf8_lossy(target)),
            Kind::HardLink(target) => format!("{path}=>{target}"),
            Kind::Fifo => format!("{path}|"),
        };
        tree.iter().map(line).collect()
    }

    /// What happens; the tree below, the tree above, and the layer between them.
    type Row = (
        &'static str,
        &'static [&'static str],
        &'static [&'static str],
        &'static [&'static str],
    );

    #[test]
    fn a_layer_says_what_changed_and_nothing_else() {
        let table: [Row; 9] = [
            ("same", &["/a/", "/a/f=x"], &["/a/", "/a/f=x"], &[]),
            ("added", &["/a/"], &["/a/", "/a/f=x"], &["/a/", "/a/f=1"]),
            (
                "changed",
                &["/a/", "/a/f=x"],
                &["/a/", "/a/f=yy"],
                &["/a/", "/a/f=2"],
            ),
            ("gone", &["/a/", "/a/f=x"], &["/a/"], &["/a/", "/a/.wh.f=0"]),
            (
                "directory gone",
                &["/a/", "/a/b/", "/a/b/c=x"],
                &["/a/"],
                &["/a/", "/a/.wh.b=0"],
            ),
            (
                "directory becomes file",
                &["/a/", "/a/b/", "/a/b/c=x"],
                &["/a/", "/a/b=y"],
                &["/a/", "/a/b=1"],
            ),
            ("file becomes link", &["/f=x"], &["/f->g"], &["/f->g"]),
            (
                "link into the lower layer",
                &["/f=x"],
                &["/f=x", "/g=>/f"],
                &["/g=1"],
            ),
            (
                "two links into the lower layer",
                &["/f=x"],
                &["/f=x", "/g=>/f", "/h=>/f"],
                &["/g=1", "/h=>/g"],
            ),
        ];
        for (case, lower, upper, expected) in table {
            let layer = diff(&tree(lower), &tree(upper), 0);
            assert_eq!(lines(&layer), expected, "{case}");
        }
    }

    #[test]
    fn metadata_counts_as_change() {
        let lower = tree(&["/f=x"]);
        let changes: [fn(&mut Entry); 5] = [
            |e| e.mode = 0o4755,
            |e| e.uid = 1,
            |e| e.gid = 1,
            |e| e.mtime = 8,
            |e| drop(e.xattrs.insert("security.capability".to_owned(), vec![1])),
        ];
        for change in changes {
            let mut upper = lower.clone();
            upper.values_mut().for_each(change);
            assert_eq!(diff(&lower, &upper, 0), upper);
        }
    }

    #[test]
    fn from_nothing_it_is_the_whole_tree() {
        let upper = tree(&["/a/", "/a/f=x", "/a/g=>/a/f", "/l->a"]);
        assert_eq!(diff(&Tree::new(), &upper, 0), upper);
    }
}

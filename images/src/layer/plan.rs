//! Putting layers on top of each other: pure, so that every rule is a table in a test.
//!
//! Rules: OCI image-spec, layer.md ("Applying Changesets"). Whiteouts and opaque directories act on the
//! layers below only, whatever their place in the archive.

use std::collections::{BTreeMap, VecDeque};

use super::index::{Attributes, LayerIndex, Node, put, remove_below};
use super::path::{EntryPath, NAME_MAX};
use crate::error::{EntryError, EntryProblem};

/// As many symbolic links as the kernel follows in one name (path_resolution(7)).
const MAX_LINKS: usize = 40;
/// Longest name that the kernel takes (PATH_MAX without its end).
const PATH_MAX: usize = 4095;
/// Most entries of a tree. One entry of a layer may imply a hundred directories, so the layers' own limits
/// do not bound their sum.
const MAX_ENTRIES: usize = 4_000_000;
/// Most bytes of names, link targets and extended attributes that are put into a tree.
const MAX_BYTES: u64 = 512 << 20;

/// A file tree: every entry has its parent directory in it, and none is [`Node::Link`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    entries: BTreeMap<EntryPath, Node>,
    /// Bytes of what was put in.
    weight: u64,
}

impl Default for Tree {
    fn default() -> Self {
        let root = Node::Directory(Attributes::implied_directory());
        Self {
            entries: BTreeMap::from([(EntryPath::root(), root)]),
            weight: 0,
        }
    }
}

impl Tree {
    /// The entries; a directory comes before what is in it.
    #[must_use]
    pub fn entries(&self) -> &BTreeMap<EntryPath, Node> {
        &self.entries
    }

    /// Bytes of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let size = |node: &Node| match node {
            Node::File { size, .. } => *size,
            Node::Directory(_)
            | Node::Empty(_)
            | Node::Symlink { .. }
            | Node::Fifo(_)
            | Node::Link { .. } => 0,
        };
        self.entries.values().map(size).sum()
    }

    /// Puts a layer on top.
    ///
    /// # Errors
    /// [`EntryError`] naming the entry that does not fit.
    pub fn apply(&mut self, layer: &LayerIndex) -> Result<(), EntryError> {
        // No archive says so, but an index that was damaged may.
        let root = EntryPath::root();
        if layer.whiteouts.contains(&root) {
            return Err(entry_error(&root, EntryProblem::Root));
        }
        let mut links = self.links_to_lower_layers(layer)?;
        self.hide(layer);
        for (path, node) in &layer.entries {
            let fail = |problem| entry_error(path, problem);
            let Node::Link { target } = node else {
                self.place(path, node.clone()).map_err(fail)?;
                continue;
            };
            match links.remove(path) {
                Some(node) => self.place(path, node).map_err(fail)?,
                None => self.link_within(path, target).map_err(fail)?,
            }
        }
        Ok(())
    }

    /// What the layer's open hard links name in the layers below, before the layer changes them.
    fn links_to_lower_layers(&self, layer: &LayerIndex) -> Result<BTreeMap<EntryPath, Node>, EntryError> {
        let mut found = BTreeMap::new();
        for (path, node) in &layer.entries {
            let Node::Link { target } = node else {
                continue;
            };
            if let Some(node) = self.link_target(target).map_err(|p| entry_error(path, p))? {
                found.insert(path.clone(), node);
            }
        }
        Ok(found)
    }

    /// A hard link whose target is neither in its own layer by name nor below: through a linked directory.
    fn link_within(&mut self, path: &EntryPath, target: &EntryPath) -> Result<(), EntryProblem> {
        let node = self
            .link_target(target)?
            .ok_or_else(|| EntryProblem::LinkTarget(target.to_string()))?;
        self.place(path, node)
    }

    fn link_target(&self, target: &EntryPath) -> Result<Option<Node>, EntryProblem> {
        let Some(real) = self.find(target) else {
            return Ok(None);
        };
        match self.entries.get(&real) {
            Some(Node::Directory(_)) => Err(EntryProblem::LinkToDirectory(target.to_string())),
            Some(node) => Ok(Some(node.clone())),
            None => Ok(None),
        }
    }

    fn hide(&mut self, layer: &LayerIndex) {
        for path in &layer.opaque {
            if let Some(real) = self.find(path) {
                remove_below(&mut self.entries, &real);
            }
        }
        for path in &layer.whiteouts {
            if let Some(real) = self.find(path) {
                remove_below(&mut self.entries, &real);
                self.entries.remove(&real);
            }
        }
    }

    fn place(&mut self, path: &EntryPath, node: Node) -> Result<(), EntryProblem> {
        let Some((parent, name)) = path.split() else {
            return self.put(path.clone(), node);
        };
        if matches!(self.entries.get(&parent), Some(Node::Directory(_))) {
            return self.put(path.clone(), node);
        }
        let (real, missing) = self.resolve(&parent)?;
        let mut real = real;
        for name in missing {
            // A link may name what no file can be called.
            if name.len() > NAME_MAX {
                return Err(EntryProblem::LongComponent);
            }
            real = real.join(&name);
            self.put(real.clone(), Node::Directory(Attributes::implied_directory()))?;
        }
        self.put(real.join(name), node)
    }

    fn put(&mut self, path: EntryPath, node: Node) -> Result<(), EntryProblem> {
        // What the links among its parents stand for may be longer than the name in the archive.
        if path.len() > PATH_MAX {
            return Err(EntryProblem::LongPath(PATH_MAX));
        }
        self.weight += path.len() as u64 + node.weight();
        if self.entries.len() >= MAX_ENTRIES || self.weight > MAX_BYTES {
            return Err(EntryProblem::TreeSize);
        }
        put(&mut self.entries, path, node)
    }

    /// The real name of an entry, after following links among its parents; none if a parent is missing.
    fn find(&self, path: &EntryPath) -> Option<EntryPath> {
        let Some((parent, name)) = path.split() else {
            return Some(path.clone());
        };
        if matches!(self.entries.get(&parent), Some(Node::Directory(_))) {
            return Some(path.clone());
        }
        // What a name behind a file, a circle or a way out of the tree stands for is not in the tree.
        let (real, missing) = self.resolve(&parent).ok()?;
        missing.is_empty().then(|| real.join(name))
    }

    /// Follows the directories of `path` as the kernel would with the tree as its root. Returns the
    /// deepest directory there is and the names below it that there are not.
    fn resolve(&self, path: &EntryPath) -> Result<(EntryPath, Vec<Vec<u8>>), EntryProblem> {
        let mut todo: VecDeque<Vec<u8>> = path.components().map(<[u8]>::to_vec).collect();
        let mut here = EntryPath::root();
        let mut links = 0;
        while let Some(name) = todo.pop_front() {
            if name == b".." {
                let up = here.parent();
                here = up.ok_or_else(|| EntryProblem::LinkedParent(path.to_string()))?;
                continue;
            }
            let next = here.join(&name);
            match self.entries.get(&next) {
                Some(Node::Directory(_)) => here = next,
                Some(Node::Symlink { target, .. }) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(EntryProblem::LinkedParent(next.to_string()));
                    }
                    if target.0.first() == Some(&b'/') {
                        here = EntryPath::root();
                    }
                    for part in target.0.split(|b| *b == b'/').rev() {
                        if !matches!(part, b"" | b".") {
                            todo.push_front(part.to_vec());
                        }
                    }
                }
                Some(Node::File { .. } | Node::Empty(_) | Node::Fifo(_) | Node::Link { .. }) => {
                    return Err(EntryProblem::ParentNotDirectory(next.to_string()));
                }
                None if todo.iter().any(|part| part == b"..") => {
                    return Err(EntryProblem::LinkedParent(next.to_string()));
                }
                None => {
                    todo.push_front(name);
                    return Ok((here, todo.into()));
                }
            }
        }
        Ok((here, Vec::new()))
    }
}

fn entry_error(path: &EntryPath, problem: EntryProblem) -> EntryError {
    EntryError {
        name: path.to_string(),
        problem,
    }
}

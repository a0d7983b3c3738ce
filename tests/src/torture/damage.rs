//! One file of a node is damaged, as a bad disk or a bad hand does it: that is found, or does no harm.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use node_agent::engine::Depth;

use super::inside::Place;
use super::inspect::{End, Violations};
use super::step::{Allowed, Step};
use super::tally::Tally;
use super::worker::Worker;

/// The disk of a node that has moved, that has refused a release, and that keeps a deployment.
const RICH: &str = "rich";

/// The disk that is damaged.
const VICTIM: &str = "victim";

/// How many files of a kind are damaged.
const OF_A_KIND: usize = 2;

/// What happens to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// One bit of the byte at this many eighths of the file changes, and nothing else.
    Flip(u64),
    /// The second half goes.
    Truncate,
    /// All of it goes, the name stays.
    Empty,
    /// The name goes, and all below it.
    Lose,
    /// It changes places with another one of its kind.
    Swap,
    /// Everybody may write to it.
    Open,
    /// A directory is in its place, or a file in that of a directory.
    Replace,
}

const WAYS: [Way; 10] = [
    Way::Flip(1),
    Way::Flip(3),
    Way::Flip(5),
    Way::Flip(7),
    Way::Truncate,
    Way::Empty,
    Way::Lose,
    Way::Swap,
    Way::Open,
    Way::Replace,
];

/// Damages everything, or every n-th thing.
///
/// # Errors
/// The test itself failed.
pub fn run(place: &Place, every: usize) -> Result<Tally> {
    let mut tally = Tally::new("damages");
    make_rich(place)?;
    let at = place.machine.disk();
    let mounted = place.disks.mount(RICH, &at)?;
    let kinds = kinds(&place.machine.roots().state)?;
    let objects = objects(&place.machine.roots().store())?;
    mounted.unmount()?;
    let mut tried = 0;
    for (kind, paths) in &kinds {
        for (number, path) in paths.iter().take(OF_A_KIND).enumerate() {
            let other = paths.get(number + 1).filter(|other| *other != path);
            for way in WAYS {
                tried += 1;
                if !usize::is_multiple_of(tried, every) {
                    continue;
                }
                place.disks.clone_disk(RICH, VICTIM)?;
                let mounted = place.disks.mount(VICTIM, &at)?;
                let mut names = names(path, &objects)?;
                if let (Way::Swap, Some(other)) = (way, other) {
                    names.extend(self::names(other, &objects)?);
                }
                if inflict(way, path, other.map(PathBuf::as_path))? {
                    let (what, wrong) = judge(place, &names)?;
                    let named = format!("{way:?} of {}", path.display());
                    let wrong: Violations = wrong.iter().map(|w| format!("{named}: {w}")).collect();
                    tally.count(&format!("{kind}: {what}"), &wrong);
                }
                mounted.unmount()?;
                place.disks.forget(VICTIM)?;
            }
        }
    }
    Ok(tally)
}

/// The names of objects by their inodes: files in trees are links to them.
fn objects(store: &Path) -> Result<BTreeMap<u64, String>> {
    let mut objects = BTreeMap::new();
    for shard in fs::read_dir(store.join("objects"))? {
        let shard = shard?;
        for object in fs::read_dir(shard.path())? {
            let object = object?;
            let name =
                [shard.file_name(), object.file_name()].map(|part| part.to_string_lossy().into_owned());
            objects.insert(object.metadata()?.ino(), name.concat());
        }
    }
    Ok(objects)
}

/// What a finding about a path may call it: the path, a digest in it, the object that it is, the deployment or the bundle
/// that it is in; and all that for everything below it.
fn names(path: &Path, objects: &BTreeMap<u64, String>) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    let mut todo = vec![path.to_owned()];
    while let Some(path) = todo.pop() {
        let meta = path.symlink_metadata()?;
        names.extend(objects.get(&meta.ino()).cloned());
        let parts: Vec<String> = path
            .iter()
            .map(|part| part.to_string_lossy().into_owned())
            .collect();
        names.extend(parts.iter().filter_map(|part| digest(part)));
        if let [.., before, number] = parts.as_slice()
            && before == "deployments"
        {
            names.insert(format!("deployment {number}"));
        }
        // The modes of a bundle's files are in its digest alone.
        if let Some(end) = parts.iter().position(|part| part == "services").map(|at| at + 2)
            && end < parts.len()
        {
            names.insert(format!(
                "{}: its files, their modes",
                parts[..end].iter().collect::<PathBuf>().display()
            ));
        }
        // A sum and its file are each other's only witness: the file is the one that is told.
        if path.ends_with("SHA256SUMS") {
            names.extend(path.parent().map(|deployment| deployment.display().to_string()));
        }
        if path.ends_with("deployment.json")
            && let [.., number, _] = parts.as_slice()
        {
            names.insert(format!("deployment {number}"));
        }
        if meta.is_dir() {
            for entry in fs::read_dir(&path)? {
                todo.push(entry?.path());
            }
        }
        names.insert(path.display().to_string());
    }
    Ok(names)
}

/// The digest that a file is named after.
fn digest(name: &str) -> Option<String> {
    let bare = name.split('.').next().unwrap_or_default();
    let is_one = bare.len() >= 32 && bare.bytes().all(|b| b.is_ascii_hexdigit());
    is_one.then(|| bare.to_owned())
}

fn make_rich(place: &Place) -> Result<()> {
    let mounted = place.begin(false)?;
    let steps = [Step::Upgrade("2".into()), Step::Upgrade("3".into())];
    let mut worker = Worker::start(place, &steps, &[])?;
    for _ in steps {
        worker.go()?;
    }
    worker.finish()?;
    let (engine, _) = place.machine.engine()?;
    engine
        .pin(None, "a reason")
        .map_err(|e| anyhow::anyhow!(e.chain()))?;
    place.inspector.found(&place.machine, Depth::Full)?;
    mounted.sync()?;
    mounted.unmount()?;
    place.disks.clone_disk(super::inside::LIVE, RICH)
}

/// Everything below the state directory, by kind: names with numbers and digests in them are of one kind.
fn kinds(state: &Path) -> Result<BTreeMap<String, Vec<PathBuf>>> {
    let mut kinds: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    let mut todo = vec![state.to_owned()];
    while let Some(path) = todo.pop() {
        let meta = path.symlink_metadata()?;
        if meta.is_dir() {
            for entry in fs::read_dir(&path)? {
                todo.push(entry?.path());
            }
        }
        let name = path.strip_prefix(state)?.to_string_lossy().into_owned();
        if !name.is_empty() {
            let kind = kind(&name, meta.is_dir());
            kinds.entry(kind).or_default().push(path);
        }
    }
    kinds.values_mut().for_each(|paths| paths.sort());
    Ok(kinds)
}

fn kind(name: &str, directory: bool) -> String {
    let parts: Vec<&str> = name.split('/').collect();
    let general = |part: &&str| {
        let bare = part.split('.').next().unwrap_or_default();
        let digits = !bare.is_empty() && bare.bytes().all(|b| b.is_ascii_hexdigit());
        match part.split_once('.') {
            Some((_, end)) if digits => format!("*.{end}"),
            None if digits => "*".to_owned(),
            Some(_) | None => (*part).to_owned(),
        }
    };
    let shown = match parts.as_slice() {
        ["store", "trees", _, _, ..] if directory => "store/trees/*/directory".to_owned(),
        ["store", "trees", _, _, ..] => "store/trees/*/file".to_owned(),
        ["deployments", _, "units", _] => "deployments/*/units/*".to_owned(),
        ["deployments", _, "services", _] => "deployments/*/services/*".to_owned(),
        ["deployments", _, "services", _, rest @ ..] => {
            format!("deployments/*/services/*/{}", rest.join("/"))
        }
        all => all.iter().map(general).collect::<Vec<_>>().join("/"),
    };
    if directory { format!("{shown}/") } else { shown }
}

/// Whether there was anything to damage in this way.
fn inflict(way: Way, path: &Path, other: Option<&Path>) -> Result<bool> {
    let meta = path.symlink_metadata()?;
    match way {
        Way::Flip(_) | Way::Truncate | Way::Empty if !meta.is_file() || meta.size() == 0 => return Ok(false),
        Way::Flip(eighth) => {
            let file = File::options().read(true).write(true).open(path)?;
            let at = meta.size() * eighth / 8;
            let mut byte = [0];
            file.read_exact_at(&mut byte, at)?;
            // Of ASCII it makes other ASCII.
            file.write_all_at(&[byte[0] ^ 1], at)?;
            file.set_modified(meta.modified()?)?;
        }
        Way::Truncate => File::options().write(true).open(path)?.set_len(meta.size() / 2)?,
        Way::Empty => File::options().write(true).open(path)?.set_len(0)?,
        Way::Lose => crate::cache::remove(path)?,
        Way::Swap => {
            let Some(other) = other else { return Ok(false) };
            let aside = path.with_extension("aside");
            fs::rename(path, &aside)?;
            fs::rename(other, path)?;
            fs::rename(&aside, other)?;
        }
        Way::Open if meta.is_symlink() => return Ok(false),
        Way::Open => fs::set_permissions(path, PermissionsExt::from_mode(meta.mode() | 0o022))?,
        Way::Replace => {
            crate::cache::remove(path)?;
            match (meta.is_symlink(), meta.is_dir()) {
                (true, _) => symlink("elsewhere", path)?,
                (false, true) => fs::write(path, "no directory")?,
                (false, false) => fs::create_dir(path)?,
            }
        }
    }
    Ok(true)
}

/// What became of it in a word, and what must not be. Whatever is found has to be called by one of the names, and a check
/// moves nothing.
fn judge(place: &Place, names: &BTreeSet<String>) -> Result<(&'static str, Violations)> {
    let rest = Allowed {
        found: ["2".to_owned()].into(),
        settled: ["2".to_owned()].into(),
        damaged: false,
    };
    let end = End::Cut("after the damage".to_owned());
    let current = place.machine.roots().current();
    let before = fs::read_link(&current).ok();
    place.machine.boot("with the damage").context("boot")?;
    let found = place.inspector.found(&place.machine, Depth::Full)?;
    if found.is_empty() {
        return Ok(("harmless", place.inspector.after(&place.machine, &end, &rest)?));
    }
    let mut wrong = Violations::new();
    let named = |text: &String| names.iter().any(|name| text.contains(name.as_str()));
    if !found.iter().any(named) {
        wrong.push(format!("what was found does not name it: {}", found.join("; ")));
    }
    let repaired = place.inspector.found(&place.machine, Depth::Repair)?.is_empty();
    if fs::read_link(&current).ok() != before {
        wrong.push("the check has moved current".to_owned());
    }
    if repaired {
        wrong.extend(place.inspector.after(&place.machine, &end, &rest)?);
        return Ok(("found, repaired", wrong));
    }
    Ok(("found", wrong))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_one_kind() {
        for (name, directory, expected) in [
            ("store/objects/ab/cdef01", false, "store/objects/*/*"),
            ("store/objects/ab", true, "store/objects/*/"),
            ("store/layers/ab01.json", false, "store/layers/*.json"),
            ("store/trees/ab01/usr/bin/cc", false, "store/trees/*/file"),
            ("store/trees/ab01", true, "store/trees/*/"),
            ("deployments/12/units/a.service", false, "deployments/*/units/*"),
            (
                "deployments/12/services/a/config.json",
                false,
                "deployments/*/services/*/config.json",
            ),
            (
                "deployments/12/deployment.json",
                false,
                "deployments/*/deployment.json",
            ),
            ("history.jsonl", false, "history.jsonl"),
        ] {
            assert_eq!(kind(name, directory), expected);
        }
    }
}

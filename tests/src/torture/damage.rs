//! One file of a node is damaged, as a bad disk or a bad hand does it: that is found, or does no harm.

use std::collections::BTreeMap;
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

/// Damages everything.
///
/// # Errors
/// The test itself failed.
pub fn run(place: &Place) -> Result<Tally> {
    let mut tally = Tally::new("damages");
    make_rich(place)?;
    let at = place.machine.disk();
    let mounted = place.disks.mount(RICH, &at)?;
    let kinds = kinds(&place.machine.roots().state)?;
    mounted.unmount()?;
    for (kind, paths) in &kinds {
        for (number, path) in paths.iter().take(OF_A_KIND).enumerate() {
            let other = paths.get(number + 1).filter(|other| *other != path);
            for way in WAYS {
                place.disks.clone_disk(RICH, VICTIM)?;
                let mounted = place.disks.mount(VICTIM, &at)?;
                if inflict(way, path, other.map(PathBuf::as_path))? {
                    let (what, wrong) = judge(place)?;
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

/// What became of it in a word, and what must not be.
fn judge(place: &Place) -> Result<(&'static str, Violations)> {
    let rest = Allowed {
        found: ["2".to_owned()].into(),
        settled: ["2".to_owned()].into(),
        damaged: false,
    };
    let end = End::Cut("after the damage".to_owned());
    place.machine.boot("with the damage").context("boot")?;
    if place.inspector.found(&place.machine, Depth::Full)?.is_empty() {
        return Ok(("harmless", place.inspector.after(&place.machine, &end, &rest)?));
    }
    if place.inspector.found(&place.machine, Depth::Repair)?.is_empty() {
        return Ok((
            "found, repaired",
            place.inspector.after(&place.machine, &end, &rest)?,
        ));
    }
    Ok(("found", Vec::new()))
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

//! The definitions of this repository, copied to where a test works, with a release of some of the images only: what
//! a test does not run need not be built for it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use toml::{Table, Value};

/// Copies the definitions to `work`; its release keeps the services whose images are in these repositories.
///
/// # Errors
/// A definition cannot be read, written or understood.
pub fn copy(work: &Path, repositories: &BTreeSet<&str>) -> Result<()> {
    for part in ["definitions", "services", "releases", "seccomp"] {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../images").join(part);
        copy_files(&from, &work.join(part))?;
    }
    let path = work.join("releases/compute.toml");
    let mut release = read(&path)?;
    let mut images = BTreeMap::new();
    for file in strings(release.get("services")) {
        let service = read(&work.join("releases").join(&file))?;
        let text = |key: &str| {
            service
                .get(key)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        images.insert(file, (text("name"), text("image")));
    }
    reduce(&mut release, &images, repositories);
    fs::write(&path, release.to_string()).with_context(|| format!("write {}", path.display()))
}

/// Leaves out services of other images, options of choices that are not whole then, and what else was in these.
/// `images`: file of a service → its name and its image.
fn reduce(release: &mut Table, images: &BTreeMap<String, (String, String)>, kept: &BTreeSet<&str>) {
    let others = images
        .values()
        .filter(|(_, image)| !kept.contains(image.as_str()));
    let mut gone: BTreeSet<String> = others.map(|(name, _)| name.clone()).collect();
    if let Some(Value::Table(choices)) = release.get_mut("choices") {
        for (_, choice) in choices.iter_mut() {
            if let Some(Value::Table(options)) = choice.get_mut("options") {
                gone.extend(drop_broken(options, &gone));
            }
        }
    }
    if let Some(Value::Array(files)) = release.get_mut("services") {
        files.retain(|file| {
            let name = file.as_str().and_then(|file| images.get(file));
            name.is_none_or(|(name, _)| !gone.contains(name))
        });
    }
    if let Some(Value::Table(table)) = release.get_mut("images") {
        table.retain(|image, _| kept.contains::<str>(image));
    }
}

/// Removes the options with a service that is gone; returns the services that were in these alone.
fn drop_broken(options: &mut Table, gone: &BTreeSet<String>) -> BTreeSet<String> {
    let mut broken = BTreeSet::new();
    options.retain(|_, services| {
        let services = strings(Some(services));
        let whole = services.iter().all(|service| !gone.contains(service));
        if !whole {
            broken.extend(services);
        }
        whole
    });
    let left: BTreeSet<String> = options
        .values()
        .flat_map(|services| strings(Some(services)))
        .collect();
    broken.difference(&left).cloned().collect()
}

fn strings(value: Option<&Value>) -> Vec<String> {
    let list = value.and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn read(path: &Path) -> Result<Table> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("understand {}", path.display()))
}

fn copy_files(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("create {}", to.display()))?;
    let entries = fs::read_dir(from).with_context(|| format!("read {}", from.display()))?;
    let mut copied = 0;
    for entry in entries {
        let path: PathBuf = entry?.path();
        let Some(name) = path.file_name().filter(|_| path.is_file()) else {
            continue;
        };
        fs::copy(&path, to.join(name)).with_context(|| format!("copy {}", path.display()))?;
        copied += 1;
    }
    ensure!(copied > 0, "{} has no definitions", from.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_without_some_images_has_their_services_nowhere() {
        let mut release: Table = toml::from_str(
            "services = ['a.toml', 'b.toml', 'c.toml', 'd.toml']\n[images.x]\nrepository = 'x'\n[images.y]\nrepository = 'y'\n\
             [choices.one.options]\nfirst = ['a']\nsecond = ['b', 'c', 'd']\nthird = ['b']\nnone = []\n",
        )
        .unwrap();
        let images = [("a", "x"), ("b", "x"), ("c", "y"), ("d", "x")]
            .map(|(name, image)| (format!("{name}.toml"), (name.to_owned(), image.to_owned())))
            .into();
        reduce(&mut release, &images, &["x"].into());
        assert_eq!(strings(release.get("services")), ["a.toml", "b.toml"]);
        assert_eq!(
            release["images"].as_table().unwrap().keys().collect::<Vec<_>>(),
            ["x"]
        );
        let options = release["choices"]["one"]["options"].as_table().unwrap();
        assert_eq!(options.keys().collect::<Vec<_>>(), ["first", "none", "third"]);
    }
}

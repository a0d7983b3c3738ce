//! `SHA256SUMS` of a deployment: what every other file in it has to be, in the form of sha256sum(1).

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use node_images::digest::Digest;

use crate::error::{AgentError, Result};

/// The file's name.
pub const NAME: &str = "SHA256SUMS";

/// The text for what is in a directory now.
///
/// # Errors
/// Something in it can't be read.
pub fn of(directory: &Path) -> Result<String> {
    let found = walk(directory)?;
    let lines = found.sums.iter();
    Ok(lines.map(|(path, sum)| format!("{sum}  {path}\n")).collect())
}

/// What is wrong with the files of a deployment, by path. One that was made by a version without sums has none to
/// compare.
///
/// # Errors
/// Something in it can't be read.
pub fn check(directory: &Path) -> Result<BTreeMap<String, &'static str>> {
    let found = walk(directory)?;
    let mut wrong = found.writable;
    let path = directory.join(NAME);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(wrong),
        Err(e) => return Err(AgentError::io("read", &path, e)),
    };
    let text = String::from_utf8_lossy(&bytes);
    let expected: BTreeMap<String, String> = text
        .lines()
        .filter_map(|line| line.split_once("  "))
        .map(|(sum, path)| (path.to_owned(), sum.to_owned()))
        .collect();
    for (path, sum) in &expected {
        match found.sums.get(path) {
            Some(is) if is == sum => {}
            Some(_) => drop(wrong.insert(path.clone(), "damaged")),
            None => drop(wrong.insert(path.clone(), "missing")),
        }
    }
    let extra = found.sums.into_keys().filter(|path| !expected.contains_key(path));
    wrong.extend(extra.map(|path| (path, "should not be there")));
    Ok(wrong)
}

#[derive(Default)]
struct Found {
    sums: BTreeMap<String, String>,
    writable: BTreeMap<String, &'static str>,
}

fn walk(directory: &Path) -> Result<Found> {
    let mut found = Found::default();
    let mut todo = vec![directory.to_owned()];
    while let Some(path) = todo.pop() {
        let failed = |e| AgentError::io("read", &path, e);
        let meta = path.symlink_metadata().map_err(failed)?;
        let name = path
            .strip_prefix(directory)
            .unwrap_or(&path)
            .display()
            .to_string();
        // Files of a bundle have the modes that their definition says, and the digest of the bundle covers them.
        let bundled = name.starts_with("services/") && !meta.is_dir();
        if !bundled && !meta.is_symlink() && meta.permissions().mode() & 0o022 != 0 {
            found
                .writable
                .insert(name.clone(), "others than root may write to it");
        }
        if meta.is_dir() {
            for entry in std::fs::read_dir(&path).map_err(failed)? {
                todo.push(entry.map_err(failed)?.path());
            }
        } else if name != NAME {
            let sum = if meta.is_file() {
                Digest::of(&std::fs::read(&path).map_err(failed)?).hex()
            } else {
                // None is made here, so that it has no sum.
                String::new()
            };
            found.sums.insert(name, sum);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_is_found() {
        let base = tempfile::tempdir().unwrap();
        let dir = base.path();
        std::fs::create_dir(dir.join("units")).unwrap();
        for (name, text) in [("a", "one"), ("units/b", "two")] {
            std::fs::write(dir.join(name), text).unwrap();
        }
        assert_eq!(
            check(dir).unwrap(),
            BTreeMap::new(),
            "an older version wrote no sums"
        );
        std::fs::write(dir.join(NAME), of(dir).unwrap()).unwrap();
        assert_eq!(check(dir).unwrap(), BTreeMap::new());
        std::fs::write(dir.join("a"), "onf").unwrap();
        std::fs::remove_file(dir.join("units/b")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.join("units/c")).unwrap();
        std::fs::set_permissions(dir.join("units"), PermissionsExt::from_mode(0o777)).unwrap();
        let wrong: Vec<(String, &str)> = check(dir).unwrap().into_iter().collect();
        let expected = [
            ("a", "damaged"),
            ("units", "others than root may write to it"),
            ("units/b", "missing"),
            ("units/c", "should not be there"),
        ];
        assert_eq!(wrong, expected.map(|(path, what)| (path.to_owned(), what)));
    }
}

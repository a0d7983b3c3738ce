//! What serde can't say about an image definition: names, ids, paths and contradictions.

use std::collections::BTreeMap;
use std::path::Path;

use super::definition::{Archive, Definition, FORMAT};

/// Checks a definition that was read from `file`; what is wrong names its key.
pub(super) fn check(definition: &Definition, file: &Path) -> Result<(), String> {
    if definition.format != FORMAT {
        return Err(format!(
            "format {} is not known, this version reads format {FORMAT}",
            definition.format
        ));
    }
    if file.file_stem().and_then(|stem| stem.to_str()) != Some(&definition.name) {
        return Err(format!("name {:?} is not the file's name", definition.name));
    }
    check_name("name", &definition.name)?;
    match (&definition.base, &definition.archive) {
        (Some(_), Some(_)) => return Err("both base and archive are given".to_owned()),
        (None, None) => return Err("neither base nor archive is given".to_owned()),
        (Some(base), None) => check_name("base", base)?,
        (None, Some(archive)) => check_archive(archive)?,
    }
    for package in definition.packages.iter().chain(definition.stand_ins.keys()) {
        check_name("packages", package)?;
    }
    check_accounts(definition)?;
    check_paths(definition)
}

fn check_archive(archive: &Archive) -> Result<(), String> {
    match archive.sources.first() {
        None => return Err("archive.sources is empty".to_owned()),
        Some(first) if first.suite != archive.suite => {
            return Err(format!(
                "archive.sources: the first one must have suite {:?}",
                archive.suite
            ));
        }
        Some(_) => {}
    }
    if archive.epoch.as_second() < 0 {
        return Err("archive.epoch is before 1970".to_owned());
    }
    let plain = |text: &str| !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c == ']');
    for source in &archive.sources {
        let keyring = source.keyring.to_string_lossy();
        for text in [&source.uri, &source.suite, keyring.as_ref()]
            .into_iter()
            .chain(source.components.iter().map(String::as_str))
        {
            if !plain(text) {
                return Err(format!("archive.sources: {text:?} is empty or has white space"));
            }
        }
    }
    Ok(())
}

/// Debian's rule for package names is the strictest of all names here; it keeps shells out of trouble.
fn check_name(key: &str, name: &str) -> Result<(), String> {
    let mut bytes = name.bytes();
    let first = bytes
        .next()
        .is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if first && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b)) {
        Ok(())
    } else {
        Err(format!("{key}: {name:?} is not a lower-case name"))
    }
}

fn check_accounts(definition: &Definition) -> Result<(), String> {
    let plain = |text: &str| !text.is_empty() && !text.contains([':', '\n', ',']);
    let mut gids = BTreeMap::new();
    for (name, gid) in &definition.groups {
        if !plain(name) {
            return Err(format!("groups: {name:?} is not a group name"));
        }
        if let Some(other) = gids.insert(gid, name) {
            return Err(format!("groups: {other} and {name} both have id {gid}"));
        }
    }
    let mut uids = BTreeMap::new();
    for (name, user) in &definition.users {
        if !plain(name) || !plain(&user.home) || !plain(&user.shell) {
            return Err(format!(
                "users: {name:?}: name, home or shell is not usable in passwd(5)"
            ));
        }
        if let Some(other) = uids.insert(user.uid, name) {
            return Err(format!("users: {other} and {name} both have id {}", user.uid));
        }
    }
    check_ids(definition)
}

/// The highest number is no id: chown(2) and setresuid(2) take it for "leave it as it is".
fn check_ids(definition: &Definition) -> Result<(), String> {
    let groups = definition.groups.iter().map(|(name, gid)| ("groups", name, *gid));
    let users = definition
        .users
        .iter()
        .map(|(name, user)| ("users", name, user.uid));
    let directories = definition.directories.iter();
    let directories =
        directories.flat_map(|d| [("directories", &d.path, d.uid), ("directories", &d.path, d.gid)]);
    let files = definition.files.iter();
    let files = files.flat_map(|f| [("files", &f.path, f.uid), ("files", &f.path, f.gid)]);
    match groups
        .chain(users)
        .chain(directories)
        .chain(files)
        .find(|(.., id)| *id == u32::MAX)
    {
        Some((key, name, id)) => Err(format!("{key}: {name}: {id} is no id")),
        None => Ok(()),
    }
}

fn check_paths(definition: &Definition) -> Result<(), String> {
    let directories = definition.directories.iter().map(|d| ("directories", &d.path));
    let files = definition.files.iter().map(|f| ("files", &f.path));
    let removed = definition.remove.iter().map(|p| ("remove", p));
    let kept = definition.keep.iter().map(|p| ("keep", p));
    for (key, path) in directories.chain(files).chain(removed).chain(kept) {
        let clean = path
            .strip_prefix('/')
            .is_some_and(|rest| rest.split('/').all(|name| !matches!(name, "" | "." | "..")));
        if !clean {
            return Err(format!("{key}: {path:?} is not an absolute, clean path"));
        }
    }
    Ok(())
}

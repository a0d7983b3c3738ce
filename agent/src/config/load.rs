//! Reading the node's configuration, and the one file that nodectl writes itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use node_images::durable;
use serde_json::Value;
use toml::Table;

use super::Settings;
use super::fragment::Fragment;
use super::merge::Merged;
use crate::error::{AgentError, Kind, Result};
use crate::root::Roots;

/// Parameters to set (`Some`) and to unset (`None`), by name.
pub type Changes = BTreeMap<String, Option<Value>>;

/// Reads, merges and checks the node's configuration. A node without any has the defaults.
///
/// # Errors
/// A file can't be read, is not TOML, or has an unknown key; the error names file and key.
pub fn load(roots: &Roots) -> Result<Settings> {
    load_with(roots, &Changes::new())
}

/// As [`load`], as it would be with these changes of parameters. Writes nothing.
///
/// # Errors
/// As [`load`].
pub fn load_with(roots: &Roots, changes: &Changes) -> Result<Settings> {
    let mut merged = Merged::default();
    let own = roots.operator_parameters();
    let mut files = files(roots)?;
    if !changes.is_empty() && !files.contains(&own) {
        files.push(own.clone());
        // node.toml comes before all drop-ins, also by name.
        files.sort_by_key(|f| (f.parent() == Some(&roots.node_toml_d()), f.clone()));
    }
    for file in files {
        let table = if file == own {
            changed(&own, changes)?
        } else {
            read(&file)?
        };
        let fragment: std::result::Result<Fragment, _> = table.clone().try_into();
        fragment.map_err(|e| not_ours(&file).because(e))?;
        merged.overlay(&file, table);
    }
    let fragment: Fragment = merged.table.clone().try_into().map_err(|e| {
        AgentError::config(format!(
            "configuration in {} does not fit together",
            roots.config.display()
        ))
        .because(e)
    })?;
    let mut settings = Settings::from(fragment);
    settings.origins = merged.origins;
    settings.document = merged.table;
    Ok(settings)
}

/// `node.toml` if there is one, then the drop-ins by name.
fn files(roots: &Roots) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let main = roots.node_toml();
    if main.try_exists().map_err(|e| unreadable(&main).because(e))? {
        files.push(main);
    }
    let directory = roots.node_toml_d();
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(files),
        Err(e) => return Err(unreadable(&directory).because(e)),
    };
    let mut more = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| unreadable(&directory).because(e))?.path();
        let hidden = path
            .file_name()
            .is_some_and(|n| n.to_string_lossy().starts_with('.'));
        if path.extension().is_some_and(|e| e == "toml") && !hidden {
            more.push(path);
        }
    }
    more.sort();
    files.append(&mut more);
    Ok(files)
}

fn unreadable(path: &Path) -> AgentError {
    AgentError::config(format!("can't read configuration {}", path.display()))
}

fn not_ours(path: &Path) -> AgentError {
    AgentError::config(format!("{} is not a node configuration", path.display()))
}

fn read(path: &Path) -> Result<Table> {
    let text = std::fs::read_to_string(path).map_err(|e| unreadable(path).because(e))?;
    // Read as what it should be first: that error names the line.
    toml::from_str::<Fragment>(&text).map_err(|e| not_ours(path).because(e))?;
    toml::from_str(&text).map_err(|e| not_ours(path).because(e))
}

/// The file that nodectl itself writes, with these changes.
fn changed(path: &Path, changes: &Changes) -> Result<Table> {
    let mut table = if path.try_exists().map_err(|e| unreadable(path).because(e))? {
        read(path)?
    } else {
        Table::new()
    };
    let parameters = table.entry("parameters").or_insert_with(|| Table::new().into());
    let Some(parameters) = parameters.as_table_mut() else {
        return Err(not_ours(path));
    };
    for (name, value) in changes {
        match value {
            Some(value) => {
                let value = toml::Value::try_from(value).map_err(|e| {
                    AgentError::config(format!("parameter {name} can't be written")).because(e)
                })?;
                parameters.insert(name.clone(), value);
            }
            None => {
                parameters.remove(name);
            }
        }
    }
    Ok(table)
}

/// Durably makes these changes in the file that nodectl itself writes. May be repeated.
///
/// # Errors
/// The file is not TOML or can't be written.
pub fn write_parameters(roots: &Roots, changes: &Changes) -> Result<()> {
    if changes.is_empty() {
        return Ok(());
    }
    let path = roots.operator_parameters();
    let table = changed(&path, changes)?;
    let text = format!("# Written by `nodectl set`.\n{table}");
    let directory = roots.node_toml_d();
    durable::create_directories(&directory).map_err(|e| AgentError::io("create", &directory, e))?;
    durable::write_file(&path, text.as_bytes(), 0o644)
        .map_err(|e| AgentError::from_leaf(Kind::CannotWrite, "can't save the parameters", e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(files: &[(&str, &str)]) -> (tempfile::TempDir, Roots) {
        let base = tempfile::tempdir().unwrap();
        let roots = Roots::under(base.path());
        std::fs::create_dir_all(roots.node_toml_d()).unwrap();
        for (name, text) in files {
            std::fs::write(roots.config.join(name), text).unwrap();
        }
        (base, roots)
    }

    #[test]
    fn an_empty_node_has_the_defaults() {
        let base = tempfile::tempdir().unwrap();
        let settings = load(&Roots::under(base.path())).unwrap();
        assert_eq!(settings.keep, 3);
    }

    #[test]
    fn drop_ins_win_in_the_order_of_their_names() {
        let (_base, roots) = node(&[
            ("node.toml", "[parameters]\na = 1\nb = 1\nc = 1"),
            ("node.toml.d/20.toml", "[parameters]\nc = 3"),
            ("node.toml.d/10.toml", "[parameters]\nb = 2\nc = 2"),
            ("node.toml.d/.30.toml", "broken ["),
            ("node.toml.d/notes.txt", "broken ["),
        ]);
        let settings = load(&roots).unwrap();
        assert_eq!(settings.parameters["a"], json!(1));
        assert_eq!(settings.parameters["b"], json!(2));
        assert_eq!(settings.parameters["c"], json!(3));
        assert!(settings.origin("parameters.c").unwrap().ends_with("20.toml"));
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_file() {
        let (_base, roots) = node(&[
            ("node.toml", ""),
            ("node.toml.d/a.toml", "[registries]\nmirors = {}"),
        ]);
        let error = load(&roots).unwrap_err();
        assert_eq!(error.exit_code() as u8, 78);
        assert!(
            error.chain().contains("a.toml") && error.chain().contains("mirors"),
            "{}",
            error.chain()
        );
    }

    #[test]
    fn set_and_unset_touch_one_parameter() {
        let (_base, roots) = node(&[("node.toml", "[parameters]\na = 1")]);
        let changes = Changes::from([
            ("a".to_owned(), Some(json!(2))),
            ("l".to_owned(), Some(json!(["x"]))),
        ]);
        assert_eq!(load_with(&roots, &changes).unwrap().parameters["a"], json!(2));
        assert_eq!(
            load(&roots).unwrap().parameters["a"],
            json!(1),
            "nothing is written yet"
        );
        write_parameters(&roots, &changes).unwrap();
        assert_eq!(load(&roots).unwrap().parameters["a"], json!(2));
        let unset = Changes::from([("a".to_owned(), None)]);
        assert_eq!(load_with(&roots, &unset).unwrap().parameters["a"], json!(1));
        write_parameters(&roots, &unset).unwrap();
        let settings = load(&roots).unwrap();
        assert_eq!(settings.parameters["a"], json!(1));
        assert_eq!(settings.parameters["l"], json!(["x"]));
    }

    #[test]
    fn a_later_drop_in_wins_over_what_is_set() {
        let (_base, roots) = node(&[("node.toml.d/95.toml", "[parameters]\na = 5")]);
        let changes = Changes::from([("a".to_owned(), Some(json!(2)))]);
        assert_eq!(load_with(&roots, &changes).unwrap().parameters["a"], json!(5));
    }
}

//! Reading the node's configuration, and the one file that nodectl writes itself.

use std::path::{Path, PathBuf};

use node_images::durable;
use serde_json::Value;
use toml::Table;

use super::Settings;
use super::fragment::Fragment;
use super::merge::Merged;
use crate::error::{AgentError, Kind, Result};
use crate::root::Roots;

/// Reads, merges and checks the node's configuration. A node without any has the defaults.
///
/// # Errors
/// A file can't be read, is not TOML, or has an unknown key; the error names file and key.
pub fn load(roots: &Roots) -> Result<Settings> {
    let mut merged = Merged::default();
    for file in files(roots)? {
        let text = std::fs::read_to_string(&file).map_err(|e| unreadable(&file).because(e))?;
        let wrong = || AgentError::config(format!("{} is not a node configuration", file.display()));
        toml::from_str::<Fragment>(&text).map_err(|e| wrong().because(e))?;
        let table: Table = toml::from_str(&text).map_err(|e| wrong().because(e))?;
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

/// Durably sets (`Some`) or unsets (`None`) one parameter in the file that nodectl itself writes.
///
/// # Errors
/// The file is not TOML or can't be written.
pub fn write_parameter(roots: &Roots, name: &str, value: Option<&Value>) -> Result<()> {
    let path = roots.operator_parameters();
    let mut table: Table = match std::fs::read_to_string(&path) {
        Ok(text) => toml::from_str(&text).map_err(|e| {
            AgentError::config(format!("{} is not a node configuration", path.display())).because(e)
        })?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Table::new(),
        Err(e) => return Err(unreadable(&path).because(e)),
    };
    let parameters = table.entry("parameters").or_insert_with(|| Table::new().into());
    let Some(parameters) = parameters.as_table_mut() else {
        return Err(AgentError::config(format!(
            "parameters in {} is not a table",
            path.display()
        )));
    };
    match value {
        Some(value) => {
            let value = toml::Value::try_from(value)
                .map_err(|e| AgentError::config(format!("parameter {name} can't be written")).because(e))?;
            parameters.insert(name.into(), value);
        }
        None => {
            parameters.remove(name);
        }
    }
    let text = format!("# Written by `nodectl set`.\n{table}");
    let directory = roots.node_toml_d();
    std::fs::create_dir_all(&directory).map_err(|e| AgentError::io("create", &directory, e))?;
    durable::write_file(&path, text.as_bytes(), 0o644)
        .map_err(|e| AgentError::from_leaf(Kind::CannotWrite, "can't save the parameter", e))
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
        write_parameter(&roots, "a", Some(&json!(2))).unwrap();
        write_parameter(&roots, "l", Some(&json!(["x"]))).unwrap();
        assert_eq!(load(&roots).unwrap().parameters["a"], json!(2));
        write_parameter(&roots, "a", None).unwrap();
        let settings = load(&roots).unwrap();
        assert_eq!(settings.parameters["a"], json!(1));
        assert_eq!(settings.parameters["l"], json!(["x"]));
    }
}

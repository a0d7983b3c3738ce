//! `node.toml` and drop-ins: what is accepted is merged as TOML tables are, each value has the file that set it last,
//! and what `nodectl set` writes is what it had announced.
//!
//! Fields: `node.toml`, two drop-ins, then changes of parameters: `name=JSON`, or `name` to unset one.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use node_agent::config::{Changes, Settings, load, load_with, write_parameters};
use node_agent::root::Roots;
use toml::{Table, Value};

use super::fields::fields;

const FILES: [&str; 3] = ["node.toml", "node.toml.d/10.toml", "node.toml.d/99.toml"];

/// What an earlier `set` may have left.
const OWN: &str = "[parameters]\ns = 1\nb = 2\n";

pub fn run(data: &[u8]) {
    let Some(fields) = fields(data) else { return };
    let roots = roots();
    write(roots, &fields);
    let Ok(settings) = load(roots) else { return };
    let texts = FILES.iter().zip(&fields);
    let mut tables: Vec<(PathBuf, Table)> = texts
        .map(|(name, text)| {
            (
                roots.config.join(name),
                toml::from_str(text).expect("it was read"),
            )
        })
        .collect();
    let own = toml::from_str(OWN).expect("TOML");
    tables.push((roots.operator_parameters(), own));
    tables.sort_by_key(|(file, _)| (file.parent() == Some(&roots.node_toml_d()), file.clone()));
    check_merge(&settings, &tables);
    check_alone(roots, &settings);
    write(roots, &fields);
    check_changes(roots, &settings, fields.get(FILES.len()..).unwrap_or_default());
}

fn write(roots: &Roots, fields: &[&str]) {
    fs::write(roots.operator_parameters(), OWN).expect("written");
    for (index, name) in FILES.iter().enumerate() {
        let text = fields.get(index).copied().unwrap_or_default();
        fs::write(roots.config.join(name), text).expect("written");
    }
}

fn roots() -> &'static Roots {
    static ROOTS: OnceLock<Roots> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let base = std::env::temp_dir().join(format!("nodectl-fuzz-{}", std::process::id()));
        let roots = Roots::under(&base);
        fs::create_dir_all(roots.node_toml_d()).expect("a directory");
        roots
    })
}

fn check_merge(settings: &Settings, tables: &[(PathBuf, Table)]) {
    let mut merged = Table::new();
    for (_, table) in tables {
        lay(&mut merged, table);
    }
    // NaN is not itself; texts are compared.
    assert_eq!(settings.document.to_string(), merged.to_string());
    for (key, path) in leaves(&merged) {
        let last = tables.iter().rev().find(|(_, table)| at(table, &path).is_some());
        let (file, _) = last.expect("some file has it");
        // Keys with dots are named like others.
        if path.iter().all(|part| !part.contains('.')) {
            let origin = settings.origin(&key);
            let dotted = settings.origins.keys().any(|k| *k != key && k.starts_with(&key));
            assert!(
                origin == Some(file) || dotted,
                "{key} is from {file:?}, not from {origin:?}"
            );
        }
    }
}

fn lay(base: &mut Table, over: &Table) {
    for (key, value) in over {
        match (base.get_mut(key), value) {
            (Some(Value::Table(base)), Value::Table(over)) => lay(base, over),
            _ => {
                base.insert(key.clone(), value.clone());
            }
        }
    }
}

fn leaves(table: &Table) -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::new();
    for (key, value) in table {
        match value {
            Value::Table(below) => {
                for (name, mut path) in leaves(below) {
                    path.insert(0, key.clone());
                    found.insert(format!("{key}.{name}"), path);
                }
            }
            _ => drop(found.insert(key.clone(), vec![key.clone()])),
        }
    }
    found
}

fn at<'a>(table: &'a Table, path: &[String]) -> Option<&'a Value> {
    let (last, before) = path.split_last()?;
    let mut table = table;
    for part in before {
        table = table.get(part)?.as_table()?;
    }
    table.get(last)
}

/// The merged document, written as the only file, is the same configuration.
fn check_alone(roots: &Roots, settings: &Settings) {
    for file in FILES[1..]
        .iter()
        .map(|name| roots.config.join(name))
        .chain([roots.operator_parameters()])
    {
        fs::write(file, "").expect("written");
    }
    fs::write(roots.node_toml(), settings.document.to_string()).expect("written");
    let alone = load(roots).expect("the merged document is a configuration");
    assert_eq!(said(&alone), said(settings));
}

/// Everything but where it came from.
fn said(settings: &Settings) -> String {
    let mut settings = settings.clone();
    settings.origins.clear();
    settings.document = Table::new();
    format!("{settings:?}")
}

fn check_changes(roots: &Roots, before: &Settings, fields: &[&str]) {
    let mut changes = Changes::new();
    for field in fields {
        match field.split_once('=') {
            Some((name, value)) => {
                let Ok(value) = serde_json::from_str(value) else {
                    return;
                };
                changes.insert(name.to_owned(), Some(value));
            }
            None => drop(changes.insert((*field).to_owned(), None)),
        }
    }
    let Ok(announced) = load_with(roots, &changes) else {
        return;
    };
    assert_eq!(said(&load(roots).expect("nothing was written")), said(before));
    if write_parameters(roots, &changes).is_ok() {
        let written = load(roots).expect("what was announced and written reads back");
        assert_eq!(said(&written), said(&announced));
        let own = fs::read_to_string(roots.operator_parameters()).unwrap_or_default();
        let own: Table = toml::from_str(&own).expect("it is TOML");
        let parameters = own.get("parameters").and_then(Value::as_table);
        for (name, value) in &changes {
            let found = parameters.and_then(|parameters| parameters.get(name));
            assert_eq!(
                found.is_some(),
                value.is_some(),
                "{name} was set or unset, and is not"
            );
        }
        write_parameters(roots, &changes).expect("it may be repeated");
        assert_eq!(said(&load(roots).expect("as before")), said(&announced));
    }
}

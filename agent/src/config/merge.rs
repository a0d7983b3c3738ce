//! Merging of configuration files, pure.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

/// A merged document that remembers which file set each value.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Merged {
    /// The document.
    pub table: Table,
    /// Dotted key of each value that is not a table → the file that set it.
    pub origins: BTreeMap<String, PathBuf>,
}

impl Merged {
    /// Lays a file over what is there: tables are merged, everything else is replaced.
    pub fn overlay(&mut self, file: &Path, table: Table) {
        overlay(&mut self.table, table, "", &mut |key| {
            let below = format!("{key}.");
            self.origins.retain(|k, _| k != &key && !k.starts_with(&below));
            self.origins.insert(key, file.to_owned());
        });
    }
}

fn overlay(base: &mut Table, over: Table, prefix: &str, set: &mut dyn FnMut(String)) {
    for (key, value) in over {
        let path = if prefix.is_empty() {
            key.clone()
        } else {
            format!("{prefix}.{key}")
        };
        match (base.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => overlay(below, above, &path, set),
            (_, Value::Table(above)) => {
                let mut fresh = Table::new();
                overlay(&mut fresh, above, &path, set);
                base.insert(key, Value::Table(fresh));
            }
            (_, value) => {
                set(path);
                base.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_files_win_value_by_value() {
        let mut merged = Merged::default();
        merged.overlay(
            Path::new("a"),
            toml::from_str("[parameters]\nx = 1\ny = 2\n[secrets]\ns = '/a'").unwrap(),
        );
        merged.overlay(
            Path::new("b"),
            toml::from_str("services = ['n']\n[parameters]\ny = 3").unwrap(),
        );
        assert_eq!(merged.table["parameters"]["x"].as_integer(), Some(1));
        assert_eq!(merged.table["parameters"]["y"].as_integer(), Some(3));
        assert_eq!(merged.origins["parameters.x"], Path::new("a"));
        assert_eq!(merged.origins["parameters.y"], Path::new("b"));
        assert_eq!(merged.origins["services"], Path::new("b"));
    }
}

//! What serde can't say about a definition: names, paths and contradictions.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use super::{Content, Definition, FORMAT, FileFormat};

/// A definition that contradicts itself or this version.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DefinitionError {
    /// Written for another version.
    #[error("format {0} is not known to this version, which reads format {FORMAT}")]
    Format(u32),
    /// Not usable as a unit or directory name.
    #[error("{what} {name:?} has to consist of letters, digits, '.', '_' and '-', beginning with a letter")]
    Name {
        /// What is named so.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// Not an absolute path without `.` and `..`.
    #[error("{what} {path:?} has to be an absolute path without '.' and '..'")]
    Path {
        /// What is there.
        what: &'static str,
        /// The path.
        path: String,
    },
    /// Used twice.
    #[error("{what} {name:?} is given twice")]
    Duplicate {
        /// What is given twice.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// Restarted in one step, and yet something to be saved between stop and start.
    #[error("a service with a handover is restarted in one step and can't have [[state]]")]
    HandoverWithState,
    /// A file whose content does not fit its format.
    #[error("file {target:?}: {reason}")]
    File {
        /// Its target.
        target: String,
        /// What does not fit.
        reason: String,
    },
}

impl Definition {
    /// Checks everything that can be checked without a release or a node.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), DefinitionError> {
        if self.format != FORMAT {
            return Err(DefinitionError::Format(self.format));
        }
        check_name("service", &self.name)?;
        check_name("image", &self.image)?;
        self.check_files()?;
        self.check_gates()?;
        if let Some(cell) = &self.cell {
            check_path(
                "cell command",
                Path::new(cell.command.first().map_or("", String::as_str)),
            )?;
        }
        for state in &self.state {
            check_path("state", &state.path)?;
        }
        if self.handover.is_some() && !self.state.is_empty() {
            return Err(DefinitionError::HandoverWithState);
        }
        Ok(())
    }

    fn check_gates(&self) -> Result<(), DefinitionError> {
        let mut seen = BTreeSet::new();
        for gate in &self.gates {
            if !seen.insert(&gate.name) {
                return Err(DefinitionError::Duplicate {
                    what: "gate",
                    name: gate.name.clone(),
                });
            }
        }
        Ok(())
    }

    fn check_files(&self) -> Result<(), DefinitionError> {
        let mut seen = BTreeSet::new();
        let targets = self
            .files
            .iter()
            .map(|f| &f.target)
            .chain(self.secret_files.iter().map(|f| &f.target));
        for target in targets {
            check_path("file", target)?;
            if !seen.insert(target) {
                let name = target.display().to_string();
                return Err(DefinitionError::Duplicate { what: "file", name });
            }
        }
        for file in &self.files {
            let wrong = |reason: &str| DefinitionError::File {
                target: file.target.display().to_string(),
                reason: reason.into(),
            };
            match file.format {
                FileFormat::Text if file.text.is_none() => return Err(wrong("format text needs text")),
                FileFormat::Text if !file.content.is_empty() => {
                    return Err(wrong("format text has no use for content"));
                }
                FileFormat::Ini | FileFormat::Toml | FileFormat::Json if file.text.is_some() => {
                    return Err(wrong("text is for format text only"));
                }
                FileFormat::Ini => check_ini(&file.content).map_err(|reason| wrong(&reason))?,
                FileFormat::Text | FileFormat::Toml | FileFormat::Json => {}
            }
            if !file.content.values().all(Content::is_finite) {
                return Err(wrong("nan and inf can't be in a release"));
            }
        }
        self.check_secret_files()
    }

    fn check_secret_files(&self) -> Result<(), DefinitionError> {
        for file in &self.secret_files {
            let wrong = |reason: String| DefinitionError::File {
                target: file.target.display().to_string(),
                reason,
            };
            for (section, keys) in &file.content {
                check_ini_word(section).map_err(wrong)?;
                for (key, value) in keys {
                    check_ini_key(key).map_err(wrong)?;
                    check_name("secret", &value.secret)?;
                }
            }
        }
        Ok(())
    }
}

/// INI has two levels: sections of scalars and lists of scalars.
fn check_ini(content: &std::collections::BTreeMap<String, Content>) -> Result<(), String> {
    for (section, keys) in content {
        check_ini_word(section)?;
        let Content::Table(keys) = keys else {
            return Err(format!("{section:?} has to be a section"));
        };
        for (key, value) in keys {
            check_ini_key(key)?;
            match value {
                Content::Parameter(_) | Content::Fact(_) | Content::Scalar(_) => {}
                Content::List(list) => {
                    if list
                        .iter()
                        .any(|c| matches!(c, Content::List(_) | Content::Table(_)))
                    {
                        return Err(format!(
                            "list {key:?} in [{section}] holds more than plain values"
                        ));
                    }
                }
                Content::Table(_) => {
                    return Err(format!("{key:?} in [{section}] can't be a table in an INI file"));
                }
            }
        }
    }
    Ok(())
}

/// A key that means the same to every INI reader: for oslo.config and others it ends at a colon, too.
pub(crate) fn check_ini_key(key: &str) -> Result<(), String> {
    check_ini_word(key)?;
    if key.contains(':') {
        return Err(format!(
            "{key:?} is not a name that an INI file can hold: a colon ends a key"
        ));
    }
    Ok(())
}

/// A section or key name that means the same to every INI reader.
pub(crate) fn check_ini_word(word: &str) -> Result<(), String> {
    let fine = !word.is_empty()
        && word
            .chars()
            .all(|c| c.is_ascii_graphic() && !matches!(c, '[' | ']' | '=' | '#' | ';'));
    if fine {
        Ok(())
    } else {
        Err(format!("{word:?} is not a name that an INI file can hold"))
    }
}

/// A name that is safe as a unit name, a directory name and a credential name.
pub(crate) fn check_name(what: &'static str, name: &str) -> Result<(), DefinitionError> {
    let mut chars = name.chars();
    let fine = chars.next().is_some_and(|c| c.is_ascii_alphabetic())
        && chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
        && name.len() <= 128;
    if fine {
        Ok(())
    } else {
        Err(DefinitionError::Name {
            what,
            name: name.into(),
        })
    }
}

/// Below the root, and spelled in the one way that its components spell: `/etc/x/.` and `/.` are
/// other names of `/etc/x` and of the root.
pub(super) fn check_path(what: &'static str, path: &Path) -> Result<(), DefinitionError> {
    let mut components = path.components();
    let below_root = components.next() == Some(Component::RootDir)
        && components.clone().next().is_some()
        && components.all(|c| matches!(c, Component::Normal(_)));
    let canonical = path.components().collect::<PathBuf>().as_os_str() == path.as_os_str();
    let text = path.to_string_lossy();
    if below_root && canonical && !text.contains('\0') {
        Ok(())
    } else {
        Err(DefinitionError::Path {
            what,
            path: text.into_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "format = 1\nname = \"s\"\ndescription = \"d\"\nimage = \"i\"\n";

    fn verdict(more: &str) -> String {
        match Definition::parse(&format!("{BASE}{more}"), Path::new("s.toml")) {
            Ok(_) => "ok".into(),
            Err(e) => e.chain(),
        }
    }

    #[test]
    fn the_smallest_definition_is_fine() {
        assert_eq!(verdict(""), "ok");
    }

    #[test]
    fn each_mistake_is_named_with_its_file() {
        let table = [
            ("colour = 1\n", "colour"),
            ("[container]\ncolour = 1\n", "colour"),
            ("[unit]\ncolour = 1\n", "colour"),
            ("[[files]]\ntarget = \"etc/x\"\nformat = \"ini\"\n", "\"etc/x\""),
            (
                "[[files]]\ntarget = \"/etc/../x\"\nformat = \"ini\"\n",
                "/etc/../x",
            ),
            ("[[files]]\ntarget = \"/x\"\nformat = \"text\"\n", "needs text"),
            (
                "[[files]]\ntarget = \"/x\"\nformat = \"json\"\ntext = \"\"\n",
                "for format text only",
            ),
            (
                "[[files]]\ntarget = \"/x\"\nformat = \"ini\"\n[files.content]\na = 1\n",
                "has to be a section",
            ),
            (
                "[[files]]\ntarget = \"/x\"\nformat = \"ini\"\n[files.content.\"a]b\"]\nc = 1\n",
                "a]b",
            ),
            (
                "[[files]]\ntarget = \"/x\"\nformat = \"ini\"\n[files.content.a]\n\"b:c\" = 1\n",
                "b:c",
            ),
            (
                "[[secret_files]]\ntarget = \"/x\"\n[secret_files.content.a]\n\"b:c\" = { secret = \"c\" }\n",
                "b:c",
            ),
            (
                "[[secret_files]]\ntarget = \"/x\"\n[secret_files.content.a]\nb = { secret = \"../c\" }\n",
                "../c",
            ),
            (
                "[[files]]\ntarget = \"/x\"\nformat = \"ini\"\n[[secret_files]]\ntarget = \"/x\"\ncontent = {}\n",
                "given twice",
            ),
            (
                "[[files]]\ntarget = \"/x\"\nformat = \"toml\"\n[files.content.a]\nb = [1, nan]\n",
                "nan and inf",
            ),
            ("[[state]]\npath = \"conf.db\"\n", "conf.db"),
            ("[handover]\nkind = \"magic\"\n", "magic"),
            (
                "[handover]\nkind = \"ovs-dataplane\"\n[[state]]\npath = \"/x\"\n",
                "can't have [[state]]",
            ),
        ];
        for (more, expected) in table {
            let got = verdict(more);
            assert!(
                got.contains(expected) && got.contains("s.toml"),
                "{more:?} gave {got:?}"
            );
        }
    }

    #[test]
    fn a_path_is_below_the_root_and_spelled_in_one_way() {
        for path in [
            "", "/", "//", "/.", "/..", "/./x", "x", "//x", "/x/", "/x//y", "/x/.", "/x/./y", "/x/..", "/x\0",
        ] {
            assert!(check_path("file", Path::new(path)).is_err(), "{path:?}");
        }
        for path in ["/x", "/x/y", "/.x", "/x.", "/..x/y"] {
            assert!(check_path("file", Path::new(path)).is_ok(), "{path:?}");
        }
    }

    #[test]
    fn another_format_and_unusable_names_are_refused() {
        let text = |format: u32, name: &str| {
            format!("format = {format}\nname = {name:?}\ndescription = \"\"\nimage = \"i\"\n")
        };
        let parse = |t: String| Definition::parse(&t, Path::new("s.toml")).map_err(|e| e.chain());
        assert!(parse(text(2, "s")).unwrap_err().contains("format 2"));
        for name in ["", "a/b", "../a", "a b", "-a", "a@b", "1a"] {
            assert!(
                parse(text(1, name)).unwrap_err().contains("has to consist"),
                "{name:?}"
            );
        }
    }
}

//! The unit-file writer.
//!
//! A value can only be made by one of the constructors of [`Value`], each of which gives one line
//! that systemd reads back as exactly that value (systemd.syntax(7)): no value can end its line, go on
//! in the next, start a directive, or be taken for a specifier.

use std::{fmt::Write as _, path::Path};

use crate::name::UnitName;

/// Why a unit cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnitError {
    /// A line break, another control character or none that systemd takes for one, where a line of text is needed.
    #[error("{key} contains {character:?}, which a unit can't hold")]
    Control {
        /// The key of the definition or unit file.
        key: &'static str,
        /// The character.
        character: char,
    },
    /// A text that ends in a backslash would go on in the next line.
    #[error("{key} ends in a backslash")]
    Backslash {
        /// The key of the definition or unit file.
        key: &'static str,
    },
    /// A text that must not be empty.
    #[error("{key} is empty")]
    Empty {
        /// The key of the definition or unit file.
        key: &'static str,
    },
    /// A path that is relative, not UTF-8 or not normalised, or that cannot stand in a unit file.
    #[error("{key}: {path:?} is not a plain absolute path")]
    Path {
        /// The key of the definition or unit file.
        key: &'static str,
        /// The path as given.
        path: String,
    },
    /// A name of another form than the place needs.
    #[error("{key}: {text:?} is not {wanted}")]
    Form {
        /// The key of the definition or unit file.
        key: &'static str,
        /// The text as given.
        text: String,
        /// What the place needs.
        wanted: &'static str,
    },
    /// A unit name that cannot be one.
    #[error(transparent)]
    Name(#[from] crate::name::NameError),
}

/// The right side of one assignment, escaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value(String);

impl Value {
    /// A line of text for people, with `%` escaped.
    ///
    /// # Errors
    /// Empty, a control character, or a backslash at the end.
    pub fn text(key: &'static str, text: &str) -> Result<Self, UnitError> {
        if text.trim().is_empty() {
            return Err(UnitError::Empty { key });
        }
        if let Some(character) = text.chars().find(|c| is_line_breaking(*c)) {
            return Err(UnitError::Control { key, character });
        }
        if text.trim_end().ends_with('\\') {
            return Err(UnitError::Backslash { key });
        }
        Ok(Self(text.trim().replace('%', "%%")))
    }

    /// A word that the code itself knows: the name of an enum's variant, a number, a boolean.
    #[must_use]
    pub fn word(word: &'static str) -> Self {
        Self(word.to_owned())
    }

    /// A number.
    #[must_use]
    pub fn number(number: u64) -> Self {
        Self(number.to_string())
    }

    /// A time span.
    #[must_use]
    pub fn span(span: crate::value::Span) -> Self {
        Self(span.to_string())
    }

    /// A memory limit.
    #[must_use]
    pub fn memory(memory: crate::value::Memory) -> Self {
        Self(memory.to_string())
    }

    /// A signal.
    #[must_use]
    pub fn signal(signal: crate::value::SignalName) -> Self {
        Self(signal.to_string())
    }

    /// Unit names, separated by blanks. A unit name never holds a `%`.
    #[must_use]
    pub fn names(names: &[UnitName]) -> Self {
        let names: Vec<&str> = names.iter().map(UnitName::as_str).collect();
        Self(names.join(" "))
    }

    /// The same for `Sockets=`, where systemd takes a backslash for an escape (`config_parse_service_sockets()`), which
    /// it does in no other list of names.
    #[must_use]
    pub fn sockets(names: &[UnitName]) -> Self {
        Self(Self::names(names).0.replace('\\', "\\\\"))
    }

    /// An absolute path as one word of a list of words.
    ///
    /// # Errors
    /// A path that is relative, not UTF-8 or not normalised.
    pub fn path(key: &'static str, path: &Path) -> Result<Self, UnitError> {
        Ok(Self(quoted(checked_path(key, path)?)))
    }

    /// An absolute path where the directive takes the rest of the line as it is, as conditions do.
    ///
    /// # Errors
    /// As [`Value::path`].
    pub fn literal_path(key: &'static str, path: &Path) -> Result<Self, UnitError> {
        Ok(Self(checked_path(key, path)?.replace('%', "%%")))
    }

    /// A command line: each word is one argument, whatever it contains. The program is given by its
    /// absolute path, so none of the prefixes of systemd.service(5) can be meant.
    ///
    /// # Errors
    /// A program path that is not absolute or that systemd does not take as one, or an argument with a NUL in it.
    pub fn command(key: &'static str, program: &Path, arguments: &[String]) -> Result<Self, UnitError> {
        let path = checked_path(key, program)?;
        // config_parse_exec() refuses these, quoted or not, and directories.
        if path == "/" || path.contains(['"', '\'', '\\']) {
            return Err(UnitError::Path {
                key,
                path: path.to_owned(),
            });
        }
        let mut line = quoted(path);
        for argument in arguments {
            if argument.contains('\0') {
                return Err(UnitError::Control { key, character: '\0' });
            }
            line.push(' ');
            // systemd replaces $NAME in arguments.
            line.push_str(&quoted(&argument.replace('$', "$$")));
        }
        Ok(Self(line))
    }

    /// The same command, whose failure is not one of the unit.
    #[must_use]
    pub(crate) fn forgiven(self) -> Self {
        Self(format!("-{}", self.0))
    }

    /// One `NAME=value` for `Environment=`.
    ///
    /// # Errors
    /// A name that is not letters, digits and underscores; a value with control characters other
    /// than tab and line feed, or noncharacters, which systemd would leave out.
    pub fn environment(key: &'static str, name: &str, value: &str) -> Result<Self, UnitError> {
        let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !starts_well || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(UnitError::Form {
                key,
                text: name.to_owned(),
                wanted: "the name of an environment variable",
            });
        }
        let refused = |c: &char| (c.is_control() || is_noncharacter(*c)) && !matches!(c, '\n' | '\t');
        if let Some(character) = value.chars().find(refused) {
            return Err(UnitError::Control { key, character });
        }
        Ok(Self(quoted(&format!("{name}={value}"))))
    }

    /// `NAME:PATH` for `LoadCredential=`.
    ///
    /// # Errors
    /// A name that is not up to 255 letters, digits, `.`, `-` and `_`, or a path that is not absolute.
    pub fn credential(key: &'static str, name: &str, path: &Path) -> Result<Self, UnitError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let length = 1..=255;
        if !length.contains(&name.len()) || name.starts_with('.') || !name.chars().all(allowed) {
            return Err(UnitError::Form {
                key,
                text: name.to_owned(),
                wanted: "the name of a credential",
            });
        }
        // LoadCredential= splits at the first colon and takes the rest as it is.
        Ok(Self(format!("{name}:{}", Self::literal_path(key, path)?.0)))
    }

    /// The same value with a mark of the code's own in front, for example `!` for a condition.
    #[must_use]
    pub fn marked(self, mark: &'static str) -> Self {
        Self(format!("{mark}{}", self.0))
    }
}

fn is_line_breaking(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') || is_noncharacter(c)
}

/// systemd takes a line with one of these for no UTF-8 and passes over it (`utf8_is_valid()`).
fn is_noncharacter(c: char) -> bool {
    matches!(c, '\u{fdd0}'..='\u{fdef}') || u32::from(c) & 0xfffe == 0xfffe
}

fn checked_path<'a>(key: &'static str, path: &'a Path) -> Result<&'a str, UnitError> {
    let error = || UnitError::Path {
        key,
        path: path.to_string_lossy().into_owned(),
    };
    let text = path.to_str().ok_or_else(error)?;
    if text.ends_with(['\\', ' ']) || text.chars().any(is_line_breaking) {
        return Err(error());
    }
    let clean = text
        .strip_prefix('/')
        .is_some_and(|rest| text == "/" || rest.split('/').all(|part| !matches!(part, "" | "." | "..")));
    if clean { Ok(text) } else { Err(error()) }
}

/// One word in double quotes with C escapes and `%` doubled (systemd.syntax(7), "Quoting").
/// A word that needs no quotes is left as it is.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-=:,+@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    let mut out = String::with_capacity(word.len() + 2);
    out.push('"');
    for c in word.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '%' => out.push_str("%%"),
            c if is_line_breaking(c) => {
                for byte in c.to_string().bytes() {
                    let _ = write!(out, "\\x{byte:02x}");
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// One section and its assignments, in the order in which they were set.
#[derive(Clone, Debug)]
pub struct Section {
    name: &'static str,
    lines: Vec<(&'static str, Value)>,
}

impl Section {
    /// An empty section, for example `Service`.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            lines: Vec::new(),
        }
    }

    /// Adds an assignment. The same directive may be set more than once.
    pub fn set(&mut self, directive: &'static str, value: Value) {
        self.lines.push((directive, value));
    }

    /// Adds an assignment if there is a value.
    pub fn set_some(&mut self, directive: &'static str, value: Option<Value>) {
        if let Some(value) = value {
            self.set(directive, value);
        }
    }

    /// Adds an assignment of unit names if there are any.
    pub fn set_names(&mut self, directive: &'static str, names: &[UnitName]) {
        if !names.is_empty() {
            self.set(directive, Value::names(names));
        }
    }
}

/// A whole unit file.
#[derive(Clone, Debug, Default)]
pub struct UnitFile {
    sections: Vec<Section>,
}

impl UnitFile {
    /// Adds a section; one without assignments is left out of the text.
    #[must_use]
    pub fn with(mut self, section: Section) -> Self {
        self.sections.push(section);
        self
    }

    /// The text of the file.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text =
            String::from("# Written by nodectl from the service definition; changes here are lost.\n");
        for section in self.sections.iter().filter(|s| !s.lines.is_empty()) {
            let _ = write!(text, "\n[{}]\n", section.name);
            for (directive, Value(value)) in &section.lines {
                let _ = writeln!(text, "{directive}={value}");
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `Sockets=` alone is split without EXTRACT_RETAIN_ESCAPE.
    #[test]
    fn a_backslash_in_the_name_of_a_socket_stays_one() {
        let names = [UnitName::parse("dev-a\\x2db.socket").expect("a name")];
        assert_eq!(Value::sockets(&names).0, "dev-a\\\\x2db.socket");
        assert_eq!(Value::names(&names).0, "dev-a\\x2db.socket");
    }

    #[test]
    fn what_systemd_takes_for_no_utf8_is_escaped_or_refused() {
        for c in [
            '\u{fdd0}',
            '\u{fdef}',
            '\u{fffe}',
            '\u{ffff}',
            '\u{1ffff}',
            '\u{10fffe}',
        ] {
            let text = format!("a{c}b");
            assert!(Value::text("x", &text).is_err(), "{c:?}");
            assert!(Value::environment("x", "A", &text).is_err(), "{c:?}");
            assert!(
                Value::literal_path("x", format!("/{text}").as_ref()).is_err(),
                "{c:?}"
            );
            let command = Value::command("x", "/bin/a".as_ref(), &[text]).expect("escaped");
            assert!(command.0.is_ascii(), "{}", command.0);
        }
        assert!(Value::text("x", "\u{fffd}\u{fdcf}\u{fdf0}").is_ok());
    }
}

//! One page of text for a person: fields, tables and paragraphs that fit the terminal.

use std::fmt::Write as _;

use super::Terminal;
use super::table::{lines, wrap};

/// Width of the names in front of [`Page::field`] values.
const FIELD_WIDTH: usize = 12;

/// Collects text; nothing is written before the page is whole.
#[derive(Debug)]
pub struct Page {
    terminal: Terminal,
    text: String,
}

impl Page {
    /// An empty page for a terminal.
    #[must_use]
    pub fn new(terminal: Terminal) -> Self {
        Self {
            terminal,
            text: String::new(),
        }
    }

    /// The terminal this page is for, to colour words with.
    #[must_use]
    pub fn terminal(&self) -> Terminal {
        self.terminal
    }

    /// One line as it is.
    pub fn line(&mut self, text: impl AsRef<str>) {
        self.text.push_str(text.as_ref());
        self.text.push('\n');
    }

    /// An empty line.
    pub fn gap(&mut self) {
        self.text.push('\n');
    }

    /// `Name        value`, with the value wrapped at the width of the terminal.
    pub fn field(&mut self, name: &str, value: impl AsRef<str>) {
        let room = usize::from(self.terminal.width()).saturating_sub(FIELD_WIDTH + 1);
        let mut name = name;
        for line in wrap(value.as_ref(), room) {
            let _ = writeln!(self.text, "{name:<FIELD_WIDTH$} {line}");
            name = "";
        }
    }

    /// A list item, wrapped, with its bullet in front.
    pub fn item(&mut self, text: impl AsRef<str>) {
        let room = usize::from(self.terminal.width()).saturating_sub(4);
        let mut bullet = "-";
        for line in wrap(text.as_ref(), room) {
            let _ = writeln!(self.text, "  {bullet} {line}");
            bullet = " ";
        }
    }

    /// A table without rules; the widest column gives way where the terminal is narrow.
    pub fn table(&mut self, header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
        let rows: Vec<_> = rows.into_iter().collect();
        for line in lines(header, &rows, self.terminal.width().into()) {
            self.line(line);
        }
    }

    /// The finished text.
    #[must_use]
    pub fn into_text(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_fits_eighty_columns() {
        let mut page = Page::new(Terminal::plain());
        let long = "word ".repeat(60);
        page.field("Reason", &long);
        page.item(&long);
        page.table(
            &["service", "action", "reason"],
            [vec!["nova-compute".into(), "restart".into(), long.clone()]],
        );
        let text = page.into_text();
        for line in text.lines() {
            assert!(
                line.chars().count() <= 80,
                "{} columns: {line}",
                line.chars().count()
            );
            assert_eq!(line, line.trim_end(), "trailing space");
        }
        assert!(text.contains("SERVICE"));
    }
}

//! One page of text for a person: fields, tables and paragraphs that fit the terminal.

use std::fmt::Write as _;

use comfy_table::{Cell, ContentArrangement, Table, presets};

use super::Terminal;

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

    /// A table without rules; the longest column gives way where the terminal is narrow.
    pub fn table(&mut self, header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
        let mut table = Table::new();
        table
            .load_style(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(self.terminal.width())
            .set_header(header.iter().map(|name| Cell::new(name.to_uppercase())));
        for row in rows {
            table.add_row(row);
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        for line in table.lines() {
            self.line(line.trim_end());
        }
    }

    /// The finished text.
    #[must_use]
    pub fn into_text(self) -> String {
        self.text
    }
}

/// Breaks at spaces; a word longer than the room (a digest, a path) stays whole, so that it can be copied.
fn wrap(text: &str, room: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.split('\n') {
        let mut line = String::new();
        for word in paragraph.split(' ') {
            let width = console::measure_text_width(word);
            if !line.is_empty() && console::measure_text_width(&line) + 1 + width > room {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_wraps_at_spaces_and_keeps_long_words() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("sha256:0123456789 x", 5), ["sha256:0123456789", "x"]);
        assert_eq!(wrap("a\nb", 10), ["a", "b"]);
        assert_eq!(wrap("", 10), [""]);
    }

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

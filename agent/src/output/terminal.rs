//! What the terminal can show: width and colour.

use std::fmt::Display;

use clap::ValueEnum;
use console::Term;

/// Width that all text fits into where nothing says otherwise.
const DEFAULT_WIDTH: u16 = 80;
/// Narrower than this, tables are unreadable and wrapping is left to the terminal.
const LEAST_WIDTH: u16 = 60;
/// Wider than this, lines are hard to follow.
const MOST_WIDTH: u16 = 160;

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// One output stream as seen by a person.
#[derive(Debug, Clone, Copy)]
pub struct Terminal {
    tty: bool,
    color: bool,
    width: u16,
}

impl Terminal {
    /// A stream that is no terminal: no colour, 80 columns.
    #[must_use]
    pub fn plain() -> Self {
        Self {
            tty: false,
            color: false,
            width: DEFAULT_WIDTH,
        }
    }

    /// Standard output.
    #[must_use]
    pub fn stdout(choice: ColorChoice) -> Self {
        Self::of(&Term::stdout(), choice)
    }

    /// Standard error.
    #[must_use]
    pub fn stderr(choice: ColorChoice) -> Self {
        Self::of(&Term::stderr(), choice)
    }

    fn of(stream: &Term, choice: ColorChoice) -> Self {
        let tty = stream.is_term();
        let width = stream
            .size_checked()
            .map_or(DEFAULT_WIDTH, |(_rows, columns)| columns);
        Self {
            tty,
            color: wants_color(choice, tty, std::env::var_os("NO_COLOR").is_some()),
            width: width.clamp(LEAST_WIDTH, MOST_WIDTH),
        }
    }

    /// Whether a person looks at it.
    #[must_use]
    pub fn is_tty(self) -> bool {
        self.tty
    }

    /// Columns.
    #[must_use]
    pub fn width(self) -> u16 {
        self.width
    }

    /// Something good.
    #[must_use]
    pub fn green(self, text: impl Display) -> String {
        self.paint("32", text)
    }

    /// Something to look at.
    #[must_use]
    pub fn yellow(self, text: impl Display) -> String {
        self.paint("33", text)
    }

    /// Something bad.
    #[must_use]
    pub fn red(self, text: impl Display) -> String {
        self.paint("31", text)
    }

    /// Something that stands out.
    #[must_use]
    pub fn bold(self, text: impl Display) -> String {
        self.paint("1", text)
    }

    fn paint(self, code: &str, text: impl Display) -> String {
        if self.color {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_string()
        }
    }
}

fn wants_color(choice: ColorChoice, tty: bool, no_color: bool) -> bool {
    match choice {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => tty && !no_color,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_follows_choice_terminal_and_environment() {
        assert!(wants_color(ColorChoice::Always, false, true));
        assert!(!wants_color(ColorChoice::Never, true, false));
        assert!(wants_color(ColorChoice::Auto, true, false));
        assert!(!wants_color(ColorChoice::Auto, true, true));
        assert!(!wants_color(ColorChoice::Auto, false, false));
    }

    #[test]
    fn plain_output_has_no_escapes() {
        assert_eq!(Terminal::plain().red("x"), "x");
    }
}

//! The only writer to standard output and standard error: documents, messages, progress.
//!
//! A command hands over a typed document; whether that becomes text for a person or one JSON document for a program is
//! decided here. Text fits 80 columns where the terminal is not wider. A reader that closes its end of the pipe is not
//! an error.

mod build;
mod human;
mod page;
mod progress;
mod table;
mod terminal;

use std::io::{self, Write};

use serde::Serialize;

use crate::protocol::{Failed, Failure};

pub use build::BuildView;
pub use human::Human;
pub use page::Page;
pub use progress::ProgressView;
pub use terminal::{ColorChoice, Terminal};

/// How a command speaks to whoever called it.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    json: bool,
    quiet: bool,
    stdout: Terminal,
    stderr: Terminal,
}

impl Output {
    /// An output as asked for by the global options.
    #[must_use]
    pub fn new(json: bool, quiet: bool, color: ColorChoice) -> Self {
        Self {
            json,
            quiet,
            stdout: Terminal::stdout(color),
            stderr: Terminal::stderr(color),
        }
    }

    /// Whether a program reads this.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Prints the result of a command: text, or one JSON document.
    ///
    /// # Errors
    ///
    /// When standard output can't be written; a closed pipe is no error.
    pub fn document<T: Serialize + Human>(&self, document: &T) -> io::Result<()> {
        if self.json {
            return self.json_document(document);
        }
        if self.quiet {
            return Ok(());
        }
        let mut page = Page::new(self.stdout);
        document.human(&mut page);
        write_all(&mut io::stdout().lock(), page.into_text().as_bytes())
    }

    fn json_document<T: Serialize>(&self, document: &T) -> io::Result<()> {
        let mut text = serde_json::to_string_pretty(document)?;
        text.push('\n');
        write_all(&mut io::stdout().lock(), text.as_bytes())
    }

    /// Prints one element of a stream: a line of text, or one JSON document on one line.
    ///
    /// # Errors
    ///
    /// When standard output can't be written; a closed pipe is reported as [`io::ErrorKind::BrokenPipe`], so that the
    /// stream ends.
    pub fn element<T: Serialize + Human>(&self, element: &T) -> io::Result<()> {
        let text = if self.json {
            serde_json::to_string(element)? + "\n"
        } else {
            let mut page = Page::new(self.stdout);
            element.human(&mut page);
            page.into_text()
        };
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        stdout.flush()
    }

    /// A remark to the person at the terminal, on standard error; left out with `--quiet`.
    pub fn remark(&self, text: &str) {
        if !self.quiet {
            to_stderr(text);
        }
    }

    /// A warning, on standard error.
    pub fn warning(&self, text: &str) {
        to_stderr(&format!("{}: {text}", self.stderr.yellow("warning")));
    }

    /// Why the command failed: one line, what the journal says below it, and one more line where there is advice.
    ///
    /// With `--json` the same also goes to standard output as a document, so that a program needs one stream only.
    pub fn failure(&self, failure: &Failure) {
        to_stderr(&format!("{}: {}", self.stderr.red("nodectl"), failure.message));
        for line in &failure.details {
            to_stderr(&format!("  {line}"));
        }
        if let Some(hint) = &failure.hint {
            to_stderr(&format!("{}: {hint}", self.stderr.bold("hint")));
        }
        if self.json {
            let failed = Failed {
                error: failure.clone(),
            };
            // The line on standard error says it already.
            let _ = self.json_document(&failed);
        }
    }

    /// A view on the progress of an operation: bars on a terminal, lines elsewhere, nothing with `--quiet`.
    #[must_use]
    pub fn progress(&self) -> ProgressView {
        if self.quiet || (self.json && !self.stderr.is_tty()) {
            ProgressView::silent()
        } else if self.stderr.is_tty() {
            ProgressView::bars(self.stderr)
        } else {
            ProgressView::lines()
        }
    }
}

/// Writes everything; a reader that went away has had enough, which is fine.
fn write_all(stream: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    match stream.write_all(bytes).and_then(|()| stream.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// One line on standard error. Nothing can be told to anybody when that fails.
fn to_stderr(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

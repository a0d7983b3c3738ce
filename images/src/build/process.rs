//! Runs the programs that a build needs, with their output as events.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader};
use std::process::{Command, Stdio};

use super::error::BuildError;

/// How many lines of output an error quotes.
const LAST_WORDS: usize = 30;

/// Runs `command` to its end, with both its outputs as lines to `on_line`.
///
/// # Errors
/// [`BuildError::Missing`] where it cannot be started, [`BuildError::Program`] with its last words
/// where it fails. `intent` ends the sentence "failed while …".
pub fn run(
    command: &mut Command,
    package: &'static str,
    intent: &str,
    on_line: &mut dyn FnMut(&str),
) -> Result<(), BuildError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let missing = |source: io::Error| BuildError::Missing {
        program: program.clone(),
        package,
        source,
    };
    let (reader, writer) = io::pipe().map_err(missing)?;
    let stderr = writer.try_clone().map_err(missing)?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(stderr)
        .spawn()
        .map_err(missing)?;
    // The command keeps its copies of the pipe's end; while they are open, reading never ends.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut last_words = VecDeque::new();
    for line in BufReader::new(reader).split(b'\n') {
        let line = line.map_err(missing)?;
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        on_line(&line);
        last_words.push_back(line);
        if last_words.len() > LAST_WORDS {
            last_words.pop_front();
        }
    }
    let status = child.wait().map_err(missing)?;
    if status.success() {
        return Ok(());
    }
    Err(BuildError::Program {
        program,
        intent: intent.to_owned(),
        status: status.to_string(),
        last_words: Vec::from(last_words).join("\n"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_comes_line_by_line_and_failure_quotes_it() {
        let mut lines = Vec::new();
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; echo two >&2; exit 3"]);
        let error = run(&mut command, "dash", "testing", &mut |line| {
            lines.push(line.to_owned());
        })
        .expect_err("exits 3");
        assert_eq!(lines, ["one", "two"]);
        let text = error.to_string();
        assert!(text.contains("failed while testing (exit status: 3)"), "{text}");
        assert!(text.ends_with("one\ntwo"), "{text}");
    }

    #[test]
    fn a_missing_program_names_its_package() {
        let error = run(
            &mut Command::new("no-such-program"),
            "mmdebstrap",
            "testing",
            &mut |_| {},
        )
        .expect_err("no such program");
        assert_eq!(
            error.to_string(),
            "cannot run no-such-program; it is in Debian's package mmdebstrap"
        );
    }
}

//! Running host programs: what failed is told with the program's own words.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// A command with its arguments.
pub fn command<A: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

/// Runs to the end and returns standard output.
///
/// # Errors
/// The program is missing or does not succeed; the error carries the end of its standard error.
pub fn output(command: &mut Command) -> Result<String> {
    let done = attempt(command)?;
    checked(command, &done)
}

fn checked(command: &Command, done: &Output) -> Result<String> {
    if !done.status.success() {
        bail!(
            "{} failed: {}: {}",
            name(command),
            done.status,
            tail(&done.stderr, &done.stdout)
        );
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// Runs to the end with this on standard input, and returns standard output.
///
/// # Errors
/// As [`output`].
pub fn feed(command: &mut Command, input: &[u8]) -> Result<String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {}", name(command)))?;
    let pipe = child.stdin.take();
    let done = std::thread::scope(|scope| {
        // A program that ends before it has read everything says why by itself.
        scope.spawn(move || pipe.map(|mut pipe| drop(pipe.write_all(input))));
        child.wait_with_output()
    })?;
    checked(command, &done)
}

/// Runs to the end, whatever the exit status.
///
/// # Errors
/// The program cannot be started.
pub fn attempt(command: &mut Command) -> Result<Output> {
    command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("start {}", name(command)))
}

/// Runs to the end and hands every line of both streams to `line` as it comes.
///
/// # Errors
/// The program is missing or does not succeed; the error carries its last lines.
pub fn stream(command: &mut Command, mut line: impl FnMut(&str)) -> Result<()> {
    let (reader, writer) = std::io::pipe().context("make a pipe")?;
    command
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer);
    let name = name(command);
    let mut child = command.spawn().with_context(|| format!("start {name}"))?;
    // The command keeps the writing ends until they are replaced; reading would never end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut last = Vec::new();
    for text in BufReader::new(reader).split(b'\n') {
        let text = String::from_utf8_lossy(&text?).into_owned();
        line(&text);
        last.push(text);
        if last.len() > 30 {
            last.remove(0);
        }
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("{name} failed: {status}\n{}", last.join("\n"));
    }
    Ok(())
}

/// Runs to the end like [`attempt`], and hands every line of standard error to `line` as it comes.
///
/// # Errors
/// The program is missing.
pub fn attempt_telling(command: &mut Command, mut line: impl FnMut(&str)) -> Result<Output> {
    let name = name(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {name}"))?;
    let mut output = child.stdout.take().context("no standard output")?;
    let said = std::thread::spawn(move || {
        let mut said = Vec::new();
        output.read_to_end(&mut said).map(|_| said)
    });
    let mut errors = Vec::new();
    for text in BufReader::new(child.stderr.take().context("no standard error")?).split(b'\n') {
        let text = text?;
        line(&String::from_utf8_lossy(&text));
        errors.extend(text);
        errors.push(b'\n');
    }
    let stdout = said
        .join()
        .map_err(|_| anyhow::anyhow!("reading from {name} panicked"))??;
    Ok(Output {
        status: child.wait()?,
        stdout,
        stderr: errors,
    })
}

fn name(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|word| word.to_string_lossy().into_owned()));
    let mut text = words.join(" ");
    if text.chars().count() > 200 {
        text = text.chars().take(200).collect::<String>() + "…";
    }
    text
}

fn tail(errors: &[u8], text: &[u8]) -> String {
    let said = if errors.is_empty() { text } else { errors };
    let said = String::from_utf8_lossy(said);
    let lines: Vec<&str> = said.trim_end().lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_carries_the_programs_words() {
        let error = output(&mut command("sh", ["-c", "echo no such moon >&2; exit 3"])).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("no such moon") && text.contains('3'), "{text}");
    }

    #[test]
    fn what_is_fed_arrives_and_a_deaf_program_is_no_hang() {
        let large = vec![b'x'; 1 << 20];
        assert_eq!(
            feed(&mut command("wc", ["-c"]), &large).unwrap().trim(),
            "1048576"
        );
        let error = feed(&mut command("sh", ["-c", "echo enough >&2; exit 4"]), &large).unwrap_err();
        assert!(error.to_string().contains("enough"), "{error}");
    }

    #[test]
    fn stream_sees_both_streams_and_ends() {
        let mut seen = Vec::new();
        stream(&mut command("sh", ["-c", "echo a; echo b >&2"]), |line| {
            seen.push(line.to_owned());
        })
        .unwrap();
        assert_eq!(seen, ["a", "b"]);
    }
}

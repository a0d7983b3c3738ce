//! The last journal lines of a unit, read with `journalctl -o json`.

use std::{process::Stdio, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use crate::name::UnitName;

/// Why the journal could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// journalctl could not be run.
    #[error("cannot run journalctl to read the journal of {unit}")]
    Run {
        /// Whose lines were wanted.
        unit: UnitName,
        /// What the system said.
        source: std::io::Error,
    },
    /// journalctl failed.
    #[error("journalctl failed on the journal of {unit} ({status}): {message}")]
    Failed {
        /// Whose lines were wanted.
        unit: UnitName,
        /// How it ended.
        status: std::process::ExitStatus,
        /// The end of what it wrote to its standard error.
        message: String,
    },
    /// journalctl took too long.
    #[error("journalctl did not give the journal of {unit} within {} s", deadline.as_secs_f32())]
    Deadline {
        /// Whose lines were wanted.
        unit: UnitName,
        /// How long was waited.
        deadline: Duration,
    },
    /// A line of journalctl's output is not a JSON object.
    #[error("journalctl gave a line for {unit} that is no JSON object")]
    Format {
        /// Whose lines were wanted.
        unit: UnitName,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// One journal entry, as far as people want to read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Line {
    /// When it was written: microseconds since 1970.
    pub realtime_usec: u64,
    /// The process that wrote it, if known.
    pub pid: Option<u32>,
    /// What the process calls itself, for example `nova-compute`.
    pub identifier: String,
    /// Importance from 0 (emergency) to 7 (debug) (syslog(3)).
    pub priority: u8,
    /// The text. Bytes that are not UTF-8 are replaced.
    pub message: String,
}

/// Which lines of a unit are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The unit: its own lines and what systemd says about it.
    pub unit: UnitName,
    /// At most so many, the newest.
    pub lines: u32,
    /// Only of this run of the unit (see [`crate::UnitStatus::invocation_id`]), and all of it: the journal is asked to
    /// write down what it has been told so far.
    pub invocation_id: Option<String>,
    /// Only from this time on: microseconds since 1970.
    pub since_usec: Option<u64>,
}

impl Query {
    /// The newest lines of a unit.
    #[must_use]
    pub fn last(unit: UnitName, lines: u32) -> Self {
        Self {
            unit,
            lines,
            invocation_id: None,
            since_usec: None,
        }
    }
}

/// Reads the journal, oldest line first.
///
/// # Errors
/// [`JournalError`]; a unit without a journal is not an error but gives no lines.
pub async fn read(query: &Query, deadline: Duration) -> Result<Vec<Line>, JournalError> {
    let unit = || query.unit.clone();
    let output = async {
        if query.invocation_id.is_some() {
            // Whatever comes of it, and also where the disk is slow, what is there is read.
            let _ = tokio::time::timeout(deadline / 2, journalctl(&["--sync".to_owned()])).await;
        }
        journalctl(&arguments(query)).await
    };
    let output = tokio::time::timeout(deadline, output)
        .await
        .map_err(|_| JournalError::Deadline {
            unit: unit(),
            deadline,
        })?
        .map_err(|source| JournalError::Run { unit: unit(), source })?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        return Err(JournalError::Failed {
            unit: unit(),
            status: output.status,
            message: message.lines().last().unwrap_or_default().to_owned(),
        });
    }
    let entries = parse(&output.stdout).map_err(|source| JournalError::Format { unit: unit(), source })?;
    Ok(match &query.invocation_id {
        Some(id) => of_run(entries, id),
        None => entries.into_iter().map(|entry| entry.line).collect(),
    })
}

async fn journalctl(arguments: &[String]) -> std::io::Result<std::process::Output> {
    Command::new("journalctl")
        .args(arguments)
        .env("SYSTEMD_COLORS", "0")
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
}

/// The lines of one run. The journal does not know of which run a line is whose process has ended before the line was
/// taken down; what comes after the first line of the run is of no earlier one.
fn of_run(entries: Vec<Read>, id: &str) -> Vec<Line> {
    let of_it = |entry: &Read| entry.run.as_deref() == Some(id);
    entries
        .into_iter()
        .skip_while(|entry| !of_it(entry))
        .filter(|entry| entry.run.is_none() || of_it(entry))
        .map(|entry| entry.line)
        .collect()
}

/// journalctl's arguments (journalctl(1)).
fn arguments(query: &Query) -> Vec<String> {
    let mut arguments = vec![
        "--output=json".to_owned(),
        "--quiet".to_owned(),
        "--all".to_owned(),
        "--no-pager".to_owned(),
        format!("--lines={}", query.lines),
    ];
    if let Some(since) = query.since_usec {
        let (seconds, micros) = (since / 1_000_000, since % 1_000_000);
        arguments.push(format!("--since=@{seconds}.{micros:06}"));
    }
    match &query.invocation_id {
        // Three alternatives: the run's own lines, systemd's lines about it, and lines of the unit in whatever run.
        Some(id) => arguments.extend([
            format!("_SYSTEMD_INVOCATION_ID={id}"),
            "+".to_owned(),
            format!("INVOCATION_ID={id}"),
            "+".to_owned(),
            format!("_SYSTEMD_UNIT={}", query.unit),
        ]),
        None => arguments.push(format!("--unit={}", query.unit)),
    }
    arguments
}

/// An entry as journalctl writes it: all values are texts, or arrays of bytes where they are not UTF-8,
/// or arrays of those where the field is there more than once.
#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "__REALTIME_TIMESTAMP")]
    realtime: String,
    #[serde(rename = "_PID", default)]
    pid: Field,
    #[serde(rename = "SYSLOG_IDENTIFIER", default)]
    identifier: Field,
    #[serde(rename = "_COMM", default)]
    comm: Field,
    #[serde(rename = "PRIORITY", default)]
    priority: Field,
    #[serde(rename = "MESSAGE", default)]
    message: Field,
    #[serde(rename = "_SYSTEMD_INVOCATION_ID", default)]
    run: Field,
    #[serde(rename = "INVOCATION_ID", default)]
    run_told_of: Field,
}

/// An entry that was read.
struct Read {
    line: Line,
    /// The run of the unit that it is of, or about; systemd itself has runs of its own where a unit is told of.
    run: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(untagged)]
enum Field {
    Text(String),
    Bytes(Vec<u8>),
    Many(Vec<Field>),
    #[default]
    Missing,
}

impl Field {
    fn text(self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text),
            Self::Bytes(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
            Self::Many(fields) => fields.into_iter().next_back().and_then(Self::text),
            Self::Missing => None,
        }
    }

    fn number<T: std::str::FromStr>(self) -> Option<T> {
        self.text()?.parse().ok()
    }
}

/// Priority of a line that does not say one: informational.
const INFO: u8 = 6;

fn parse(output: &[u8]) -> Result<Vec<Read>, serde_json::Error> {
    output
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| {
            let entry: Entry = serde_json::from_slice(line)?;
            let line = Line {
                realtime_usec: entry.realtime.parse().map_err(serde::de::Error::custom)?,
                pid: entry.pid.number(),
                identifier: entry
                    .identifier
                    .text()
                    .or_else(|| entry.comm.text())
                    .unwrap_or_default(),
                priority: entry.priority.number().unwrap_or(INFO),
                message: entry.message.text().unwrap_or_default(),
            };
            let run = entry.run_told_of.text().or_else(|| entry.run.text());
            Ok(Read { line, run })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit() -> UnitName {
        UnitName::parse("nova-compute.service").expect("valid")
    }

    #[test]
    fn a_run_is_asked_for_by_its_id_and_not_by_unit() {
        let query = Query {
            invocation_id: Some("ab12".into()),
            since_usec: Some(1_700_000_000_000_042),
            ..Query::last(unit(), 20)
        };
        let arguments = arguments(&query).join(" ");
        assert!(arguments.contains("--since=@1700000000.000042"), "{arguments}");
        assert!(arguments.ends_with(
            "_SYSTEMD_INVOCATION_ID=ab12 + INVOCATION_ID=ab12 + _SYSTEMD_UNIT=nova-compute.service"
        ));
        assert!(!arguments.contains("--unit"));
    }

    #[test]
    fn entries_of_every_shape_are_read() {
        let output = br#"{"__REALTIME_TIMESTAMP":"17","_PID":"42","SYSLOG_IDENTIFIER":"nova","PRIORITY":"3","MESSAGE":"it failed"}
{"__REALTIME_TIMESTAMP":"18","_COMM":"sh","MESSAGE":[104,105,255]}
{"__REALTIME_TIMESTAMP":"19","MESSAGE":["first","second"],"SYSLOG_IDENTIFIER":["a","b"]}
{"__REALTIME_TIMESTAMP":"20","MESSAGE":null}
"#;
        let lines = parse(output).expect("valid");
        let seen: Vec<_> = lines
            .iter()
            .map(|read| &read.line)
            .map(|l| (l.pid, l.identifier.as_str(), l.priority, l.message.as_str()))
            .collect();
        assert_eq!(
            seen,
            [
                (Some(42), "nova", 3, "it failed"),
                (None, "sh", INFO, "hi\u{fffd}"),
                (None, "b", INFO, "second"),
                (None, "", INFO, ""),
            ]
        );
    }

    #[test]
    fn a_run_has_the_lines_of_which_nobody_knows_the_run() {
        let entry = |run: &str, message: &str| {
            format!("{{\"__REALTIME_TIMESTAMP\":\"1\",{run}\"MESSAGE\":\"{message}\"}}\n")
        };
        let output = [
            entry("", "of an earlier one"),
            entry("\"_SYSTEMD_INVOCATION_ID\":\"a\",", "earlier"),
            entry("\"INVOCATION_ID\":\"b\",", "systemd: Starting"),
            entry("\"_SYSTEMD_INVOCATION_ID\":\"b\",", "first"),
            entry("", "last words"),
            entry("\"_SYSTEMD_INVOCATION_ID\":\"c\",", "later"),
            entry(
                "\"INVOCATION_ID\":\"b\",\"_SYSTEMD_INVOCATION_ID\":\"0\",",
                "systemd: failed",
            ),
        ]
        .concat();
        let lines = of_run(parse(output.as_bytes()).expect("valid"), "b");
        let said: Vec<&str> = lines.iter().map(|line| line.message.as_str()).collect();
        assert_eq!(
            said,
            ["systemd: Starting", "first", "last words", "systemd: failed"]
        );
    }

    #[test]
    fn output_that_is_no_json_is_an_error() {
        assert!(parse(b"-- No entries --\n").is_err());
        assert!(parse(br#"{"MESSAGE":"no time"}"#).is_err());
    }
}

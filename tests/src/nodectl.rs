//! nodectl as its users meet it: the program on a node, its output and its exit code; and what systemd says.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use node_agent::api::{HistoryEntry, OperationResult, Status};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::command;
use crate::lab;
use crate::node::Node;
use crate::progress::Progress;

/// The services of a compute node, in the order in which they start.
pub const SERVICES: [&str; 6] = [
    "ovsdb-server",
    "ovs-vswitchd",
    "virtlogd",
    "libvirtd",
    "nova-compute",
    "neutron-openvswitch-agent",
];

/// What a program has said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Exit code; 128 and the signal's number when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub output: String,
    /// Standard error.
    pub errors: String,
}

impl Said {
    /// The output, if the exit code is this one.
    ///
    /// # Errors
    /// It is another; the error carries everything said.
    pub fn expect(self, code: i32) -> Result<String> {
        ensure!(
            self.code == code,
            "exit code {} instead of {code}: {}{}",
            self.code,
            self.output,
            self.errors
        );
        Ok(self.output)
    }
}

/// Runs nodectl on the node, whatever its exit code.
///
/// # Errors
/// The machine is off.
pub fn on(node: &Node, arguments: &[&str]) -> Result<Said> {
    said(&node.attempt(["nodectl"].iter().chain(arguments))?)
}

/// Runs nodectl on the node and tells what it reports while it works.
///
/// # Errors
/// The machine is off.
pub fn telling(node: &Node, arguments: &[&str], progress: &Progress) -> Result<Said> {
    listening(node, arguments, |line| progress.say(line))
}

/// Runs nodectl on the node and hands each line that it reports while it works to `line`.
///
/// # Errors
/// The machine is off.
pub fn listening(node: &Node, arguments: &[&str], line: impl FnMut(&str)) -> Result<Said> {
    let mut command = node.command(["nodectl"].iter().chain(arguments))?;
    said(&command::attempt_telling(&mut command, line)?)
}

/// Runs a prepared command to its end, whatever its exit code.
///
/// # Errors
/// It cannot be started.
pub fn run(prepared: &mut Command) -> Result<Said> {
    said(&command::attempt(prepared)?)
}

/// Runs nodectl of the host in the lab's network: builds and pushes, over loopback.
///
/// # Errors
/// The program cannot be started.
pub fn in_lab(program: &str, arguments: &[&str]) -> Result<Said> {
    said(&command::attempt(lab::command_inside(program).args(arguments))?)
}

/// Runs nodectl on the node with `--json` and reads the answer.
///
/// # Errors
/// The exit code is not 0, or the answer is not what is expected.
pub fn json<T: DeserializeOwned>(node: &Node, arguments: &[&str]) -> Result<T> {
    let answer = on(node, &[&["--json"], arguments].concat())?.expect(0)?;
    serde_json::from_str(&answer).with_context(|| format!("answer to {}: {answer}", arguments.join(" ")))
}

/// What runs until a line begins with the first word; it goes on afterwards.
const UNTIL: &str = "words=$1; shift
log=$(mktemp)
\"$@\" >>$log 2>&1 &
tail --pid=$! --lines=+1 --follow $log | grep --quiet --max-count=1 \"^$words\" || { cat $log >&2; exit 1; }";

/// Has an operation begun, and returns when its progress says a line that begins like this. It goes on.
///
/// # Errors
/// It ends before that, or it takes too long.
pub fn until(node: &Node, line: &str, arguments: &[&str]) -> Result<()> {
    let begin = ["timeout", "120", "sh", "-c", UNTIL, "until", line, "nodectl"];
    node.run(begin.iter().chain(arguments)).map(drop)
}

/// Waits until nobody works any more, no transaction is open and the node is healthy; its status then.
///
/// # Errors
/// It is not so in time, or the machine is off.
pub fn settled(node: &Node, patience: Duration) -> Result<Status> {
    let deadline = Instant::now() + patience;
    loop {
        let said = on(node, &["--json", "status"])?;
        let last = match serde_json::from_str::<Status>(&said.output) {
            Ok(status) if status.transaction.is_none() && status.healthy => {
                match history(node)?.pop() {
                    // What it fetches is no transaction yet.
                    Some(entry) if entry.result == OperationResult::Open => format!("{entry:?}"),
                    Some(_) | None => return Ok(status),
                }
            }
            Ok(status) => format!("{status:?}"),
            Err(_) => format!("{said:?}"),
        };
        ensure!(
            Instant::now() < deadline,
            "not settled within {patience:?}: {last}"
        );
        // Health has no event to wait for.
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// The operations of the node, oldest first.
///
/// # Errors
/// nodectl fails.
pub fn history(node: &Node) -> Result<Vec<HistoryEntry>> {
    #[derive(Deserialize)]
    struct History {
        entries: Vec<HistoryEntry>,
    }
    let history: History = json(node, &["history"])?;
    Ok(history.entries)
}

/// Runs a program of a service's image in its container.
///
/// # Errors
/// The service is not up, or the program fails.
pub fn inside(node: &Node, service: &str, command: &[&str]) -> Result<String> {
    let exec = ["nodectl", "exec", service, "--"];
    node.run(exec.iter().chain(command))
}

/// What an exporter of the node serves at a port, asked from the container of one that has Python.
///
/// # Errors
/// `prometheus-libvirt-exporter` is not up, or nobody serves there.
pub fn figures(node: &Node, port: u16) -> Result<String> {
    let url = format!("http://127.0.0.1:{port}/metrics");
    let ask = format!("import urllib.request; print(urllib.request.urlopen('{url}').read().decode())");
    inside(
        node,
        "prometheus-libvirt-exporter",
        &["/usr/bin/python3", "-c", &ask],
    )
}

/// The main process of each active service, as systemd on the node has it.
///
/// # Errors
/// A service is not active; the error names it and ends with its journal.
pub fn main_processes(node: &Node) -> Result<BTreeMap<String, u32>> {
    SERVICES
        .iter()
        .map(|service| Ok(((*service).to_owned(), main_process(node, service)?)))
        .collect()
}

/// The main process of a service that is active, as systemd on the node has it.
///
/// # Errors
/// The service is not active; the error names it and ends with its journal.
pub fn main_process(node: &Node, service: &str) -> Result<u32> {
    let unit = format!("{service}.service");
    let shown = node.run(["systemctl", "show", "--property=ActiveState,MainPID", &unit])?;
    let values: BTreeMap<&str, &str> = shown.lines().filter_map(|line| line.split_once('=')).collect();
    let pid = values
        .get("MainPID")
        .and_then(|pid| pid.parse().ok())
        .unwrap_or(0);
    if values.get("ActiveState") != Some(&"active") || pid == 0 {
        let journal = node.run([
            "journalctl",
            "--no-pager",
            "--lines=15",
            "--output=cat",
            "--unit",
            &unit,
        ])?;
        anyhow::bail!(
            "{unit} is not active ({}):\n{journal}",
            shown.trim().replace('\n', ", ")
        );
    }
    Ok(pid)
}

fn said(output: &std::process::Output) -> Result<Said> {
    use std::os::unix::process::ExitStatusExt;
    let code = output
        .status
        .code()
        .or_else(|| output.status.signal().map(|signal| 128 + signal));
    Ok(Said {
        code: code.context("a program neither exited nor was ended")?,
        output: String::from_utf8_lossy(&output.stdout).into_owned(),
        errors: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

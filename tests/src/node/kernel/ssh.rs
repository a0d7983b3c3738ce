//! Commands in a machine on a kernel of its own: over the lab's network, with one connection that all share.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::process::Command;

use anyhow::{Result, bail};

use crate::lab;
use crate::node::record::{Platform, Record};

/// No configuration, no agent, no questions; the host key is not looked at, since the wire is ours.
const OPTIONS: &[&str] = &[
    "-F",
    "none",
    "-o",
    "BatchMode=yes",
    "-o",
    "IdentitiesOnly=yes",
    "-o",
    "IdentityAgent=none",
    "-o",
    "StrictHostKeyChecking=no",
    "-o",
    "UserKnownHostsFile=/dev/null",
    "-o",
    "LogLevel=ERROR",
    "-o",
    "ConnectTimeout=60",
    // A machine whose kernel has died must not hold its callers for ever.
    "-o",
    "ServerAliveInterval=15",
    "-o",
    "ServerAliveCountMax=8",
];

/// The environment of commands, as a box gives it.
const CLEAN: &str = "cd / && env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8";

/// ssh with its options and the machine, no command yet.
pub(super) fn arguments(record: &Record) -> Result<Vec<String>> {
    let kernels = match &record.platform {
        Platform::Box => bail!("{} is entered, not connected to", record.name),
        Platform::Uml(kernels) | Platform::Vm(kernels) => kernels,
    };
    let mut words = vec!["ssh".to_owned()];
    words.extend(OPTIONS.iter().map(|word| (*word).to_owned()));
    words.extend([
        "-i".to_owned(),
        kernels.key().display().to_string(),
        "-o".to_owned(),
        format!("ControlPath={}", record.ssh_control().display()),
        format!("root@{}", record.address),
    ]);
    Ok(words)
}

/// A command that runs inside. A signal that ends it is told as the exit status 128 and its number.
pub(in crate::node) fn enter<A: AsRef<OsStr>>(
    record: &Record,
    argv: impl IntoIterator<Item = A>,
) -> Result<Command> {
    let mut ssh = connect(record, &[])?;
    ssh.arg(script(argv));
    Ok(ssh)
}

/// A login shell on the caller's terminal.
pub(in crate::node) fn shell(record: &Record) -> Result<Command> {
    connect(record, &["-t"])
}

fn connect(record: &Record, more: &[&str]) -> Result<Command> {
    let words = arguments(record)?;
    let mut ssh = lab::command_inside(&words[0]);
    ssh.args(more).args(&words[1..]);
    Ok(ssh)
}

/// What the shell at the other end is given: the words, quoted, and an exit status that is its own.
fn script<A: AsRef<OsStr>>(argv: impl IntoIterator<Item = A>) -> OsString {
    let mut text = CLEAN.as_bytes().to_vec();
    for word in argv {
        text.push(b' ');
        text.extend(quoted(word.as_ref().as_bytes()));
    }
    text.extend_from_slice(b"; exit $?");
    OsString::from_vec(text)
}

/// As one word of a shell.
pub(super) fn quoted(word: &[u8]) -> Vec<u8> {
    let mut text = vec![b'\''];
    for byte in word {
        match byte {
            b'\'' => text.extend_from_slice(b"'\\''"),
            other => text.push(*other),
        }
    }
    text.push(b'\'');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_the_shell_at_the_other_end() {
        let odd = ["", "it's", "$HOME", "a\nb", "*", "\\", "-n", "\u{e4}"];
        let text = script(["printf", "%s|"].iter().chain(&odd));
        let said = Command::new("sh").arg("-c").arg(text).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&said.stdout), odd.join("|") + "|");
    }

    #[test]
    fn bytes_that_are_no_text_survive() {
        let odd = OsStr::from_bytes(b"\xff\xfe");
        let said = Command::new("sh")
            .arg("-c")
            .arg(script([OsStr::new("printf"), OsStr::new("%s"), odd]))
            .output()
            .unwrap();
        assert_eq!(said.stdout, b"\xff\xfe");
    }

    #[test]
    fn a_signal_is_an_exit_status() {
        let status = |argv: &[&str]| {
            let done = Command::new("sh").arg("-c").arg(script(argv)).output().unwrap();
            done.status.code()
        };
        assert_eq!(status(&["sh", "-c", "exit 7"]), Some(7));
        assert_eq!(status(&["sh", "-c", "kill -9 $$"]), Some(137));
    }
}

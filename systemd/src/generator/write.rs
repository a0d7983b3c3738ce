//! Carries a plan out and reports. Each entry stands for itself: one that fails is reported, the rest is written.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::symlink,
    path::Path,
};

use super::{Emit, Plan};

/// Writes the plan's entries below `directory`; returns what could not be written, for people.
#[must_use]
pub fn write(plan: &Plan, directory: &Path) -> Vec<String> {
    plan.entries
        .iter()
        .filter_map(|(name, emit)| {
            let path = directory.join(name);
            let error = write_one(&path, emit).err()?;
            Some(format!("cannot write {}: {error}", path.display()))
        })
        .collect()
}

fn write_one(path: &Path, emit: &Emit) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    // Not durable on purpose: systemd empties the directory before each run of the generators.
    match emit {
        Emit::File(text) => fs::write(path, text),
        Emit::Link(target) => symlink(target, path),
    }
}

/// Says it in the kernel's log, which the journal collects: a generator runs before there is anything else.
/// To standard error where there is no kernel log (containers) or none is given (people, tests).
pub fn report(messages: &[String], kernel_log: Option<&Path>) {
    let pid = std::process::id();
    let mut log = kernel_log.and_then(|path| fs::OpenOptions::new().write(true).open(path).ok());
    for message in messages {
        // <3>: an error (syslog(3)); one write is one record.
        let line = format!("<3>nodectl-generator[{pid}]: {message}\n");
        let logged = log
            .as_mut()
            .is_some_and(|log| log.write_all(line.as_bytes()).is_ok());
        if !logged {
            // Nobody is left to tell if even this fails.
            let _ = writeln!(io::stderr(), "nodectl-generator: {message}");
        }
    }
}

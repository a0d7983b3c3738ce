//! What the facts allow.

use std::collections::{BTreeMap, BTreeSet};

use super::{DaemonUnit, Facts, Guest, Place, Process, Record, Registration};

/// Objections that are told one by one; the others are counted.
const TOLD: usize = 5;

/// Whether the daemon may be stopped and another one take its place without any guest noticing.
///
/// # Errors
/// Which guests are in danger and why, for people.
pub fn may_stop(facts: &Facts) -> Result<(), String> {
    let mut objections = facts.unreadable.clone();
    for guest in &facts.guests {
        for danger in dangers(guest, &facts.unit, facts.controllers) {
            objections.push(format!("{}: {danger}", guest.process));
        }
    }
    verdict(&objections)
}

fn dangers(guest: &Guest, unit: &DaemonUnit, controllers: bool) -> Vec<String> {
    let mut found = Vec::new();
    if !guest.process.of_libvirt {
        // libvirt does not care for it: only where it is matters.
        let inside = guest.process.place == Place::Service(unit.name.clone());
        found.extend(inside.then(|| in_own_cgroup(unit, false)).flatten());
        return found;
    }
    found.extend(misplaced(guest, unit, controllers));
    match &guest.record {
        None => found.push("libvirt has no record of it, and would not find it again".to_owned()),
        Some(record) => found.extend(busy(record)),
    }
    found.extend(
        guest
            .missing
            .iter()
            .map(|path| format!("{} is missing, without which libvirt kills it", path.display())),
    );
    found
}

fn misplaced(guest: &Guest, unit: &DaemonUnit, controllers: bool) -> Option<String> {
    match (&guest.process.place, &guest.registration) {
        (Place::Service(name), _) if *name == unit.name => in_own_cgroup(unit, controllers),
        (Place::Service(name), _) => Some(format!(
            "it is in the cgroup of {name}, whose stop would kill it, and not in a machine scope"
        )),
        // libvirt looks at cgroups only where there are controllers.
        (Place::Scope(_) | Place::NoUnit(_), _) if !controllers => None,
        (Place::Scope(_), Registration::Known) => None,
        (Place::Scope(_) | Place::NoUnit(_), Registration::NoAnswer(why)) => {
            Some(format!("systemd-machined does not answer for it: {why}"))
        }
        // virCgroupNewDetectMachine: a daemon that finds machined, and a guest without a machine, kills it.
        (Place::Scope(name), Registration::Unknown) => Some(format!(
            "systemd-machined knows no machine for its scope {name}, and libvirt kills what it doesn't find there"
        )),
        (Place::NoUnit(path), Registration::Known | Registration::Unknown) => Some(format!(
            "it is in the cgroup {path} and not in a machine scope: it was started without systemd-machined, and \
             libvirt kills such a guest once systemd-machined is there"
        )),
    }
}

/// `KillMode=process` spares all but the main process, and nodectl itself deletes no cgroup. Where machine scopes
/// can't be had, that is what a guest lives by; where they can, a guest that is not in one was started wrongly.
fn in_own_cgroup(unit: &DaemonUnit, controllers: bool) -> Option<String> {
    let name = &unit.name;
    if unit.kill_mode != "process" {
        let mode = &unit.kill_mode;
        return Some(format!(
            "it is in the cgroup of {name}, which kills it (KillMode={mode})"
        ));
    }
    controllers.then(|| {
        format!(
            "it is in the cgroup of {name} and not in a machine scope: only KillMode=process keeps it alive"
        )
    })
}

fn busy(record: &Record) -> Vec<String> {
    let job = record
        .job
        .iter()
        .map(|job| format!("libvirt is busy with it: {job}"));
    let block_jobs = record
        .block_jobs
        .iter()
        .map(|job| format!("a block job is running: {job}"));
    job.chain(block_jobs).collect()
}

/// Whether the daemon, the process table and the records agree about the guests. `listed` are the identities that the
/// daemon gave when it was asked.
///
/// # Errors
/// Which guests they don't agree about, for people.
pub fn agree(listed: &BTreeSet<String>, processes: &[Process], records: &[Record]) -> Result<(), String> {
    let mut objections = Vec::new();
    let ours: Vec<&Process> = processes.iter().filter(|process| process.of_libvirt).collect();
    let recorded: BTreeMap<&str, &Record> = records.iter().map(|r| (r.uuid.as_str(), r)).collect();
    for process in &ours {
        let uuid = process.uuid.as_deref().unwrap_or_default();
        if !listed.contains(uuid) {
            objections.push(format!("{process}: it runs, and libvirt does not know it"));
            continue;
        }
        match recorded.get(uuid) {
            Some(record) if record.pid == process.pid => {}
            Some(record) => {
                objections.push(format!("{process}: libvirt takes process {} for it", record.pid));
            }
            None => objections.push(format!("{process}: libvirt has no record of it")),
        }
    }
    for uuid in listed {
        if !ours.iter().any(|process| process.uuid.as_ref() == Some(uuid)) {
            let name = recorded
                .get(uuid.as_str())
                .map_or(uuid.as_str(), |r| r.name.as_str());
            objections.push(format!(
                "guest {name}: libvirt says that it runs, and it does not"
            ));
        }
    }
    verdict(&objections)
}

/// On a host with a hundred guests the first few say what is wrong.
fn verdict(objections: &[String]) -> Result<(), String> {
    let (told, rest) = objections.split_at(objections.len().min(TOLD));
    match (told.join("; "), rest.len()) {
        (text, _) if text.is_empty() => Ok(()),
        (text, 0) => Err(text),
        (text, more) => Err(format!("{text}; and {more} more")),
    }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;

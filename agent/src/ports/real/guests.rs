//! Guests on this host: its QEMU processes, whoever started them and in whatever namespaces, and what libvirt and
//! machined say about them.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use crate::error::{AgentError, Result};
use crate::guests::{self, DaemonUnit, Facts, Guest, Process, Record, Registration};
use crate::wayback;

/// libvirt's status files.
const RECORDS: &str = "/run/libvirt/qemu";

/// Everything that decides whether libvirt's daemon may be stopped.
///
/// # Errors
/// Something can't be read that any host has.
pub(super) async fn facts(unit: DaemonUnit) -> Result<Facts> {
    let (records, unreadable) = records(Path::new(RECORDS))?;
    let mut guests = Vec::new();
    for process in processes(Path::new("/proc"))? {
        let record = records.iter().find(|record| record.pid == process.pid).cloned();
        let needs = record.iter().flat_map(Record::needs);
        guests.push(Guest {
            registration: registration(process.pid).await,
            missing: needs.filter(|path| !path.exists()).collect(),
            process,
            record,
        });
    }
    Ok(Facts {
        unit,
        controllers: has_controllers(Path::new("/sys/fs/cgroup/cgroup.controllers"))?,
        guests,
        unreadable,
    })
}

/// What the host itself knows about its guests: the process table and libvirt's records.
///
/// # Errors
/// As for [`facts`].
pub(super) fn seen() -> Result<(Vec<Process>, Vec<Record>)> {
    Ok((processes(Path::new("/proc"))?, records(Path::new(RECORDS))?.0))
}

/// Names of all QEMU processes in a mounted proc_pid(5).
///
/// # Errors
/// The directory can't be listed.
pub(super) fn names(proc: &Path) -> Result<Vec<String>> {
    Ok(processes(proc)?.iter().map(Process::to_string).collect())
}

/// What these processes are, guests first.
pub(super) fn describe(proc: &Path, pids: &BTreeSet<u32>) -> Vec<String> {
    let (mut guests, mut others) = (Vec::new(), Vec::new());
    for pid in pids {
        let path = proc.join(pid.to_string());
        if let Some(guest) = process(*pid, &path) {
            guests.push(guest.to_string());
        } else if let Ok(name) = fs::read_to_string(path.join("comm")) {
            others.push(format!("{} (pid {pid})", name.trim()));
        }
    }
    guests.append(&mut others);
    guests
}

/// Names and machine types of them, sorted.
///
/// # Errors
/// As for [`names`].
pub(super) fn machines(proc: &Path) -> Result<Vec<wayback::Guest>> {
    let mut guests: Vec<_> = processes(proc)?.into_iter().map(wayback::Guest::from).collect();
    guests.sort();
    Ok(guests)
}

fn processes(proc: &Path) -> Result<Vec<Process>> {
    let failed = |e| AgentError::io("list", proc, e);
    let mut found = Vec::new();
    for entry in fs::read_dir(proc).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() {
            found.extend(process(pid, &entry.path()));
        }
    }
    found.sort_by_key(|process| process.pid);
    Ok(found)
}

/// A process that ended meanwhile is none.
fn process(pid: u32, path: &Path) -> Option<Process> {
    let program = fs::read_link(path.join("exe")).ok()?;
    let program = program.file_name()?.to_string_lossy().into_owned();
    let is_qemu = program.starts_with("qemu-system-") || program.starts_with("qemu-kvm");
    if !is_qemu {
        return None;
    }
    let command_line = fs::read(path.join("cmdline")).ok()?;
    if is_question(&command_line) {
        return None;
    }
    let shown = guests::read_command_line(&command_line);
    Some(Process {
        pid,
        name: shown.name,
        uuid: shown.uuid,
        machine: shown.machine,
        of_libvirt: shown.of_libvirt,
        place: guests::place(&fs::read_to_string(path.join("cgroup")).unwrap_or_default()),
    })
}

/// libvirt asks a new QEMU what it can do, by starting it without a machine.
fn is_question(command_line: &[u8]) -> bool {
    let words: Vec<&[u8]> = command_line.split(|b| *b == 0).collect();
    words
        .windows(2)
        .any(|pair| pair[0] == b"-machine" && pair[1].starts_with(b"none"))
}

/// What libvirt has on record, and what of that can't be read.
fn records(directory: &Path) -> Result<(Vec<Record>, Vec<String>)> {
    let (mut records, mut unreadable) = (Vec::new(), Vec::new());
    let failed = |e| AgentError::io("list", directory, e);
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok((records, unreadable)),
        Err(e) => return Err(failed(e)),
    };
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_none_or(|extension| extension != "xml") {
            continue;
        }
        match fs::read_to_string(&path) {
            Ok(text) => match Record::parse(&text) {
                Ok(record) => records.push(record),
                Err(e) => unreadable.push(format!("{} can't be understood: {e}", path.display())),
            },
            // Its guest ended meanwhile.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => unreadable.push(format!("{} can't be read: {e}", path.display())),
        }
    }
    Ok((records, unreadable))
}

fn has_controllers(path: &Path) -> Result<bool> {
    let text = fs::read_to_string(path).map_err(|e| AgentError::io("read", path, e))?;
    Ok(!text.trim().is_empty())
}

/// Asks machined, which the bus starts if it does not run yet.
async fn registration(pid: u32) -> Registration {
    const MACHINED: &str = "org.freedesktop.machine1";
    let ask = async {
        let bus = zbus::Connection::system().await?;
        bus.call_method(
            Some(MACHINED),
            "/org/freedesktop/machine1",
            Some("org.freedesktop.machine1.Manager"),
            "GetMachineByPID",
            &(pid,),
        )
        .await
        .map(drop)
    };
    match ask.await {
        Ok(()) => Registration::Known,
        Err(zbus::Error::MethodError(name, ..)) if name == "org.freedesktop.machine1.NoMachineForPID" => {
            Registration::Unknown
        }
        Err(e) => Registration::NoAnswer(e.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_runs_is_a_guest() {
        let proc = tempfile::tempdir().unwrap();
        let processes = [
            ("1", "/usr/lib/systemd/systemd", "init"),
            (
                "20",
                "/usr/bin/qemu-system-x86_64",
                "qemu\0-name\0guest=a\0-machine\0pc",
            ),
            (
                "21",
                "/usr/bin/qemu-system-x86_64 (deleted)",
                "qemu\0-name\0guest=b",
            ),
            (
                "22",
                "/usr/bin/qemu-system-x86_64",
                "qemu\0-S\0-machine\0none,accel=tcg",
            ),
            ("23", "/usr/bin/qemu-img", "qemu-img\0info"),
            ("self", "/usr/bin/qemu-system-x86_64", "qemu"),
        ];
        for (pid, exe, command_line) in processes {
            let directory = proc.path().join(pid);
            fs::create_dir(&directory).unwrap();
            std::os::unix::fs::symlink(exe, directory.join("exe")).unwrap();
            fs::write(directory.join("cmdline"), command_line).unwrap();
            fs::write(directory.join("cgroup"), "0::/system.slice/a.service\n").unwrap();
        }
        let guests = ["guest a (pid 20)", "guest b (pid 21)"];
        assert_eq!(names(proc.path()).unwrap(), guests);
        fs::write(proc.path().join("1/comm"), "systemd\n").unwrap();
        let all = describe(proc.path(), &BTreeSet::from([1, 20, 99]));
        assert_eq!(all, ["guest a (pid 20)", "systemd (pid 1)"]);
        let shown: Vec<_> = machines(proc.path())
            .unwrap()
            .into_iter()
            .map(|g| (g.name, g.machine))
            .collect();
        assert_eq!(
            shown,
            [("a".to_owned(), Some("pc".to_owned())), ("b".to_owned(), None)]
        );
        let found = super::processes(proc.path()).unwrap();
        assert_eq!(found[0].place, guests::Place::Service("a.service".into()));
    }

    #[test]
    fn records_are_read_and_what_is_none_is_named() {
        let run = tempfile::tempdir().unwrap();
        let directory = run.path().join("qemu");
        assert_eq!(records(&directory).unwrap(), (Vec::new(), Vec::new()));
        fs::create_dir(&directory).unwrap();
        let record = "<domstatus pid='20'><monitor path='/m'/><libDir path='/l'/>\
                      <domain><name>a</name><uuid>u</uuid></domain></domstatus>";
        for (name, text) in [("a.xml", record), ("b.xml", "<domst"), ("a.pid", "20")] {
            fs::write(directory.join(name), text).unwrap();
        }
        let (found, unreadable) = records(&directory).unwrap();
        assert_eq!((found.len(), found[0].pid), (1, 20));
        assert_eq!(unreadable.len(), 1);
        assert!(
            unreadable[0].contains("b.xml can't be understood"),
            "{unreadable:?}"
        );
    }
}

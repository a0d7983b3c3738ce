//! Guests on this host: its QEMU processes, whoever started them and in whatever namespaces.

use std::fs;
use std::path::Path;

use crate::error::{AgentError, Result};

/// Counts them in a mounted proc_pid(5).
///
/// # Errors
/// The directory can't be listed.
pub(super) fn count(proc: &Path) -> Result<u32> {
    let failed = |e| AgentError::io("list", proc, e);
    let mut guests = 0;
    for entry in fs::read_dir(proc).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let is_process = entry.file_name().to_string_lossy().parse::<u32>().is_ok();
        guests += u32::from(is_process && is_guest(&entry.path()));
    }
    Ok(guests)
}

/// A process that ended meanwhile is none.
fn is_guest(process: &Path) -> bool {
    let Ok(program) = fs::read_link(process.join("exe")) else {
        return false;
    };
    let name = program
        .file_name()
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_default();
    let is_qemu = name.starts_with("qemu-system-") || name.starts_with("qemu-kvm");
    is_qemu && !is_question(&fs::read(process.join("cmdline")).unwrap_or_default())
}

/// libvirt asks a new QEMU what it can do, by starting it without a machine.
fn is_question(command_line: &[u8]) -> bool {
    let words: Vec<&[u8]> = command_line.split(|b| *b == 0).collect();
    words
        .windows(2)
        .any(|pair| pair[0] == b"-machine" && pair[1].starts_with(b"none"))
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
        }
        assert_eq!(count(proc.path()).unwrap(), 2);
    }
}

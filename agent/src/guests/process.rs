//! What a QEMU process shows of itself.

/// A QEMU process that runs a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// Name of the guest, if it has one.
    pub name: Option<String>,
    /// Identity of the guest, if it has one.
    pub uuid: Option<String>,
    /// Whether the system's libvirt started it.
    pub of_libvirt: bool,
    /// Where it is among the cgroups.
    pub place: Place,
}

impl std::fmt::Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.name {
            Some(name) => write!(f, "guest {name} (pid {})", self.pid),
            None => write!(f, "QEMU process {}", self.pid),
        }
    }
}

/// The systemd unit whose cgroup holds a process: the outermost one, since what it does to its cgroup it does to
/// everything below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A scope: nothing of it ends when some service does.
    Scope(String),
    /// A service: its processes are systemd's to kill when it stops.
    Service(String),
    /// No unit: the path.
    NoUnit(String),
}

/// Reads cgroups(7), "/proc/pid/cgroup"; only the unified hierarchy counts.
pub fn place(table: &str) -> Place {
    let path = table.lines().find_map(|line| line.strip_prefix("0::"));
    let path = path.unwrap_or_default();
    let unit = path
        .split('/')
        .find(|part| part.ends_with(".service") || part.ends_with(".scope"));
    match unit {
        Some(unit) if unit.ends_with(".scope") => Place::Scope(unit.to_owned()),
        Some(unit) => Place::Service(unit.to_owned()),
        None => Place::NoUnit(path.to_owned()),
    }
}

/// Where the system's libvirt keeps what belongs to a running guest. Every command line names it.
const LIBRARY: &[u8] = b"/var/lib/libvirt/qemu/domain-";

/// Name and identity of the guest, and whether the system's libvirt started it, from a command line
/// (proc_pid_cmdline(5)).
pub fn read_command_line(command_line: &[u8]) -> (Option<String>, Option<String>, bool) {
    let words: Vec<&[u8]> = command_line.split(|b| *b == 0).collect();
    let value = |option: &[u8]| {
        let found = words.windows(2).find(|pair| pair[0] == option)?;
        Some(String::from_utf8_lossy(found[1]).into_owned())
    };
    let of_libvirt = command_line.windows(LIBRARY.len()).any(|part| part == LIBRARY);
    (
        value(b"-name").map(|v| guest_name(&v)),
        value(b"-uuid"),
        of_libvirt,
    )
}

/// The name in `guest=NAME,key=value` or `NAME`; QEMU doubles commas that are meant.
pub fn guest_name(value: &str) -> String {
    const COMMA: &str = "\u{0}";
    let value = value.replace(",,", COMMA);
    let first = value.split(',').next().unwrap_or_default();
    first.trim_start_matches("guest=").replace(COMMA, ",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outermost_unit_decides() {
        let scope = "0::/machine.slice/machine-qemu\\x2d1\\x2dg1.scope/libvirt/emulator\n";
        let table = [
            (scope, Place::Scope("machine-qemu\\x2d1\\x2dg1.scope".into())),
            (
                "9:name=systemd:/\n0::/system.slice/libvirtd.service\n",
                Place::Service("libvirtd.service".into()),
            ),
            (
                "0::/user.slice/user-0.slice/user@0.service/app.slice/a.scope\n",
                Place::Service("user@0.service".into()),
            ),
            (
                "0::/machine/qemu-1-g1.libvirt-qemu/emulator\n",
                Place::NoUnit("/machine/qemu-1-g1.libvirt-qemu/emulator".into()),
            ),
            ("0::/\n", Place::NoUnit("/".into())),
            ("1:cpu:/system.slice/a.service\n", Place::NoUnit(String::new())),
        ];
        for (text, expected) in table {
            assert_eq!(place(text), expected, "{text:?}");
        }
    }

    #[test]
    fn names_are_read_as_qemu_reads_them() {
        let table = [
            ("guest=g1,debug-threads=on", "g1"),
            ("g1", "g1"),
            ("guest=a,,b,,,process=x", "a,b,"),
            ("guest=", ""),
        ];
        for (text, expected) in table {
            assert_eq!(guest_name(text), expected, "{text:?}");
        }
        let line = b"/usr/bin/qemu-system-x86_64\0-name\0guest=g1,x=y\0-object\0{\"file\":\"/var/lib/libvirt/qemu/domain-1-g1/master-key.aes\"}\0-uuid\0abc\0";
        let found = read_command_line(line);
        assert_eq!(found, (Some("g1".into()), Some("abc".into()), true));
        assert_eq!(read_command_line(b"qemu\0-name"), (None, None, false));
    }
}

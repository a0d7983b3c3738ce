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
    /// Its machine type, for example `pc-i440fx-7.2`. libvirt writes the versioned name, never an alias.
    pub machine: Option<String>,
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

/// What a command line shows of its guest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// Name of the guest.
    pub name: Option<String>,
    /// Identity of the guest.
    pub uuid: Option<String>,
    /// Its machine type.
    pub machine: Option<String>,
    /// Whether the system's libvirt started it.
    pub of_libvirt: bool,
}

/// Reads the command line of a QEMU process, as proc_pid_cmdline(5) has it: qemu-system(1) `-name`, `-uuid` and
/// `-machine` (`-M`), with or without the key of the first value.
pub fn read_command_line(command_line: &[u8]) -> CommandLine {
    let words: Vec<&[u8]> = command_line.split(|b| *b == 0).collect();
    let value = |options: &[&str]| {
        let named = |word: &[u8]| options.iter().any(|option| word == option.as_bytes());
        let found = words.windows(2).find(|pair| named(pair[0]))?;
        Some(String::from_utf8_lossy(found[1]).into_owned())
    };
    CommandLine {
        name: value(&["-name"]).map(|v| first_value(&v, "guest").unwrap_or_default()),
        uuid: value(&["-uuid"]),
        machine: value(&["-machine", "-M"]).and_then(|v| first_value(&v, "type")),
        of_libvirt: command_line.windows(LIBRARY.len()).any(|part| part == LIBRARY),
    }
}

/// The value of a key that may be left out where it comes first; `None` if it is empty. QEMU doubles commas that are
/// meant.
fn first_value(text: &str, key: &str) -> Option<String> {
    const COMMA: &str = "\u{0}";
    text.replace(",,", COMMA)
        .split(',')
        .enumerate()
        .find_map(|(n, part)| match part.split_once('=') {
            Some((k, value)) if k == key => Some(value),
            None if n == 0 => Some(part),
            Some(_) | None => None,
        })
        .filter(|value| !value.is_empty())
        .map(|value| value.replace(COMMA, ","))
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
            let line = format!("qemu\0-name\0{text}");
            let name = read_command_line(line.as_bytes()).name;
            assert_eq!(name.as_deref(), Some(expected), "{text:?}");
        }
        let line = b"/usr/bin/qemu-system-x86_64\0-name\0guest=g1,x=y\0-object\0{\"file\":\"/var/lib/libvirt/qemu/domain-1-g1/master-key.aes\"}\0-uuid\0abc\0";
        let found = read_command_line(line);
        let expected = CommandLine {
            name: Some("g1".into()),
            uuid: Some("abc".into()),
            machine: None,
            of_libvirt: true,
        };
        assert_eq!(found, expected);
        assert_eq!(read_command_line(b"qemu\0-name"), CommandLine::default());
    }

    #[test]
    fn name_and_machine_are_read_however_they_are_written() {
        let table = [
            (
                "qemu -name guest=a,debug-threads=on -machine pc-i440fx-7.2,usb=off",
                Some("a"),
                Some("pc-i440fx-7.2"),
            ),
            ("qemu -name b -M q35", Some("b"), Some("q35")),
            (
                "qemu -machine accel=kvm,type=pc-q35-7.2",
                None,
                Some("pc-q35-7.2"),
            ),
            ("qemu -machine accel=kvm", None, None),
            ("qemu -machine", None, None),
            ("qemu", None, None),
        ];
        for (line, name, machine) in table {
            let found = read_command_line(line.replace(' ', "\0").as_bytes());
            assert_eq!(
                (found.name.as_deref(), found.machine.as_deref()),
                (name, machine),
                "{line}"
            );
        }
    }
}

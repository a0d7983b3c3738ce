//! A guest as its command line shows it.

/// A guest that runs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Guest {
    /// Its name, as libvirt gave it to QEMU.
    pub name: String,
    /// Its machine type, for example `pc-i440fx-7.2`. libvirt writes the versioned name, never an alias.
    pub machine: Option<String>,
}

/// Reads the command line of a QEMU process, as proc_pid_cmdline(5) has it: qemu-system(1) `-name` and `-machine`
/// (`-M`), each with or without the key of its first value.
pub fn guest_of(pid: u32, command_line: &[u8]) -> Guest {
    let words: Vec<&[u8]> = command_line.split(|b| *b == 0).collect();
    let value = |options: &[&str], key: &str| {
        let pair = words
            .windows(2)
            .find(|pair| options.iter().any(|o| pair[0] == o.as_bytes()))?;
        first_value(&String::from_utf8_lossy(pair[1]), key)
    };
    Guest {
        name: value(&["-name"], "guest").unwrap_or_else(|| format!("process {pid}")),
        machine: value(&["-machine", "-M"], "type"),
    }
}

/// The value of a key that may be left out where it comes first.
fn first_value(text: &str, key: &str) -> Option<String> {
    text.split(',')
        .enumerate()
        .find_map(|(n, part)| match part.split_once('=') {
            Some((k, value)) if k == key => Some(value),
            None if n == 0 => Some(part),
            Some(_) | None => None,
        })
        .filter(|v| !v.is_empty())
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_and_machine_are_read_however_they_are_written() {
        let table = [
            (
                "qemu -name guest=a,debug-threads=on -machine pc-i440fx-7.2,usb=off",
                "a",
                Some("pc-i440fx-7.2"),
            ),
            ("qemu -name b -M q35", "b", Some("q35")),
            (
                "qemu -machine accel=kvm,type=pc-q35-7.2",
                "process 7",
                Some("pc-q35-7.2"),
            ),
            ("qemu -machine accel=kvm", "process 7", None),
            ("qemu -machine", "process 7", None),
            ("qemu", "process 7", None),
        ];
        for (line, name, machine) in table {
            let guest = guest_of(7, line.replace(' ', "\0").as_bytes());
            assert_eq!(
                (guest.name.as_str(), guest.machine.as_deref()),
                (name, machine),
                "{line}"
            );
        }
    }
}

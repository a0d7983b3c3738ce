//! Guests of a node's libvirt that need no operating system: a program of two kilobytes that beats on its serial console
//! and answers pings, in 32 MiB, half a second after its creation. What it says goes through virtlogd, as with nova.

mod watch;

use std::fs;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::command::{command, output};
use crate::node::Node;

const BEAT: &str = include_str!("../guest/beat.S");
const ANSWER: &str = include_str!("../guest/answer.c");
const DOMAIN: &str = include_str!("../guest/domain.xml");
const INTERFACE: &str = include_str!("../guest/interface.xml");

/// On the node and in libvirt's container alike.
const DISKS: &str = "/var/lib/libvirt/images";

const PATIENCE: Duration = Duration::from_secs(120);

/// Where the program has its address, and what it may have in bytes: what it loads of itself.
const ADDRESS_AT: usize = 506;
const PROGRAM_BYTES: usize = 17 * 512;

/// Real mode, nothing but the two sources.
const COMPILE: [&str; 10] = [
    "-m16",
    "-march=i386",
    "-Os",
    "-Wall",
    "-Wextra",
    "-ffreestanding",
    "-fno-pic",
    "-fno-stack-protector",
    "-fno-asynchronous-unwind-tables",
    "-c",
];

/// A guest's network card.
#[derive(Debug, Clone, Copy)]
pub struct Card<'a> {
    /// The bridge of Open vSwitch that it is on.
    pub bridge: &'a str,
    /// The address at which the guest answers pings.
    pub address: Ipv4Addr,
}

/// A guest, by its name; it may run or not.
#[derive(Debug, Clone, Copy)]
pub struct Guest<'a> {
    node: &'a Node,
    name: &'a str,
}

/// One line of its console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beat {
    /// Beats since the guest started.
    pub count: u32,
    /// Virtio disks that it sees.
    pub disks: u32,
    /// Whether it could write to its first disk.
    pub written: bool,
}

impl<'a> Guest<'a> {
    /// Starts a guest, on a network if it gets a card; returns when it beats.
    ///
    /// # Errors
    /// libvirt refuses it, or it stays silent.
    pub fn start(node: &'a Node, name: &'a str, card: Option<Card<'_>>) -> Result<Self> {
        let guest = Self { node, name };
        let address = card.map_or(Ipv4Addr::UNSPECIFIED, |card| card.address);
        guest.make_disk("", &program(address)?)?;
        let xml = DOMAIN
            .replace("@NAME@", name)
            .replace("@DISK@", &guest.disk(""))
            .replace("@CONSOLE@", &guest.log())
            .replace(
                "@INTERFACE@",
                &card.map(|card| interface(card.bridge)).unwrap_or_default(),
            );
        guest.with_file(&xml, &["create"])?;
        guest.beat_after(None)?;
        Ok(guest)
    }

    /// The guest of that name.
    pub fn named(node: &'a Node, name: &'a str) -> Self {
        Self { node, name }
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &'a str {
        self.name
    }

    /// Pulls its plug.
    ///
    /// # Errors
    /// It does not run.
    pub fn stop(&self) -> Result<()> {
        virsh(self.node, &["destroy", self.name]).map(drop)
    }

    /// Everything it has said, also before it was started anew.
    ///
    /// # Errors
    /// It was never started.
    pub fn console(&self) -> Result<String> {
        self.node.run(["cat", &self.log()])
    }

    /// All its beats, in the order of the log.
    ///
    /// # Errors
    /// As [`Guest::console`].
    pub fn beats(&self) -> Result<Vec<Beat>> {
        Ok(self.console()?.lines().filter_map(parse).collect())
    }

    /// Waits for a beat that is later than `last`.
    ///
    /// # Errors
    /// There is none within two minutes, or the guest has started anew.
    pub fn beat_after(&self, last: Option<Beat>) -> Result<Beat> {
        self.beat_that(|beat| last.is_none_or(|last| beat.count > last.count))
            .with_context(|| format!("wait for a beat of {} after {last:?}", self.name))
    }

    /// Waits for a beat that is as wanted.
    ///
    /// # Errors
    /// There is none within two minutes.
    pub fn beat_that(&self, wanted: impl Fn(&Beat) -> bool) -> Result<Beat> {
        // Returns with the next line, or after a while without one; the log need not be there yet.
        const NEXT: &str = r#"timeout 10 tail -n 0 -F "$1" 2>/dev/null | head -n 1"#;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = String::from_utf8_lossy(&self.node.attempt(["cat", &self.log()])?.stdout).into_owned();
            if let Some(beat) = text.lines().rev().find_map(parse).filter(&wanted) {
                return Ok(beat);
            }
            if Instant::now() > deadline {
                let end: Vec<&str> = text.lines().rev().take(3).collect();
                bail!("{} does not say what is waited for, but {end:?}", self.name);
            }
            self.node.attempt(["sh", "-c", NEXT, "next", &self.log()])?;
        }
    }

    /// The node's process id of its QEMU.
    ///
    /// # Errors
    /// It does not run.
    pub fn pid(&self) -> Result<u32> {
        let name = format!("guest={},", self.name);
        let found = self
            .node
            .run(["pgrep", "-f", &format!("^/usr/bin/qemu-system-.* {name}")])?;
        found
            .trim()
            .parse()
            .with_context(|| format!("pid of {}: {found:?}", self.name))
    }

    /// The cgroup of its QEMU, from the root of the hierarchy.
    ///
    /// # Errors
    /// It does not run.
    pub fn cgroup(&self) -> Result<String> {
        let text = self.node.run(["cat", &format!("/proc/{}/cgroup", self.pid()?)])?;
        let path = text
            .trim()
            .strip_prefix("0::")
            .context("the hierarchy is not unified")?;
        Ok(path.to_owned())
    }

    /// Plugs one more virtio disk into the running guest, as `vdb` and so on.
    ///
    /// # Errors
    /// libvirt or QEMU refuses it.
    pub fn attach_disk(&self, target: &str) -> Result<()> {
        self.make_disk(target, &[])?;
        let disk = self.disk(target);
        virsh(self.node, &["attach-disk", self.name, &disk, target, "--live"]).map(drop)
    }

    /// Plugs one more network card on a bridge into the running guest.
    ///
    /// # Errors
    /// libvirt or QEMU refuses it.
    pub fn attach_interface(&self, bridge: &str) -> Result<()> {
        self.with_file(
            &interface(bridge),
            &["attach-device", self.name, "--live", "--file"],
        )
    }

    /// Runs virsh with the path of a file of this content as its last word.
    fn with_file(&self, xml: &str, words: &[&str]) -> Result<()> {
        let file = format!("{DISKS}/{}.xml", self.name);
        self.node.write(&file, xml)?;
        virsh(self.node, &[words, &[&file]].concat()).map(drop)
    }

    fn make_disk(&self, which: &str, content: &[u8]) -> Result<()> {
        let disk = self.disk(which);
        self.node.write(&disk, content)?;
        // QEMU is not root.
        self.node
            .run([
                "sh",
                "-ec",
                "truncate -s 1M \"$1\"; chmod 666 \"$1\"",
                "size",
                &disk,
            ])
            .map(drop)
    }

    fn disk(&self, which: &str) -> String {
        format!("{DISKS}/{}{which}.raw", self.name)
    }

    fn log(&self) -> String {
        // Not in `qemu/` beside it, which libvirt makes only after it has opened this one.
        format!("/var/log/libvirt/{}-console.log", self.name)
    }
}

/// Runs virsh in libvirt's container.
///
/// # Errors
/// It fails; the error has its words.
pub fn virsh(node: &Node, words: &[&str]) -> Result<String> {
    let virsh = [
        "nodectl",
        "exec",
        "libvirtd",
        "--",
        "virsh",
        "--quiet",
        "--connect",
        "qemu:///system",
    ];
    node.run(virsh.iter().chain(words))
}

/// Runs ovs-vsctl in the container of Open vSwitch.
///
/// # Errors
/// It fails; the error has its words.
pub fn vsctl(node: &Node, words: &[&str]) -> Result<String> {
    let vsctl = [
        "nodectl",
        "exec",
        "ovs-vswitchd",
        "--",
        "ovs-vsctl",
        "--timeout=30",
    ];
    node.run(vsctl.iter().chain(words))
}

/// The counts between the first and the last beat that were never said. Beats of a guest that has started anew are
/// not those of one.
///
/// # Errors
/// The counts do not rise.
pub fn missing(beats: &[Beat]) -> Result<Vec<u32>> {
    let mut missing = Vec::new();
    for pair in beats.windows(2) {
        let (one, next) = (pair[0].count, pair[1].count);
        ensure!(next > one, "{next} was said after {one}");
        missing.extend(one + 1..next);
    }
    Ok(missing)
}

fn parse(line: &str) -> Option<Beat> {
    let mut words = line.trim().strip_prefix("HB ")?.split(' ');
    Some(Beat {
        count: u32::from_str_radix(words.next()?, 16).ok()?,
        disks: words.next()?.strip_prefix("d=")?.parse().ok()?,
        // A line that is being written ends anywhere.
        written: match words.next()?.strip_prefix("w=")? {
            "." => true,
            "!" => false,
            _ => return None,
        },
    })
}

fn interface(bridge: &str) -> String {
    INTERFACE.replace("@BRIDGE@", bridge)
}

/// What the guest boots from its disk; it answers at this address.
fn program(address: Ipv4Addr) -> Result<Vec<u8>> {
    let work = tempfile::tempdir().context("make a directory")?;
    let path = |name: &str| work.path().join(name);
    for (name, text) in [("beat.S", BEAT), ("answer.c", ANSWER)] {
        fs::write(path(name), text).context("write the guest's program")?;
        let object = path(name).with_extension("o");
        output(command("gcc", COMPILE).arg("-o").arg(object).arg(path(name)))?;
    }
    let link = ["-N", "-m", "elf_i386", "-Ttext=0x7c00", "--oformat=binary", "-o"];
    output(
        command("ld", link)
            .arg(path("beat"))
            .args(["beat.o", "answer.o"].map(path)),
    )?;
    let mut program = fs::read(path("beat")).context("read the guest's program")?;
    ensure!(
        program.len() <= PROGRAM_BYTES,
        "the guest's program has {} bytes",
        program.len()
    );
    program[ADDRESS_AT..ADDRESS_AT + 4].copy_from_slice(&address.octets());
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beat(count: u32) -> Beat {
        Beat {
            count,
            disks: 1,
            written: true,
        }
    }

    #[test]
    fn whole_lines_are_beats_and_nothing_else_is() {
        let said = Beat {
            count: 0x1a,
            disks: 2,
            written: false,
        };
        assert_eq!(parse("HB 0000001a d=2 w=!\r"), Some(said));
        for other in [
            "",
            "HB",
            "HB 0000001a",
            "HB 0000001a d=2",
            "HB 0000001a d=2 w=",
            "SeaBIOS (version 1.16)",
            "HB xyz d=1 w=.",
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    #[test]
    fn what_was_never_said_is_told() {
        assert_eq!(missing(&[beat(1), beat(2), beat(5)]).unwrap(), [3, 4]);
        assert!(missing(&[]).unwrap().is_empty());
        assert!(missing(&[beat(7), beat(0)]).is_err());
    }

    #[test]
    fn the_guest_boots_and_has_its_address() {
        let program = program(Ipv4Addr::new(203, 0, 113, 11)).unwrap();
        assert_eq!(program[506..512], [203, 0, 113, 11, 0x55, 0xaa]);
    }
}

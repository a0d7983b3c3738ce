//! The node with its guests, what must not change about them, and how they get through one move.

use std::net::Ipv4Addr;

use anyhow::{Result, ensure};

use crate::dataplane::{Counted, Peer};
use crate::guests::{Card, Guest, missing, virsh, vsctl};
use crate::node::Node;
use crate::nodectl::main_process;

/// The bridge that the guests are on.
pub const BRIDGE: &str = "br-guests";

const PINGED: [(&str, Ipv4Addr); 2] = [
    ("one", Ipv4Addr::new(203, 0, 113, 11)),
    ("two", Ipv4Addr::new(203, 0, 113, 12)),
];

/// The guest that ends before the others do.
pub(super) const THIRD: &str = "three";

const CRASH: &str = include_str!("../../survival/crash.sh");
const RESTART: &str = include_str!("../../survival/restart.sh");

/// Files by which libvirt finds its guests again, with owners and modes.
const STATE: &str = "cd /; for guest; do \
    stat -c '%n %u:%g %a' run/libvirt/qemu/$guest.* var/lib/libvirt/qemu/domain-*-$guest/*; done";

/// A node with guests, and what must not change about them.
#[derive(Debug)]
pub struct Rig<'a> {
    pub(super) node: &'a Node,
    pub(super) guests: Vec<Watched<'a>>,
    state: String,
    pub(super) peer: Peer<'a>,
}

/// A guest as it was at the beginning.
#[derive(Debug)]
pub(super) struct Watched<'a> {
    pub guest: Guest<'a>,
    /// Its QEMU.
    pub pid: u32,
    /// What libvirt says about it: that it runs, and since what.
    state: String,
    /// How often QEMU had stopped it or let it go on.
    halts: usize,
}

impl<'a> Watched<'a> {
    fn begin(guest: Guest<'a>) -> Result<Self> {
        let place = guest.cgroup()?;
        ensure!(
            place.starts_with("/machine.slice/machine-qemu"),
            "QEMU is in {place}"
        );
        guest.report_halts()?;
        let state = guest.state()?;
        ensure!(state == "running (booted)", "it is {state}");
        Ok(Self {
            guest,
            pid: guest.pid()?,
            state,
            halts: guest.halts()?,
        })
    }

    fn lives(&self) -> Result<()> {
        let (guest, pid) = (&self.guest, self.pid);
        let last = guest.beats()?.last().copied();
        guest.beat_after(last)?;
        ensure!(guest.pid()? == pid, "process {pid} is not the one any more");
        let beats = guest.beats()?;
        let lost = missing(&beats)?;
        ensure!(
            lost.is_empty(),
            "the console of process {pid} lost the beats {lost:?}"
        );
        ensure!(
            beats.iter().all(|beat| beat.written),
            "process {pid} could not write to its disk"
        );
        let state = guest.state()?;
        ensure!(
            state == self.state,
            "process {pid} was {} and is {state}",
            self.state
        );
        let halts = guest.halts()?;
        ensure!(
            halts == self.halts,
            "process {pid} was stopped or let go on {} times",
            halts - self.halts
        );
        Ok(())
    }
}

impl<'a> Rig<'a> {
    /// Starts the guests and joins the peer.
    ///
    /// # Errors
    /// A guest does not start, is not in a scope of machined, or can't be watched.
    pub fn start(node: &'a Node) -> Result<Self> {
        vsctl(node, &["--may-exist", "add-br", BRIDGE])?;
        let start = |(name, address)| {
            let card = Card {
                bridge: BRIDGE,
                address,
            };
            Watched::begin(Guest::start(node, name, Some(card))?)
        };
        let mut guests = vec![start(PINGED[0])?, start(PINGED[1])?];
        guests.push(Watched::begin(Guest::start(node, THIRD, None)?)?);
        node.write("/root/crash.sh", CRASH)?;
        node.write("/root/restart.sh", RESTART)?;
        let peer = Peer::join(node, BRIDGE, &PINGED.map(|(_, address)| address))?;
        let mut rig = Self {
            node,
            guests,
            state: String::new(),
            peer,
        };
        rig.halts_are_seen()?;
        rig.state = rig.files()?;
        for part in ["/one.xml", "/two.xml", "monitor.sock", "master-key.aes"] {
            ensure!(rig.state.contains(part), "no {part} in {}", rig.state);
        }
        Ok(rig)
    }

    /// Stops the third guest for a moment: who counts halts has to notice.
    fn halts_are_seen(&mut self) -> Result<()> {
        let third = &mut self.guests[PINGED.len()];
        virsh(self.node, &["suspend", THIRD])?;
        virsh(self.node, &["resume", THIRD])?;
        let halts = third.guest.halts()?;
        ensure!(halts == third.halts + 2, "{halts} of two halts were seen");
        third.halts = halts;
        third.state = third.guest.state()?;
        Ok(())
    }

    /// One move of nodectl: libvirtd is another one afterwards, nothing else has changed, and no ping was lost.
    ///
    /// # Errors
    /// It is not so.
    pub fn through(&self, arguments: &[&str]) -> Result<String> {
        self.unharmed(|| self.replaces(&["libvirtd"], arguments))
    }

    /// libvirtd dies of a signal, and systemd by itself starts another one.
    ///
    /// # Errors
    /// It does not, or anything else has changed, or a ping was lost.
    pub fn crash(&self, signal: &str) -> Result<String> {
        self.unharmed(|| {
            let before = main_process(self.node, "libvirtd")?;
            let counted = self.peer.count(&["sh", "/root/crash.sh", signal])?;
            ensure!(
                counted.status == 0 && counted.said.contains(&format!("/{signal}")),
                "libvirtd did not end and come back: {}",
                counted.said
            );
            ensure!(
                main_process(self.node, "libvirtd")? != before,
                "libvirtd is the old one"
            );
            Ok(counted)
        })
    }

    /// virtlogd is the same, no ping was lost, and the guests live.
    pub(super) fn unharmed(&self, what: impl FnOnce() -> Result<Counted>) -> Result<String> {
        let virtlogd = main_process(self.node, "virtlogd")?;
        let counted = what()?;
        self.lives()?;
        ensure!(
            main_process(self.node, "virtlogd")? == virtlogd,
            "virtlogd was replaced"
        );
        ensure!(counted.lost() == 0, "pings were lost: {counted:?}");
        Ok(format!("{:?}", counted.guests))
    }

    /// nodectl does it, and these services have other processes afterwards.
    pub(super) fn replaces(&self, services: &[&str], arguments: &[&str]) -> Result<Counted> {
        self.replaced_by(services, &[&["nodectl"], arguments].concat())
    }

    /// A command does it, and these services have other processes afterwards.
    pub(super) fn replaced_by(&self, services: &[&str], command: &[&str]) -> Result<Counted> {
        let processes = || {
            services
                .iter()
                .map(|service| main_process(self.node, service))
                .collect::<Result<Vec<u32>>>()
        };
        let before = processes()?;
        let counted = self.peer.count(command)?;
        ensure!(counted.status == 0, "{command:?}: {}", counted.said);
        for (service, (old, new)) in services.iter().zip(before.iter().zip(processes()?)) {
            ensure!(*old != new, "{service} is the old one");
        }
        Ok(counted)
    }

    /// Of the guests that are watched, how many are not the process any more that they were.
    pub(super) fn ended(&self) -> usize {
        let same = |watched: &&Watched<'_>| watched.guest.pid().is_ok_and(|pid| pid == watched.pid);
        self.guests.len() - self.guests.iter().filter(same).count()
    }

    /// The same processes, never stopped; each line of all consoles; and everybody agrees on who runs.
    ///
    /// # Errors
    /// It is not so.
    pub fn lives(&self) -> Result<()> {
        for watched in &self.guests {
            watched.lives()?;
        }
        let files = self.files()?;
        ensure!(files == self.state, "was {}and is {files}", self.state);
        let listed = virsh(self.node, &["list", "--name", "--state-running"])?;
        let mut listed: Vec<&str> = listed.split_whitespace().collect();
        listed.sort_unstable();
        let mut known = self.names();
        known.sort_unstable();
        ensure!(listed == known, "libvirt knows {listed:?}");
        let machines = self.node.run(["machinectl", "list", "--no-legend"])?;
        ensure!(
            machines.lines().count() == known.len(),
            "machined knows {machines}"
        );
        Ok(())
    }

    /// From now on without the third guest, which has ended.
    pub(super) fn forget_third(&mut self) -> Result<()> {
        self.guests.truncate(PINGED.len());
        self.state = self.files()?;
        self.lives()
    }

    pub(super) fn names(&self) -> Vec<&'a str> {
        self.guests.iter().map(|watched| watched.guest.name()).collect()
    }

    fn files(&self) -> Result<String> {
        let list = ["sh", "-ec", STATE, "state"];
        self.node.run(list.into_iter().chain(self.names()))
    }
}

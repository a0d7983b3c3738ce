//! What still has to work with a guest that was started several releases ago.

use anyhow::{Context, Result, ensure};
use node_agent::api::{Action, ImageInUse, Plan, Status};

use super::dangers::ends;
use super::rig::{BRIDGE, Rig, THIRD};
use crate::guests::{missing, virsh, vsctl};
use crate::node::Node;
use crate::nodectl;

const RETENTION: &str = "/etc/nodectl/node.toml.d/keep.toml";

const OVERLAY: &str = "/var/lib/libvirt/images/overlay.qcow2";
const SAVED: &str = "/var/lib/libvirt/images/saved";

impl Rig<'_> {
    /// A release with another image of libvirt leaves virtlogd as it is, and says for whom.
    ///
    /// # Errors
    /// The plan says something else.
    pub fn virtlogd_waits(&self, release: &str) -> Result<()> {
        let plan: Plan = nodectl::json(self.node, &["plan", release])?;
        let service = plan.services.iter().find(|service| service.name == "virtlogd");
        let service = service.context("the plan does not know virtlogd")?;
        ensure!(service.action == Action::Pending, "{service:?}");
        for name in self.names() {
            let guest = format!("guest {name} (pid ");
            ensure!(service.reason.contains(&guest), "{service:?} lacks {guest}");
        }
        let known = |guest: &node_agent::api::PlannedGuest| guest.machine.is_some() && guest.qemu.is_some();
        ensure!(
            plan.guests.len() == self.names().len() && plan.guests.iter().all(known),
            "the plan does not know its guests: {:?}",
            plan.guests
        );
        Ok(())
    }

    /// Garbage collection keeps the root that the guests were started from, and QEMU loads a module from there.
    ///
    /// # Errors
    /// It does not, or does not say so.
    pub fn root_is_kept(&self) -> Result<()> {
        self.node.write(RETENTION, "[retention]\nkeep = 0\n")?;
        let said = nodectl::on(self.node, &["gc"])?.expect(0)?;
        self.node.run(["rm", RETENTION])?;
        ensure!(said.contains("still used by guest one (pid"), "gc says {said}");
        let status: Status = nodectl::json(self.node, &["status"])?;
        let kept: Vec<_> = status
            .in_use_trees
            .iter()
            .filter(|image| !image.current)
            .collect();
        let all = self.names().len();
        ensure!(
            kept.len() == 1 && kept[0].by.iter().filter(|by| by.starts_with("guest ")).count() == all,
            "kept: {kept:?}"
        );
        let pending = status.services.iter().find(|service| service.pending);
        ensure!(
            pending.is_some_and(|service| service.name == "virtlogd" && service.waits_for.len() == all),
            "virtlogd is not pending for all"
        );
        self.loads_late("hw-usb-host.so", "device_add usb-host,help")?;
        self.lives()
    }

    /// QEMU loads a module of the root that it was started from when it is first asked for what is in it.
    fn loads_late(&self, module: &str, question: &str) -> Result<()> {
        let maps = format!("/proc/{}/maps", self.guests[0].pid);
        let loaded = || Ok::<_, anyhow::Error>(self.node.run(["cat", &maps])?.contains(module));
        ensure!(!loaded()?, "{module} is loaded already");
        let said = virsh(self.node, &["qemu-monitor-command", "one", "--hmp", question])?;
        ensure!(loaded()?, "{module} was not loaded: {said}");
        Ok(())
    }

    /// A disk and a card, into a guest that was started by the libvirtd of another image.
    ///
    /// # Errors
    /// It does not get them.
    pub fn plug(&self) -> Result<()> {
        let guest = &self.guests[0].guest;
        guest.attach_disk("vdb")?;
        guest.beat_that(|beat| beat.disks == 2)?;
        let ports = || vsctl(self.node, &["list-ports", BRIDGE]);
        let before = ports()?;
        guest.attach_interface(BRIDGE)?;
        let after = ports()?;
        ensure!(
            after.lines().count() == before.lines().count() + 1,
            "ports: {after}"
        );
        let cards = virsh(
            self.node,
            &["qemu-monitor-command", "one", "--hmp", "info network"],
        )?;
        ensure!(cards.matches("virtio-net-pci").count() == 2, "QEMU has {cards}");
        self.lives()
    }

    /// An external snapshot of the guest's disk as nova makes one, and its end: what the guest has written meanwhile
    /// comes back into the disk.
    ///
    /// # Errors
    /// It can't be made or ended, the guest notices, or what it wrote is elsewhere.
    pub fn snapshot(&self) -> Result<()> {
        let guest = &self.guests[0].guest;
        let of_disk = format!("vda,snapshot=external,file={OVERLAY}");
        let create = [
            "snapshot-create-as",
            "one",
            "--disk-only",
            "--atomic",
            "--no-metadata",
        ];
        let disks = ["--diskspec", &of_disk, "--diskspec", "vdb,snapshot=no"];
        virsh(self.node, &[&create[..], &disks].concat())?;
        let disks = || virsh(self.node, &["domblklist", "one"]);
        ensure!(disks()?.contains(OVERLAY), "{}", disks()?);
        let first = guest.beat_after(guest.beats()?.last().copied())?;
        let beat = guest.beat_after(Some(first))?;
        let on_disk = guest.count_on_disk()?;
        ensure!(
            on_disk < beat.count,
            "{on_disk} is in the disk below the snapshot, after {beat:?}"
        );
        virsh(
            self.node,
            &["blockcommit", "one", "vda", "--active", "--pivot", "--wait"],
        )?;
        ensure!(!disks()?.contains(OVERLAY), "{}", disks()?);
        let beat = guest.beat_after(Some(beat))?;
        let on_disk = guest.count_on_disk()?;
        ensure!(on_disk >= beat.count, "{on_disk} is in the disk, after {beat:?}");
        self.lives()
    }

    /// The third guest is saved and restored: its QEMU is that of the current release then, and reads what the QEMU of
    /// release 1 wrote, as in a migration between the two. It goes on where it was.
    ///
    /// # Errors
    /// It is not so.
    pub fn save_and_restore(&mut self) -> Result<()> {
        let third = &self.guests[self.guests.len() - 1];
        let (guest, pid) = (third.guest, third.pid);
        let before = image_of(self.node, THIRD)?;
        virsh(self.node, &["save", THIRD, SAVED])?;
        ends(self.node, pid)?;
        let last = guest.beats()?.last().copied();
        virsh(self.node, &["restore", SAVED])?;
        guest.beat_after(last)?;
        let lost = missing(&guest.beats()?)?;
        ensure!(lost.is_empty(), "the console lost the beats {lost:?}");
        let after = image_of(self.node, THIRD)?;
        ensure!(
            !before.current && after.current && guest.pid()? != pid,
            "it was in {before:?} and is in {after:?}"
        );
        guest.stop()?;
        self.forget_third()
    }
}

/// The image whose QEMU a guest runs in.
fn image_of(node: &Node, name: &str) -> Result<ImageInUse> {
    let status: Status = nodectl::json(node, &["status"])?;
    let guest = format!("guest {name} (pid ");
    let mut images = status.in_use_trees.into_iter();
    images
        .find(|image| image.by.iter().any(|by| by.starts_with(&guest)))
        .with_context(|| format!("nothing is in use by {guest}"))
}

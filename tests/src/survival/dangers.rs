//! Guests that would not outlive a stop of libvirtd, and what would interrupt something: nodectl refuses, and says
//! whom it would harm and why.

use anyhow::{Context, Result, ensure};
use node_agent::api::Status;

use super::rig::Rig;
use crate::guests::{Guest, virsh};
use crate::machined;
use crate::node::Node;
use crate::nodectl::{self, main_process};
use crate::progress::Progress;

const AWAY: &str = "/root/away";

/// All releases were signed before the node moves, and some before one that it has run.
pub(super) const OLDER: &str = "--allow-downgrade";

/// A backup that lasts until somebody ends it.
const BACKUP: &str = "<domainbackup mode='pull'><server transport='tcp' name='127.0.0.1' port='10809'/>\
    <disks><disk name='vda' type='file'><scratch file='/var/lib/libvirt/images/scratch.qcow2'/></disk></disks>\
    </domainbackup>";
const BACKUP_FILE: &str = "/var/lib/libvirt/images/backup.xml";

impl Rig<'_> {
    /// A block job of QEMU, then a job of libvirt.
    ///
    /// # Errors
    /// nodectl goes on, or says something else, or a guest suffers.
    pub fn busy_is_refused(&self) -> Result<()> {
        let copy = "/var/lib/libvirt/images/copy.raw";
        let job = ["blockcopy", "one", "vda", "--dest", copy, "--transient-job"];
        virsh(self.node, &job)?;
        let why = ["guest one (pid ", ": a block job is running: copy of vda"];
        refused(self.node, &["rollback"], &why)?;
        virsh(self.node, &["blockjob", "one", "vda", "--abort"])?;
        self.lives()?;
        self.node.write(BACKUP_FILE, BACKUP)?;
        virsh(self.node, &["backup-begin", "two", BACKUP_FILE])?;
        let why = ["guest two (pid ", ": libvirt is busy with it: backup"];
        refused(self.node, &["rollback"], &why)?;
        virsh(self.node, &["domjobabort", "two"])?;
        self.lives()
    }

    /// machined is away while the guests are in its scopes.
    ///
    /// # Errors
    /// As [`Rig::busy_is_refused`].
    pub fn without_machined_is_refused(&self) -> Result<()> {
        machined::take_away(self.node)?;
        let why = [
            "guest one (pid ",
            "guest two (pid ",
            ": systemd-machined does not answer for it: ",
        ];
        refused(self.node, &["rollback"], &why)?;
        machined::bring_back(self.node)?;
        self.lives()
    }

    /// What libvirt commands a guest by is gone: the key of one, the socket of the other.
    ///
    /// # Errors
    /// As [`Rig::busy_is_refused`].
    pub fn out_of_reach_is_refused(&self) -> Result<()> {
        let find = |name: &str, file: &str| {
            let pattern = format!("/var/lib/libvirt/qemu/domain-*-{name}/{file}");
            let found = self.node.run(["sh", "-c", &format!("ls -d {pattern}")])?;
            anyhow::Ok(found.trim().to_owned())
        };
        let (key, socket) = (find("one", "master-key.aes")?, find("two", "monitor.sock")?);
        let (key_away, socket_away) = (format!("{AWAY}-key"), format!("{AWAY}-socket"));
        self.node.run(["mv", &key, &key_away])?;
        self.node.run(["mv", &socket, &socket_away])?;
        let why = [
            "guest one (pid ",
            &format!(": {key} is missing, without which libvirt kills it"),
            "guest two (pid ",
            &format!(": {socket} is missing, without which libvirt kills it"),
        ];
        refused(self.node, &["rollback"], &why)?;
        self.node.run(["mv", &key_away, &key])?;
        self.node.run(["mv", &socket_away, &socket])?;
        self.lives()
    }

    /// A libvirtd that comes up and does not see the guests is left again.
    ///
    /// # Errors
    /// The node stays there, does not say why, or a guest suffers.
    pub fn blind_is_left(&self, release: &str) -> Result<String> {
        let before: Status = nodectl::json(self.node, &["status"])?;
        self.unharmed(|| {
            let counted = self.peer.count(&["nodectl", "upgrade", release])?;
            ensure!(counted.status == 70, "{counted:?}");
            for word in ["guest one (pid ", ": it runs, and libvirt does not know it"] {
                ensure!(counted.said.contains(word), "no {word:?} in {}", counted.said);
            }
            let after: Status = nodectl::json(self.node, &["status"])?;
            ensure!(
                after.healthy && after.deployment == before.deployment,
                "from {before:?} to {after:?}"
            );
            Ok(counted)
        })
    }

    /// A guest that is started while machined is away has no machine. Once machined is back, the next libvirtd kills
    /// it: nodectl refuses and names it, and does it if it is forced to.
    ///
    /// # Errors
    /// nodectl goes on unforced, another guest suffers, or this one lives.
    pub fn known_bad(&self, release: &str) -> Result<()> {
        machined::take_away(self.node)?;
        self.node.run(["systemctl", "restart", "libvirtd"])?;
        let doomed = Guest::start(self.node, "doomed", None)?;
        machined::bring_back(self.node)?;
        let why = [
            "guest doomed (pid ",
            "it was started without systemd-machined, and libvirt kills such a guest",
        ];
        refused(self.node, &["upgrade", release], &why)?;
        doomed.beat_after(doomed.beats()?.last().copied())?;
        let pid = doomed.pid()?;
        nodectl::on(self.node, &["upgrade", release, "--force"])?.expect(0)?;
        ends(self.node, pid).context("the guest lives: the gate refuses what does no harm")?;
        self.lives()
    }
}

/// nodectl refuses, says all of this, and does not touch libvirtd.
pub(super) fn refused(node: &Node, arguments: &[&str], why: &[&str]) -> Result<()> {
    let before = main_process(node, "libvirtd")?;
    let said = nodectl::on(node, arguments)?;
    ensure!(said.code == 75, "{said:?}");
    for word in why {
        ensure!(said.errors.contains(word), "no {word:?} in {}", said.errors);
    }
    ensure!(main_process(node, "libvirtd")? == before, "libvirtd was touched");
    Ok(())
}

/// Waits for a process of a node to end.
///
/// # Errors
/// It does not, in two minutes.
pub fn ends(node: &Node, pid: u32) -> Result<()> {
    let gone = format!("--pid={pid}");
    node.run(["timeout", "120", "tail", &gone, "-f", "/dev/null"])
        .map(drop)
}

/// Without machined and without controllers libvirt leaves QEMU in the cgroup of its own service. What a container
/// runtime does when it deletes a container (`cgroup.kill`) ends such a guest; nodectl refuses to go back, and names it.
///
/// # Errors
/// nodectl goes on, or the guest lives.
pub fn in_the_cgroup_of_its_daemon(node: &Node, release: &str, progress: &Progress) -> Result<()> {
    node.write(
        "/etc/nodectl/node.toml.d/cgroups.toml",
        "[overrides.libvirtd.files.\"/etc/libvirt/qemu.conf\"]\ncgroup_controllers = []\n",
    )?;
    nodectl::telling(node, &["upgrade", OLDER, release], progress)?.expect(0)?;
    machined::take_away(node)?;
    node.run(["systemctl", "restart", "libvirtd"])?;
    let inside = Guest::start(node, "inside", None)?;
    let place = inside.cgroup()?;
    ensure!(
        place.starts_with("/system.slice/libvirtd.service"),
        "QEMU is in {place}"
    );
    let why = [
        "guest inside (pid ",
        ": it is in the cgroup of libvirtd.service and not in a machine scope",
    ];
    refused(node, &["rollback"], &why)?;
    inside.beat_after(inside.beats()?.last().copied())?;
    let pid = inside.pid()?;
    let kill = format!("/sys/fs/cgroup{place}/cgroup.kill");
    node.run(["sh", "-c", "echo 1 >\"$1\"", "kill", &kill])?;
    ends(node, pid).context("the guest lives: the gate refuses what does no harm")
}

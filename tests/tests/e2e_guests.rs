//! Guests while libvirt is upgraded, rolled back and killed, on a kernel of its own. Needs root, and `make stage` before.
//! `NODECTL_E2E_KIND=vm` runs it in QEMU instead of user-mode-linux.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use node_agent::api::{Plan, Status};
use node_tests::dataplane::{Counted, Peer};
use node_tests::guests::{Card, Guest, missing, virsh, vsctl};
use node_tests::hypervisor;
use node_tests::node::{Name, Node};
use node_tests::nodectl::{self, main_process};
use node_tests::progress::Progress;
use node_tests::publish::Publisher;
use node_tests::stage::play;
use node_tests::story::Story;
use node_tests::{machined, order, paths};

/// Releases that differ in libvirt's image alone; one more has other Open vSwitch daemons, too.
const RELEASES: u32 = 4;

const BRIDGE: &str = "br-guests";

const GUESTS: [(&str, Ipv4Addr); 2] = [
    ("one", Ipv4Addr::new(203, 0, 113, 11)),
    ("two", Ipv4Addr::new(203, 0, 113, 12)),
];

#[test]
fn guests_outlive_their_libvirt() {
    play("nodectl-guests", "guests", tell);
}

fn tell(story: &mut Story, stage: &Path) -> Result<()> {
    let (publisher, releases) = story.step("releases of libvirt are published", |progress| {
        let publisher = hypervisor::publisher(stage, progress)?;
        let releases = publish(&publisher, progress)?;
        Ok((publisher, releases))
    })?;
    let node = story.step(
        "a node boots on a kernel of its own, with release 1",
        |progress| {
            let node = hypervisor::boot(&Name::parse("g1")?, hypervisor::kind(), stage, &publisher)?;
            hypervisor::upgrade(&node, &releases[0], progress)?;
            Ok(node)
        },
    )?;
    let rig = story.step("two guests count and answer pings", |_| Rig::start(&node))?;
    rig.through(story, "upgrade to release 2", &["upgrade", &releases[1]])?;
    rig.through(story, "rollback to release 1", &["rollback"])?;
    story.step("libvirtd is killed", |_| rig.kill())?;
    for (number, release) in releases[..RELEASES as usize].iter().enumerate().skip(1) {
        let title = format!("upgrade to release {}", number + 1);
        rig.through(story, &title, &["upgrade", release])?;
    }
    story.step("gc leaves the root that they were started from", |_| {
        rig.root_is_kept()
    })?;
    story.step(
        "a disk and a card are plugged into a guest that release 1 started",
        |_| rig.plug(),
    )?;
    story.step("a block job stands in the way, and is named", |_| {
        rig.busy_is_refused()
    })?;
    let told = story.step(
        "a release with other Open vSwitch daemons, too, comes and goes and comes",
        |_| rig.whole_set(&releases[RELEASES as usize]),
    )?;
    story.show(&told);
    story.step("a guest without a machine would die, and is named", |_| {
        rig.known_bad()
    })?;
    story.step(
        "at a reboot nova ends before guests and guests before libvirt; Open vSwitch is there before the network",
        |_| reboot_in_order(&node),
    )?;
    story.step(
        "a guest in the cgroup of libvirtd would die with it, and is named",
        |progress| in_the_cgroup_of_its_daemon(&node, &releases[RELEASES as usize], progress),
    )
}

/// Each release has an image of its own: other configuration, the same files and one package more.
fn publish(publisher: &Publisher, progress: &Progress) -> Result<Vec<String>> {
    let work = paths::work().join("publish");
    for number in 2..=RELEASES {
        let name = format!("libvirt-{number}");
        let text = format!(
            "format = 1\nname = \"{name}\"\ndescription = \"build {number}\"\nbase = \"libvirt\"\n\
             packages = [\"sysfsutils\"]\n"
        );
        std::fs::write(work.join(format!("definitions/{name}.toml")), text)?;
        publisher.build_image(&name, progress)?;
        publisher.push_image(&name, "libvirt", &number.to_string())?;
    }
    // The guests here do not know how to shut down: nobody waits for them for minutes.
    let service = work.join("services/libvirtd.toml");
    let text = std::fs::read_to_string(&service)?;
    std::fs::write(
        &service,
        text.replace("SHUTDOWN_TIMEOUT=300", "SHUTDOWN_TIMEOUT=3"),
    )?;
    let definition = work.join("releases/compute.toml");
    let publish = |number: u32, libvirt: u32| {
        let libvirt = libvirt.to_string();
        let images = [("openvswitch", "1"), ("libvirt", &libvirt), ("nova-compute", "1")];
        publisher.publish(&definition, &number.to_string(), &images)
    };
    let mut releases: Vec<String> = (1..=RELEASES)
        .map(|number| publish(number, number))
        .collect::<Result<_>>()?;
    for service in ["ovsdb-server", "ovs-vswitchd"] {
        let mut file = OpenOptions::new()
            .append(true)
            .open(work.join(format!("services/{service}.toml")))?;
        writeln!(file, "\n[container.process.env]\nRELEASE = \"{}\"", RELEASES + 1)?;
    }
    releases.push(publish(RELEASES + 1, 1)?);
    Ok(releases)
}

/// A node with two guests, and what must not change about them.
struct Rig<'a> {
    node: &'a Node,
    guests: [Guest<'a>; 2],
    pids: [u32; 2],
    /// Owners and modes of what libvirt finds them again by.
    state: String,
    peer: Peer<'a>,
}

impl<'a> Rig<'a> {
    fn start(node: &'a Node) -> Result<Self> {
        vsctl(node, &["--may-exist", "add-br", BRIDGE])?;
        let start = |(name, address)| {
            let card = Card {
                bridge: BRIDGE,
                address,
            };
            Guest::start(node, name, Some(card))
        };
        let guests = [start(GUESTS[0])?, start(GUESTS[1])?];
        for guest in &guests {
            let place = guest.cgroup()?;
            ensure!(
                place.starts_with("/machine.slice/machine-qemu"),
                "QEMU is in {place}"
            );
        }
        let pids = [guests[0].pid()?, guests[1].pid()?];
        let state = state(node)?;
        for part in ["/one.xml", "/two.xml", "monitor.sock", "master-key.aes"] {
            ensure!(state.contains(part), "no {part} in {state}");
        }
        let peer = Peer::join(node, BRIDGE, &GUESTS.map(|(_, address)| address))?;
        Ok(Self {
            node,
            guests,
            pids,
            state,
            peer,
        })
    }

    /// One move: libvirtd is another one afterwards, nothing else has changed, and no ping was lost.
    fn through(&self, story: &mut Story, title: &str, arguments: &[&str]) -> Result<()> {
        let counted = story.step(title, |_| {
            let virtlogd = main_process(self.node, "virtlogd")?;
            let counted = self.replaces(&["libvirtd"], arguments)?;
            ensure!(
                main_process(self.node, "virtlogd")? == virtlogd,
                "virtlogd was replaced"
            );
            ensure!(counted.lost() == 0, "pings were lost: {counted:?}");
            Ok(counted)
        })?;
        story.show(&format!("{:?}", counted.guests));
        Ok(())
    }

    /// nodectl does it, these services have other processes afterwards, and the guests live.
    fn replaces(&self, services: &[&str], arguments: &[&str]) -> Result<Counted> {
        let processes = || {
            services
                .iter()
                .map(|service| main_process(self.node, service))
                .collect::<Result<Vec<u32>>>()
        };
        let before = processes()?;
        let counted = self.peer.count(&[&["nodectl"], arguments].concat())?;
        ensure!(counted.status == 0, "nodectl {arguments:?}: {}", counted.said);
        for (service, (old, new)) in services.iter().zip(before.iter().zip(processes()?)) {
            ensure!(*old != new, "{service} is the old one");
        }
        self.lives()?;
        Ok(counted)
    }

    /// Up, back and up again. Where pings are lost the window was too long for this machine, and the peer forgot a guest.
    fn whole_set(&self, release: &str) -> Result<String> {
        let plan: Plan = nodectl::json(self.node, &["plan", release])?;
        ensure!(
            plan.guests.len() == 2
                && plan
                    .guests
                    .iter()
                    .all(|guest| guest.machine.is_some() && guest.qemu.is_some()),
            "the plan does not know its guests: {:?}",
            plan.guests
        );
        let all = ["ovsdb-server", "ovs-vswitchd", "libvirtd"];
        let mut told = String::new();
        for arguments in [&["upgrade", release][..], &["rollback"], &["upgrade", release]] {
            let counted = self.replaces(&all, arguments)?;
            writeln!(
                told,
                "{}: {:?}, window {:?} ms",
                arguments[0], counted.guests, counted.window_ms
            )?;
            ensure!(!counted.unexplained_loss(), "pings were lost: {counted:?}");
        }
        Ok(told)
    }

    /// The same processes, each line of both consoles, and everybody agrees on who runs.
    fn lives(&self) -> Result<()> {
        for (guest, pid) in self.guests.iter().zip(self.pids) {
            let last = guest.beats()?.last().copied();
            guest.beat_after(last)?;
            ensure!(guest.pid()? == pid, "process {pid} is not the one any more");
            let lost = missing(&guest.beats()?)?;
            ensure!(
                lost.is_empty(),
                "the console of process {pid} lost the beats {lost:?}"
            );
        }
        let state = state(self.node)?;
        ensure!(state == self.state, "was {}and is {state}", self.state);
        let listed = virsh(self.node, &["list", "--name", "--state-running"])?;
        let mut listed: Vec<&str> = listed.split_whitespace().collect();
        listed.sort_unstable();
        ensure!(listed == ["one", "two"], "libvirt knows {listed:?}");
        let machines = self.node.run(["machinectl", "list", "--no-legend"])?;
        ensure!(machines.lines().count() == 2, "machined knows {machines}");
        Ok(())
    }

    fn kill(&self) -> Result<()> {
        let before = main_process(self.node, "libvirtd")?;
        self.node.run(["kill", "-KILL", &before.to_string()])?;
        // systemd starts the next one a second later, and it is ready when it has its sockets.
        let back = "until systemctl is-active -q libvirtd && [ $(systemctl show --value -p MainPID libvirtd) != $1 ]; \
                    do systemctl start libvirtd || sleep 1; done";
        self.node
            .run(["timeout", "120", "sh", "-c", back, "sh", &before.to_string()])?;
        self.lives()
    }

    fn root_is_kept(&self) -> Result<()> {
        self.node
            .write("/etc/nodectl/node.toml.d/keep.toml", "[retention]\nkeep = 0\n")?;
        let said = nodectl::on(self.node, &["gc"])?.expect(0)?;
        ensure!(said.contains("still used by guest one (pid"), "gc says {said}");
        let status: Status = nodectl::json(self.node, &["status"])?;
        let kept: Vec<_> = status
            .in_use_trees
            .iter()
            .filter(|image| !image.current)
            .collect();
        ensure!(
            kept.len() == 1 && kept[0].by.iter().filter(|by| by.starts_with("guest ")).count() == 2,
            "kept: {kept:?}"
        );
        let pending = status.services.iter().find(|service| service.pending);
        ensure!(
            pending.is_some_and(|service| service.name == "virtlogd" && service.waits_for.len() == 2),
            "virtlogd is not pending for both"
        );
        self.loads_late("hw-usb-host.so", "device_add usb-host,help")?;
        self.lives()
    }

    /// QEMU loads a module of the root that it was started from when it is first asked for what is in it.
    fn loads_late(&self, module: &str, question: &str) -> Result<()> {
        let maps = format!("/proc/{}/maps", self.pids[0]);
        let loaded = || Ok::<_, anyhow::Error>(self.node.run(["cat", &maps])?.contains(module));
        ensure!(!loaded()?, "{module} is loaded already");
        let said = virsh(self.node, &["qemu-monitor-command", "one", "--hmp", question])?;
        ensure!(loaded()?, "{module} was not loaded: {said}");
        Ok(())
    }

    /// Into a guest that was started by the libvirtd of another image.
    fn plug(&self) -> Result<()> {
        let guest = &self.guests[0];
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

    fn busy_is_refused(&self) -> Result<()> {
        let copy = "/var/lib/libvirt/images/copy.raw";
        let job = ["blockcopy", "one", "vda", "--dest", copy, "--transient-job"];
        virsh(self.node, &job)?;
        let said = nodectl::on(self.node, &["rollback"])?;
        ensure!(
            said.code == 75 && said.errors.contains("guest one (pid") && said.errors.contains("copy of vda"),
            "{said:?}"
        );
        virsh(self.node, &["blockjob", "one", "vda", "--abort"])?;
        self.lives()
    }

    /// A guest that is started while machined is away has no machine. Once machined is back, the next libvirtd kills
    /// it: nodectl refuses and names it, a plain restart does not.
    fn known_bad(&self) -> Result<()> {
        machined::take_away(self.node)?;
        let doomed = Guest::start(self.node, "doomed", None)?;
        machined::bring_back(self.node)?;
        refused(self.node, &doomed, "doomed")?;
        let pid = doomed.pid()?;
        self.node.run(["systemctl", "restart", "libvirtd"])?;
        ends(self.node, pid).context("the guest lives: the gate refuses what does no harm")?;
        self.lives()
    }
}

/// Status files, monitor sockets and keys of both guests, with owners and modes.
fn state(node: &Node) -> Result<String> {
    const LIST: &str = "cd /; for guest in one two; do \
        stat -c '%n %u:%g %a' run/libvirt/qemu/$guest.* var/lib/libvirt/qemu/domain-*-$guest/*; done";
    node.run(["sh", "-ec", LIST])
}

/// A rollback is refused, names the guest, and touches neither it nor libvirtd.
fn refused(node: &Node, guest: &Guest<'_>, name: &str) -> Result<()> {
    let before = main_process(node, "libvirtd")?;
    let said = nodectl::on(node, &["rollback"])?;
    ensure!(
        said.code == 75 && said.errors.contains(&format!("guest {name} (pid")),
        "{said:?}"
    );
    ensure!(main_process(node, "libvirtd")? == before, "libvirtd was touched");
    let last = guest.beats()?.last().copied();
    guest.beat_after(last).map(drop)
}

/// Waits for a process of a node to end.
fn ends(node: &Node, pid: u32) -> Result<()> {
    let gone = format!("--pid={pid}");
    node.run(["timeout", "120", "tail", &gone, "-f", "/dev/null"])
        .map(drop)
}

/// Nova before guests, guests before libvirt; and Open vSwitch before the network that is configured on top of it.
fn reboot_in_order(node: &Node) -> Result<()> {
    node.write(
        "/etc/systemd/system/nova-compute.service",
        "[Unit]\nDescription=in place of nova\nAfter=libvirtd.service\n[Service]\nExecStart=/bin/sleep infinity\n",
    )?;
    order::network_on(node, BRIDGE, "203.0.113.1/24")?;
    node.run(["systemctl", "daemon-reload"])?;
    node.run(["systemctl", "start", "nova-compute"])?;
    node.reboot()?;
    order::stopped_in_order(
        node,
        &[
            "Stopped nova-compute.service",
            "Stopping nodectl-guests.service",
            "Stopped nodectl-guests.service",
            "Stopped target virt-guest-shutdown.target",
            "Stopped machine-qemu",
            "Stopping libvirtd.service",
            "Stopped libvirtd.service",
            "Stopping virtlogd.service",
        ],
    )?;
    order::network_after(node, "ovs-vswitchd", BRIDGE, "203.0.113.1")?;
    let up = [
        "systemctl",
        "is-active",
        "nodectl-guests",
        "virt-guest-shutdown.target",
    ];
    node.run(up).map(drop)
}

/// Without machined and without controllers libvirt leaves QEMU in the cgroup of its own service. What a container
/// runtime does when it deletes a container (`cgroup.kill`) ends such a guest; nodectl refuses and names it.
fn in_the_cgroup_of_its_daemon(node: &Node, release: &str, progress: &Progress) -> Result<()> {
    node.write(
        "/etc/nodectl/node.toml.d/cgroups.toml",
        "[overrides.libvirtd.files.\"/etc/libvirt/qemu.conf\"]\ncgroup_controllers = []\n",
    )?;
    hypervisor::upgrade(node, release, progress)?;
    machined::take_away(node)?;
    let inside = Guest::start(node, "inside", None)?;
    let place = inside.cgroup()?;
    ensure!(
        place.starts_with("/system.slice/libvirtd.service"),
        "QEMU is in {place}"
    );
    refused(node, &inside, "inside")?;
    let pid = inside.pid()?;
    let kill = format!("/sys/fs/cgroup{place}/cgroup.kill");
    node.run(["sh", "-c", "echo 1 >\"$1\"", "kill", &kill])?;
    ends(node, pid).context("the guest lives: the gate refuses what does no harm")
}

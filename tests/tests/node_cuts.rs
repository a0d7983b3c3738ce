//! The power goes again and again while a node moves between releases of the real libvirt and Open vSwitch, at instants
//! that a seed chooses: it boots into exactly one of two deployments, whole and healthy, without help. Needs root, and
//! `make stage` before it.
//!
//! In QEMU the disk has a volatile cache, so a cut loses what was not flushed; `NODECTL_E2E_KIND=uml` is quicker, and
//! there it loses what the kernel had not sent to the disk. `NODECTL_CUTS` says how often, `NODECTL_SEED` when; runs of
//! different seeds can go on side by side.
//! `NODECTL_WITHOUT=syncfs` lets noded believe that this system call was made: a loop that is worth something fails then.

use std::path::Path;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use node_agent::api::{HistoryEntry, OperationResult, Status};
use node_tests::hypervisor::{self, SERVICES};
use node_tests::node::{Name, Node};
use node_tests::nodectl::{self, Said};
use node_tests::progress::Progress;
use node_tests::publish::Publisher;
use node_tests::stage::{number, play};
use node_tests::story::Story;
use node_tests::torture::dice::Dice;
use node_tests::torture::tally::Tally;
use node_tests::{paths, tiny};

/// What lies in `tests/cuts/`.
const WHOLE: &str = include_str!("../cuts/whole.sh");

/// Each differs from the others in these images.
const RELEASES: [&str; 3] = ["1", "2", "3"];
const CHANGED: [&str; 2] = ["openvswitch", "libvirt"];

/// Bytes that each image brings of its own, before they are written in hexadecimal.
const PAYLOAD: usize = 1 << 20;

/// For an interrupted move to come to its end after a boot, on an emulated processor.
const SETTLE: Duration = Duration::from_secs(400);

/// What an operation that has entered a phase says first.
const PHASES: [(&str, &str); 8] = [
    ("fetching", "fetching"),
    ("verified", "verified"),
    ("staged:", "staged"),
    ("armed:", "armed"),
    ("activating:", "activating"),
    ("probation:", "probation"),
    ("blessed:", "blessed"),
    ("reverting", "reverting"),
];

#[test]
fn a_node_outlives_cuts_of_its_power() {
    let (kind, seed) = (hypervisor::kind(), number("NODECTL_SEED", 1));
    play(
        &format!("nodectl-cuts-{seed}"),
        &format!("power cuts ({kind}, seed {seed})"),
        |story, stage| tell(story, stage, seed),
    );
}

fn tell(story: &mut Story, stage: &Path, seed: u64) -> Result<()> {
    let (publisher, releases) = story.step("three releases are in the registry", |progress| {
        let publisher = hypervisor::publisher(stage, progress)?;
        let releases = publish(&publisher, progress)?;
        Ok((publisher, releases))
    })?;
    let node = story.step("a node runs the first one", |progress| {
        let node = hypervisor::boot(&Name::parse("c1")?, hypervisor::kind(), stage, &publisher)?;
        node.write(
            "/etc/nodectl/node.toml.d/cuts.toml",
            "[probation]\nwindow_sec = 3\n\n[retention]\nkeep = 0\n",
        )?;
        pretend(&node)?;
        hypervisor::upgrade(&node, &releases[0], progress)?;
        Ok(node)
    })?;
    let mut rig = Rig {
        node: &node,
        releases,
        lengths: [Duration::ZERO; 2],
        dice: Dice::new(seed),
        tally: Tally::new("cuts"),
    };
    story.step("an upgrade and a rollback take their time", |_| rig.measure())?;
    let cuts = (0..number("NODECTL_CUTS", 3)).try_for_each(|count| {
        story.step(&format!("cut {}", count + 1), |progress| {
            rig.cut(count % 2 == 0, progress)
        })
    });
    rig.tally.print();
    cuts?;
    ensure!(rig.tally.wrong() == 0, "{}", rig.tally.sentence());
    Ok(())
}

/// Takes system calls away from noded: it is told that they succeeded.
fn pretend(node: &Node) -> Result<()> {
    let Ok(call) = std::env::var("NODECTL_WITHOUT") else {
        return Ok(());
    };
    node.write(
        "/etc/systemd/system/noded.service.d/without.conf",
        format!("[Service]\nSystemCallFilter=~{call}:0\n"),
    )?;
    node.run(["systemctl", "daemon-reload"])?;
    node.run(["systemctl", "restart", "noded"]).map(drop)
}

fn publish(publisher: &Publisher, progress: &Progress) -> Result<Vec<String>> {
    let noise = hex::encode(tiny::noise(PAYLOAD));
    for number in RELEASES {
        for base in CHANGED {
            let name = format!("{base}-{number}");
            let text = format!(
                "format = 1\nname = \"{name}\"\ndescription = \"build {number}\"\nbase = \"{base}\"\n\
                 [[files]]\npath = \"/usr/share/payload\"\ncontent = \"{number}{noise}\"\n"
            );
            publisher.define_image(&name, &text)?;
            publisher.build_image(&name, progress)?;
            publisher.push_image(&name, base, number)?;
        }
    }
    let definition = paths::work().join("publish/releases/compute.toml");
    RELEASES
        .iter()
        .map(|number| {
            let images = [
                ("openvswitch", *number),
                ("libvirt", *number),
                ("nova-compute", "1"),
            ];
            publisher.publish(&definition, number, &images)
        })
        .collect()
}

/// The node, and what is known about it.
struct Rig<'a> {
    node: &'a Node,
    /// References, in the order of [`RELEASES`].
    releases: Vec<String>,
    /// How long an upgrade takes, and a rollback.
    lengths: [Duration; 2],
    dice: Dice,
    tally: Tally,
}

/// A move that is going to be interrupted.
struct Move {
    arguments: Vec<String>,
    from: String,
    to: String,
    upgrade: bool,
}

impl Move {
    fn verb(&self) -> &'static str {
        if self.upgrade { "upgrade" } else { "rollback" }
    }
}

/// What was heard of a move until the power went.
struct Heard {
    /// What nodectl said last.
    last: String,
    phase: &'static str,
    /// Its result, if it came to one.
    said: Option<Said>,
}

impl Heard {
    fn new(lines: &[String], said: Option<Said>) -> Self {
        let of = |line: &String| PHASES.iter().find(|(word, _)| line.starts_with(word));
        let phase = lines
            .iter()
            .rev()
            .find_map(of)
            .map_or("before", |(_, phase)| phase);
        Self {
            last: lines.last().cloned().unwrap_or_default(),
            phase: if said.is_some() { "after" } else { phase },
            said,
        }
    }
}

impl Rig<'_> {
    /// One upgrade and one rollback in peace.
    fn measure(&mut self) -> Result<()> {
        for index in [0, 1] {
            let movement = self.next_move(index == 0)?;
            let begun = Instant::now();
            let said = self.carry_out(&movement, |_| {})?;
            self.lengths[index] = begun.elapsed();
            said.expect(0)?;
            let whole = self.whole()?;
            ensure!(whole.is_empty(), "after {}: {whole:?}", movement.verb());
        }
        eprintln!(
            "   upgrade {:.1} s, rollback {:.1} s",
            self.lengths[0].as_secs_f64(),
            self.lengths[1].as_secs_f64()
        );
        Ok(())
    }

    /// An upgrade to the release that is not on the node, or a rollback.
    fn next_move(&self, upgrade: bool) -> Result<Move> {
        let status: Status = nodectl::json(self.node, &["status"])?;
        let version = |seq| {
            let entry = status.deployments.iter().find(|entry| Some(entry.seq) == seq);
            entry.map(|entry| entry.release.version.clone())
        };
        let from = version(status.deployment).context("nothing is current")?;
        let previous = version(status.previous).filter(|previous| *previous != from);
        match previous {
            Some(to) if !upgrade => Ok(Move {
                arguments: vec!["rollback".to_owned()],
                from,
                to,
                upgrade,
            }),
            previous => {
                let gone = |number: &&str| **number != from && Some(*number) != previous.as_deref();
                let to = RELEASES.iter().position(gone).unwrap_or(0);
                Ok(Move {
                    arguments: ["upgrade", "--allow-downgrade", &self.releases[to]]
                        .map(str::to_owned)
                        .into(),
                    from,
                    to: RELEASES[to].to_owned(),
                    upgrade: true,
                })
            }
        }
    }

    /// What the node keeps of other releases goes first, so that an upgrade has something to fetch.
    fn carry_out(&self, movement: &Move, line: impl FnMut(&str)) -> Result<Said> {
        let swept = nodectl::on(self.node, &["gc"])?;
        if swept.code != 0 {
            return Ok(swept);
        }
        let arguments: Vec<&str> = movement.arguments.iter().map(String::as_str).collect();
        nodectl::listening(self.node, &arguments, line)
    }

    fn cut(&mut self, upgrade: bool, progress: &Progress) -> Result<()> {
        let movement = self.next_move(upgrade)?;
        let length = self.lengths[usize::from(!movement.upgrade)].as_millis();
        let instant = self.dice.pause(u64::try_from(length * 5 / 4)?.max(1));
        let heard = self.interrupt(&movement, instant)?;
        progress.note(&format!(
            "{} from {} to {}, cut after {:.1} s, {}: {}",
            movement.verb(),
            movement.from,
            movement.to,
            instant.as_secs_f64(),
            heard.phase,
            heard.last
        ));
        let begun = Instant::now();
        self.boot(progress)?;
        let booted = begun.elapsed();
        let status = nodectl::settled(self.node, SETTLE)?;
        let settled = begun.elapsed();
        let entry = nodectl::history(self.node)?
            .pop()
            .context("the history is empty")?;
        let mut violations = judge(&movement, &heard, &status, &entry);
        violations.extend(self.whole()?);
        progress.note(&format!(
            "release {}, {} {}{}; boot {:.0} s, settled {:.0} s, looked at {:.0} s after the power came back",
            version(&status),
            entry.kind,
            entry.result,
            entry
                .reason
                .map_or(String::new(), |reason| format!(" ({reason})")),
            booted.as_secs_f64(),
            settled.as_secs_f64(),
            begun.elapsed().as_secs_f64()
        ));
        self.tally
            .count(&format!("{} {}", movement.verb(), heard.phase), &violations);
        Ok(())
    }

    /// Power comes back. An emulated processor on a busy host may stop for good in the middle of a boot: such a machine has
    /// its power cut once more.
    fn boot(&self, progress: &Progress) -> Result<()> {
        let Err(error) = self.node.boot() else {
            return Ok(());
        };
        progress.note(&format!("{error:#}; the power is cut once more"));
        self.node.cut()?;
        self.node.boot()
    }

    /// Begins the move, and cuts the power after that time, whatever it does then.
    fn interrupt(&self, movement: &Move, after: Duration) -> Result<Heard> {
        let (tell, lines) = channel();
        let said = std::thread::scope(|scope| {
            let moving = scope.spawn(|| {
                self.carry_out(movement, |line| {
                    // Nobody listens once the power is gone.
                    drop(tell.send(line.to_owned()));
                })
            });
            std::thread::sleep(after);
            self.node.cut()?;
            anyhow::Ok(moving.join().expect("the thread ends"))
        })?;
        // A connection that was lost, or a machine that was off already, has told nothing.
        let said = said.ok().filter(|said| said.code != 255);
        let lines: Vec<String> = lines.try_iter().collect();
        Ok(Heard::new(&lines, said))
    }

    /// What is not as it has to be, line by line.
    fn whole(&self) -> Result<Vec<String>> {
        let said = self
            .node
            .run(["sh", "-c", WHOLE, "whole"].iter().chain(&SERVICES))?;
        Ok(said.lines().map(str::to_owned).collect())
    }
}

fn version(status: &Status) -> &str {
    status
        .release
        .as_ref()
        .map_or("none", |release| release.version.as_str())
}

/// What must not be after a cut.
fn judge(movement: &Move, heard: &Heard, status: &Status, entry: &HistoryEntry) -> Vec<String> {
    let mut wrong = Vec::new();
    let now = version(status);
    let moved = now == movement.to;
    if !moved && now != movement.from {
        wrong.push(format!("on release {now}"));
    }
    match &heard.said {
        Some(said) if said.code != 0 => wrong.push(format!("it failed by itself: {said:?}")),
        Some(_) if !moved => wrong.push(format!("reported as done, and on release {now}")),
        Some(_) | None => {}
    }
    let told = match entry.result {
        OperationResult::Done => entry.to == status.deployment,
        OperationResult::Failed | OperationResult::RolledBack => !moved,
        OperationResult::Staged | OperationResult::Stuck | OperationResult::Open => false,
    };
    if !told {
        wrong.push(format!("the history tells {entry:?}"));
    }
    if !status.rejected.is_empty() {
        wrong.push(format!(
            "the release is blamed for the cut: {:?}",
            status.rejected
        ));
    }
    let services: Vec<&str> = status
        .services
        .iter()
        .map(|service| service.name.as_str())
        .collect();
    if services.len() != SERVICES.len() || status.services.iter().any(|service| !service.up_to_date) {
        wrong.push(format!("services: {:?}", status.services));
    }
    wrong
}

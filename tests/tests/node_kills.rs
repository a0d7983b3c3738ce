//! SIGKILL for noded, nodectl and node-run on a booted node, at instants that a seed chooses, while it moves between two
//! releases; and noded replaced by another version in the middle. Tiny services. Needs root, and `make stage` before it.
//! `NODECTL_KILLS` says how often, `NODECTL_SEED` when.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use node_agent::api::Status;
use node_tests::node::{Kind, Node};
use node_tests::nodectl::{self, Said, main_process};
use node_tests::stage::{number, play};
use node_tests::story::Story;
use node_tests::tiny::{Forge, Release, Service, reference};
use node_tests::tiny_node;
use node_tests::torture::dice::Dice;

/// For noded to come back and finish what it was interrupted in.
const SETTLE: Duration = Duration::from_secs(60);

/// Longest time of a move, for what waits for a part of it. A launcher that is killed between the start of its service
/// and the word that it is ready is missed only when the time of the unit to start is over, which is a minute.
const MOVE: &str = "150";

/// Longest life of a launcher in milliseconds, more or less.
const LAUNCH: u64 = 25;

/// More often than systemd restarts a unit by default before it gives up.
const IN_A_ROW: u32 = 8;

const NODED: &str = "/usr/libexec/nodectl/noded";

/// Runs a command and kills the launcher of the service `change`, so many seconds after it appeared; says so if it was not
/// too late. Nothing in the loop is a process: a launcher lives for milliseconds, and on a busy machine may do so unseen.
const KILL_LAUNCHER: &str = "after=$1; shift
exec 9<> <(:)
launcher() {
  read -r pid </sys/fs/cgroup/system.slice/change.service/cgroup.procs &&
    read -r name </proc/$pid/comm && [ $name = node-run ]
}
\"$@\" &
until launcher || ! kill -0 $!; do :; done 2>/dev/null
read -r -t $after -u 9
launcher 2>/dev/null && kill -KILL $pid && echo hit
wait $!";

/// Kills noded so many times, each one as soon as it is there.
const KILL_IN_A_ROW: &str = "last=0
for number in $(seq $1); do
  until pid=$(systemctl show --value --property=MainPID noded) && [ $pid != 0 ] && [ $pid != $last ]; do :; done
  kill -KILL $pid
  last=$pid
done";

/// Another version takes the place of noded, as a package does it, while a transaction is open.
const REPLACE: &str = "set -e
cp $1 $1.new
echo another version >>$1.new
mv $1.new $1
test -e /var/lib/nodectl/transaction.json
systemctl restart noded";

#[test]
fn kills_lose_nothing() {
    play("nodectl-kills", "kills", tell);
}

fn tell(story: &mut Story, stage: &Path) -> Result<()> {
    let world = story.step("a node runs release 1", |_| World::make(stage))?;
    let length = story.step("an upgrade and a rollback take their time", |_| {
        let begun = Instant::now();
        nodectl::on(&world.node, &["upgrade", &reference("2")])?.expect(0)?;
        nodectl::on(&world.node, &["rollback"])?.expect(0)?;
        Ok(begun.elapsed() / 2)
    })?;
    let rounds = number("NODECTL_KILLS", 24);
    let mut dice = Dice::new(number("NODECTL_SEED", 1));
    let mut counts = Counts::default();
    let length = u64::try_from(length.as_millis())?.max(1);
    story.step(&format!("{rounds} kills at random instants"), |progress| {
        for round in 0..rounds {
            let victim = Victim::ALL[usize::try_from(round)? % Victim::ALL.len()];
            progress.say(format!("{round}: {victim:?}; {counts:?}"));
            world
                .round(victim, length, &mut dice, &mut counts)
                .with_context(|| format!("round {round}: {victim:?}; {counts:?}"))?;
        }
        Ok(())
    })?;
    story.show(&format!("{counts:?}"));
    let hit = [counts.noded, counts.nodectl, counts.launcher, counts.restarted];
    ensure!(
        rounds < 24 || !hit.contains(&0),
        "something was never hit, all its kills came too late: {counts:?}"
    );
    story.step(
        &format!("noded is killed {IN_A_ROW} times in a row, as soon as it is back"),
        |_| world.killed_in_a_row(),
    )?;
    for phase in [
        "activating:",
        "change: stopping",
        "change: starting",
        "probation:",
    ] {
        story.step(
            &format!("noded is replaced by another version at {phase:?}"),
            |_| world.replaced(phase),
        )?;
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Noded,
    Nodectl,
    /// The launcher of a service that a move has started.
    Launcher,
    /// The launcher of a service that was started by systemd alone.
    Restarted,
}

impl Victim {
    const ALL: [Self; 4] = [Self::Noded, Self::Nodectl, Self::Launcher, Self::Restarted];
}

/// What was hit, and where the node was afterwards.
#[derive(Debug, Default)]
struct Counts {
    noded: u32,
    nodectl: u32,
    launcher: u32,
    restarted: u32,
    too_late: u32,
    old: u32,
    new: u32,
}

/// `steady` is the same in both releases, `change` is not.
struct World {
    node: Node,
}

impl World {
    fn make(stage: &Path) -> Result<Self> {
        let forge = Forge::open(stage)?;
        let configuration = "[probation]\nwindow_sec = 1\n";
        let node = tiny_node::boot("k1", Kind::Box, stage, &forge, configuration)?;
        let image = forge.image("base", &[])?;
        let service = |name: &str, word: &str| {
            let script = format!("echo {word}; exec /bin/busybox sleep 1000000");
            Service::new(name, &image, &script).restarting()
        };
        for version in ["1", "2"] {
            forge.release(&Release {
                version,
                images: &[&image],
                services: &[service("steady", "steady"), service("change", version)],
                more: "",
            })?;
            forge.sign(version, "key")?;
        }
        nodectl::on(&node, &["upgrade", &reference("1")])?.expect(0)?;
        Ok(Self { node })
    }

    fn version(&self) -> Result<String> {
        let status: Status = nodectl::json(&self.node, &["status"])?;
        status
            .release
            .map(|release| release.version)
            .context("nothing is current")
    }

    /// The release that the node runs, and the other one.
    fn ends(&self) -> Result<(String, String)> {
        let from = self.version()?;
        let to = if from == "1" { "2" } else { "1" };
        Ok((from, to.to_owned()))
    }

    fn round(&self, victim: Victim, length: u64, dice: &mut Dice, counts: &mut Counts) -> Result<()> {
        let (from, to) = self.ends()?;
        let steady = main_process(&self.node, "steady")?;
        let (said, hit) = match victim {
            Victim::Noded => self.kill_unit("noded", &to, dice.pause(length))?,
            Victim::Nodectl => self.kill_unit("client", &to, dice.pause(length))?,
            Victim::Launcher => self.kill_launcher(&upgrade(&to), dice.pause(LAUNCH))?,
            Victim::Restarted => {
                let restart = ["systemctl", "restart", "change"].map(str::to_owned);
                self.kill_launcher(&restart, dice.pause(LAUNCH))?
            }
        };
        let count = match victim {
            _ if !hit => &mut counts.too_late,
            Victim::Noded => &mut counts.noded,
            Victim::Nodectl => &mut counts.nodectl,
            Victim::Launcher => &mut counts.launcher,
            Victim::Restarted => &mut counts.restarted,
        };
        *count += 1;
        let status = nodectl::settled(&self.node, SETTLE)?;
        let now = status
            .release
            .map(|release| release.version)
            .context("nothing is current")?;
        ensure!(
            now == from || now == to,
            "on release {now} after {from} to {to}: {said:?}"
        );
        ensure!(
            said.code != 0 || victim == Victim::Restarted || now == to,
            "reported as done, and on {now}: {said:?}"
        );
        *(if now == to {
            &mut counts.new
        } else {
            &mut counts.old
        }) += 1;
        ensure!(
            main_process(&self.node, "steady")? == steady,
            "steady was restarted"
        );
        ensure!(
            status.services.iter().all(|service| service.up_to_date),
            "services: {:?}",
            status.services
        );
        Ok(())
    }
    /// Moves the node and kills what a unit runs after that time; whether there was anything.
    fn kill_unit(&self, unit: &str, to: &str, after: Duration) -> Result<(Said, bool)> {
        let client = [
            "systemd-run",
            "--quiet",
            "--wait",
            "--collect",
            "--pipe",
            "--unit=client",
        ];
        let words = client.map(str::to_owned).into_iter().chain(upgrade(to));
        let mut command = self.node.command(words)?;
        let moving = std::thread::spawn(move || nodectl::run(&mut command));
        std::thread::sleep(after);
        let kill = self.node.attempt(["systemctl", "kill", "--signal=KILL", unit])?;
        let said = moving.join().expect("the thread ends")?;
        Ok((said, kill.status.success()))
    }

    /// Runs a command that starts a service and kills the launcher; whether it still was one.
    fn kill_launcher(&self, command: &[String], after: Duration) -> Result<(Said, bool)> {
        let after = format!("{:.3}", after.as_secs_f64());
        let words = ["timeout", MOVE, "bash", "-c", KILL_LAUNCHER, "kill", &after];
        let words = words.iter().copied().chain(command.iter().map(String::as_str));
        let said = nodectl::run(&mut self.node.command(words)?)?;
        ensure!(said.code != 124, "no launcher came, or nothing ended: {said:?}");
        let hit = said.output.contains("hit");
        Ok((said, hit))
    }

    /// Nobody but systemd brings it back: any client would have the bus start it.
    fn killed_in_a_row(&self) -> Result<()> {
        let (from, to) = self.ends()?;
        let steady = main_process(&self.node, "steady")?;
        self.begin(&to, "activating:")?;
        self.node.run(["pkill", "-KILL", "-x", "nodectl"])?;
        let count = IN_A_ROW.to_string();
        self.node
            .run(["timeout", "60", "sh", "-c", KILL_IN_A_ROW, "kill", &count])?;
        let journal = self.node.path("/var/lib/nodectl/transaction.json")?;
        let deadline = Instant::now() + SETTLE;
        while journal.exists() {
            ensure!(
                Instant::now() < deadline,
                "nobody finishes it: {}",
                String::from_utf8_lossy(&self.node.attempt(["systemctl", "status", "noded"])?.stdout)
            );
            // What is waited for is that somebody is there to work on it.
            std::thread::sleep(Duration::from_millis(100));
        }
        let status = nodectl::settled(&self.node, SETTLE)?;
        let now = status.release.map(|release| release.version);
        ensure!(now == Some(from) || now == Some(to), "on release {now:?}");
        ensure!(
            main_process(&self.node, "steady")? == steady,
            "steady was restarted"
        );
        Ok(())
    }

    fn replaced(&self, phase: &str) -> Result<()> {
        let (_, to) = self.ends()?;
        let steady = main_process(&self.node, "steady")?;
        let longer = "/etc/nodectl/node.toml.d/longer.toml";
        self.node.write(longer, "[probation]\nwindow_sec = 4\n")?;
        self.begin(&to, phase)?;
        self.node.run(["rm", longer])?;
        self.node.run(["sh", "-c", REPLACE, "replace", NODED])?;
        nodectl::settled(&self.node, SETTLE)?;
        let now = self.version()?;
        ensure!(now == to, "on release {now}, not {to}");
        let pid = main_process(&self.node, "noded")?;
        self.node
            .run(["cmp", NODED, &format!("/proc/{pid}/exe")])
            .context("the old noded runs")?;
        ensure!(
            main_process(&self.node, "steady")? == steady,
            "steady was restarted"
        );
        Ok(())
    }

    /// An upgrade that has come so far.
    fn begin(&self, to: &str, line: &str) -> Result<()> {
        let words = upgrade(to);
        let words: Vec<&str> = words.iter().skip(1).map(String::as_str).collect();
        nodectl::until(&self.node, line, &words)
    }
}

/// Also to what has failed before, because its launcher was killed.
fn upgrade(to: &str) -> [String; 5] {
    [
        "nodectl",
        "upgrade",
        "--force",
        "--allow-downgrade",
        &reference(to),
    ]
    .map(str::to_owned)
}

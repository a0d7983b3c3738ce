//! What a node does with bad input, bad luck and its everyday verbs, on one booted machine with tiny releases: each
//! case asserts the exit code, that the message names the thing, and what the node runs afterwards. Needs root, and
//! `make stage` before it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use node_tests::node::{Kind, Node};
use node_tests::nodectl::{self, Said};
use node_tests::stage::begin;
use node_tests::story::Story;
use node_tests::tiny::{self, Forge, Image, Release, Service, reference};
use node_tests::{registry, teardown, tiny_node};
use serde_json::{Value, json};

const STATE: &str = "/var/lib/nodectl";

/// Longest time for noded to finish what it was interrupted in.
const SETTLE: Duration = Duration::from_secs(40);

/// Size of a layer that cannot arrive before something happens to it.
const LARGE: usize = 64 << 20;

type Case = fn(&World) -> Result<()>;

/// In this order: the first one installs what the others must not change.
const CASES: &[(&str, Case)] = &[
    ("a first release is installed", installs),
    ("the same release again is nothing to do", same_again),
    ("an unknown configuration key", unknown_key),
    ("a missing parameter", missing_parameter),
    ("an unsigned release", unsigned),
    ("a wrongly signed release", wrongly_signed),
    ("a blob with a flipped byte", digest_mismatch),
    ("a truncated layer", truncated_layer),
    ("the registry goes down halfway", registry_down),
    (
        "noded is killed halfway, and the third try ends well",
        killed_fetching,
    ),
    ("no space halfway", no_space),
    ("a host that lacks what a release needs", host_lacks),
    ("a service that never becomes ready", never_ready),
    ("a second nodectl, and a nodectl that is killed", two_clients),
    ("noded is killed when armed", |world| {
        killed_when(world, entered("armed"), Noded::kill)
    }),
    ("noded is killed when activating", |world| {
        killed_when(world, entered("activating"), Noded::kill_in_transaction)
    }),
    ("noded is killed when a service is about to stop", |world| {
        killed_when(world, step("stopping"), Noded::kill_in_transaction)
    }),
    ("noded is killed when a service has stopped", |world| {
        killed_when(world, step("stopped"), Noded::kill_in_transaction)
    }),
    ("noded is killed when a service is about to start", |world| {
        killed_when(world, step("starting"), Noded::kill_in_transaction)
    }),
    ("noded is killed when a service has started", |world| {
        killed_when(world, step("started"), Noded::kill_in_transaction)
    }),
    ("noded is killed in probation", |world| {
        killed_when(world, entered("probation"), Noded::kill_in_transaction)
    }),
    ("noded is killed on the way back", killed_on_the_way_back),
    ("a bundle, without a registry", bundle),
    ("download only, then upgrade", download_only),
    ("pin and gc", pin_and_gc),
    ("fsck and repair", fsck),
    ("the daily check", daily_check),
    ("set, unset and exec", set_unset_exec),
    ("logs", logs),
    ("start, stop and restart", start_stop_restart),
    ("a service that leaves and has to be killed", leaves_unwillingly),
];

#[test]
fn a_node_stands_bad_input() {
    let stage = begin("nodectl-bad");
    let mut story = Story::begin("bad input");
    let world = story.step("a node, a registry and tiny images", |_| World::make(&stage));
    let mut failures = Vec::new();
    match world {
        Err(error) => failures.push(format!("{error:#}")),
        Ok(world) => {
            for (name, case) in CASES {
                if let Err(error) = story.step(name, |_| case(&world)) {
                    eprintln!("{error:#}");
                    failures.push(format!("{error:#}"));
                }
            }
        }
    }
    story.end();
    if failures.is_empty() || std::env::var_os("NODECTL_KEEP").is_none() {
        teardown::everything().expect("everything can be removed");
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// The node and what releases are made of.
struct World {
    node: Node,
    forge: Forge,
    base: Image,
}

/// What must not change.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    current: String,
    deployments: Vec<String>,
    pids: BTreeMap<String, u32>,
}

impl World {
    fn make(stage: &Path) -> Result<Self> {
        let forge = Forge::open(stage)?;
        let node = tiny_node::boot("n1", Kind::Box, stage, &forge, "[probation]\nwindow_sec = 1\n")?;
        let base = forge.image("base", &[])?;
        let world = Self { node, forge, base };
        for version in ["1", "2"] {
            world.signed(version, &[&world.base], &world.services(version), PARAMETERS)?;
        }
        Ok(world)
    }

    /// `steady` is the same in all releases; `change` differs by what it says.
    fn services(&self, word: &str) -> [Service; 2] {
        let script = format!("echo change says {word}; exec /bin/busybox sleep 1000000");
        [
            self.steady(),
            Service::new("change", &self.base, &script).with(GREETING),
        ]
    }

    fn steady(&self) -> Service {
        Service::new("steady", &self.base, "exec /bin/busybox sleep 1000000")
    }

    /// A release in the registry, signed.
    fn signed(&self, version: &str, images: &[&Image], services: &[Service], more: &str) -> Result<()> {
        self.forge.release(&Release {
            version,
            images,
            services,
            more,
        })?;
        self.forge.sign(version, "key")
    }

    /// `steady` and a service `change` in this image, as a signed release.
    fn with_image(&self, version: &str, image: &Image) -> Result<()> {
        let change = Service::new("change", image, "exec /bin/busybox sleep 1000000");
        self.signed(version, &[&self.base, image], &[self.steady(), change], "")
    }

    fn nodectl(&self, arguments: &[&str]) -> Result<Said> {
        nodectl::on(&self.node, arguments)
    }

    fn upgrade(&self, version: &str) -> Result<Said> {
        // Some go back and forth between releases, which is what --allow-downgrade is for.
        self.nodectl(&["upgrade", "--allow-downgrade", &reference(version)])
    }

    fn status(&self) -> Result<Value> {
        nodectl::json(&self.node, &["status"])
    }

    /// Version of the release that the node runs.
    fn version(&self) -> Result<String> {
        let status = self.status()?;
        Ok(status["release"]["version"].as_str().unwrap_or("none").to_owned())
    }

    fn seen(&self) -> Result<Seen> {
        let list = self.node.run(["ls", &format!("{STATE}/deployments")])?;
        Ok(Seen {
            current: self.node.run(["readlink", &format!("{STATE}/current")])?,
            deployments: list.lines().map(str::to_owned).collect(),
            pids: self.pids()?,
        })
    }

    fn pids(&self) -> Result<BTreeMap<String, u32>> {
        ["steady", "change"]
            .iter()
            .map(|name| Ok(((*name).to_owned(), nodectl::main_process(&self.node, name)?)))
            .collect()
    }

    /// nodectl ends with the code, its error has all the words, and nothing has changed.
    fn refused(&self, arguments: &[&str], code: i32, words: &[&str]) -> Result<()> {
        let before = self.seen()?;
        let said = self.nodectl(arguments)?;
        says(&said, code, words)?;
        self.unchanged(&before)
    }

    fn unchanged(&self, before: &Seen) -> Result<()> {
        let after = self.seen()?;
        ensure!(*before == after, "it was {before:?} and is {after:?}");
        self.at_rest()
    }

    /// No transaction is open, and the node is healthy.
    fn at_rest(&self) -> Result<()> {
        let transaction = self.node.path(&format!("{STATE}/transaction.json"))?;
        ensure!(!transaction.exists(), "a transaction is open");
        let status = self.status()?;
        ensure!(status["healthy"] == Value::Bool(true), "not healthy: {status:#}");
        Ok(())
    }

    /// Waits until noded has finished what it is doing.
    fn settle(&self) -> Result<()> {
        nodectl::settled(&self.node, SETTLE).map(drop)
    }

    /// Begins an upgrade and does something at the first event that fits; returns what the upgrade said.
    fn upgrade_until(
        &self,
        version: &str,
        fits: impl Fn(&Value) -> bool,
        act: impl FnOnce() -> Result<()>,
    ) -> Result<Said> {
        let upgrade = self
            .node
            .command(["nodectl", "upgrade", "--allow-downgrade", &reference(version)])?;
        self.while_running(upgrade, fits, act)
    }

    fn while_running(
        &self,
        mut operation: Command,
        fits: impl Fn(&Value) -> bool,
        act: impl FnOnce() -> Result<()>,
    ) -> Result<Said> {
        let mut follower = self.follow()?;
        let events = follower.stdout.take().context("events have no output")?;
        let operation = std::thread::spawn(move || nodectl::run(&mut operation));
        let mut told = Vec::new();
        let mut came = false;
        for line in BufReader::new(events).lines() {
            let event: Value = serde_json::from_str(&line?)?;
            came = fits(&event);
            told.push(event.to_string());
            if came || event["event"] == "end" {
                break;
            }
        }
        let acted = if came { act() } else { Ok(()) };
        let said = operation.join().expect("the operation's thread ends")?;
        follower.kill()?;
        follower.wait()?;
        acted?;
        ensure!(
            came,
            "the moment did not come: {said:?}; events: {}",
            told.join("\n")
        );
        Ok(said)
    }

    /// A process that writes the events to come, and none of the past.
    fn follow(&self) -> Result<Child> {
        let past = self.nodectl(&["--json", "events", "--since", "0", "--no-follow"])?;
        let last = past.output.lines().next_back();
        let last: Value = last.map_or(Ok(Value::Null), serde_json::from_str)?;
        let since = last["seq"].as_u64().unwrap_or(0).to_string();
        let follow = ["timeout", "60", "nodectl", "--json", "events", "--since", &since];
        let mut command = self.node.command(follow)?;
        let command = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        command.spawn().context("follow the events")
    }

    /// What kills noded in the next microseconds, whenever it is called.
    fn noded(&self) -> Result<Noded> {
        let shown = self
            .node
            .run(["systemctl", "show", "--value", "--property=MainPID", "noded"])?;
        let inside: u32 = shown.trim().parse()?;
        let pid = i32::try_from(self.node.host_pid(inside)?)?;
        let transaction = self.node.path(&format!("{STATE}/transaction.json"))?;
        Ok(Noded {
            pid: Pid::from_raw(pid),
            transaction,
        })
    }
}

/// The noded that runs now.
struct Noded {
    pid: Pid,
    transaction: PathBuf,
}

impl Noded {
    fn kill(&self) -> Result<()> {
        kill(self.pid, Signal::SIGKILL).context("kill noded")
    }

    /// Kills it while it has a transaction open: systemd waits a second before it starts the next one.
    fn kill_in_transaction(&self) -> Result<()> {
        self.kill()?;
        ensure!(
            self.transaction.exists(),
            "noded was killed while no transaction was open"
        );
        Ok(())
    }
}

const PARAMETERS: &str =
    "[parameters.greeting]\ntype = \"string\"\ndefault = \"hello\"\ndescription = \"a word\"\n";

const GREETING: &str = "[[files]]\ntarget = \"/etc/tiny.json\"\nformat = \"json\"\n\
                        content = { greeting = { parameter = \"greeting\" } }\n";

fn says(said: &Said, code: i32, words: &[&str]) -> Result<()> {
    let text = format!("{}{}", said.output, said.errors);
    ensure!(
        said.code == code,
        "exit code {} instead of {code}: {text}",
        said.code
    );
    for word in words {
        ensure!(text.contains(word), "does not name {word}: {text}");
    }
    Ok(())
}

fn installs(world: &World) -> Result<()> {
    world.upgrade("1")?.expect(0)?;
    ensure!(world.version()? == "1", "not on release 1");
    world.seen()?;
    world.at_rest()
}

fn same_again(world: &World) -> Result<()> {
    world.refused(&["upgrade", &reference("1")], 77, &["already on tiny 1"])
}

fn unknown_key(world: &World) -> Result<()> {
    let file = "/etc/nodectl/node.toml.d/50-bad.toml";
    let before = world.seen()?;
    world.node.write(file, "[registries]\nmirorrs = []\n")?;
    let said = world.upgrade("2")?;
    world.node.run(["rm", file])?;
    says(&said, 78, &[file, "mirorrs"])?;
    world.unchanged(&before)
}

fn missing_parameter(world: &World) -> Result<()> {
    let more = "[parameters.colour]\ntype = \"string\"\nrequired = true\ndescription = \"a colour\"\n";
    let painted = Service::new("change", &world.base, "exec /bin/busybox sleep 1000000")
        .with(&GREETING.replace("\"greeting\"", "\"colour\""));
    world.signed("colour", &[&world.base], &[world.steady(), painted], more)?;
    world.refused(&["upgrade", &reference("colour")], 78, &["colour"])
}

fn unsigned(world: &World) -> Result<()> {
    world.forge.release(&Release {
        version: "unsigned",
        images: &[&world.base],
        services: &world.services("unsigned"),
        more: PARAMETERS,
    })?;
    let name = reference("unsigned");
    world.refused(&["upgrade", &name], 65, &[&name, "is not signed"])
}

fn wrongly_signed(world: &World) -> Result<()> {
    world.forge.release(&Release {
        version: "stranger",
        images: &[&world.base],
        services: &world.services("stranger"),
        more: PARAMETERS,
    })?;
    world.forge.sign("stranger", "stranger")?;
    let name = reference("stranger");
    world.refused(&["upgrade", &name], 65, &[&name, "signature 1"])
}

fn digest_mismatch(world: &World) -> Result<()> {
    let image = world
        .forge
        .image("flipped", &[("payload", &tiny::noise(1 << 20))])?;
    world.with_image("flipped", &image)?;
    let blob = registry::blob(&image.layer);
    let good = fs::read(&blob).with_context(|| format!("read {}", blob.display()))?;
    let mut bad = good.clone();
    let middle = bad.len() / 2;
    bad[middle] ^= 1;
    fs::write(&blob, bad)?;
    world.refused(&["upgrade", &reference("flipped")], 65, &[&image.layer])?;
    fs::write(&blob, good)?;
    world.upgrade("flipped")?.expect(0)?;
    world.upgrade("1")?.expect(0).map(drop)
}

fn truncated_layer(world: &World) -> Result<()> {
    let image = world
        .forge
        .image("short", &[("payload", &tiny::noise(3 << 19))])?;
    world.with_image("short", &image)?;
    let blob = registry::blob(&image.layer);
    let length = fs::metadata(&blob)?.len();
    fs::File::options().write(true).open(&blob)?.set_len(length / 2)?;
    let before = world.seen()?;
    let said = world.upgrade("short")?;
    ensure!(matches!(said.code, 65 | 69), "{said:?}");
    says(&said, said.code, &[&image.layer])?;
    world.unchanged(&before)
}

fn registry_down(world: &World) -> Result<()> {
    let image = world.forge.image("large", &[("payload", &tiny::noise(LARGE))])?;
    world.with_image("large", &image)?;
    let before = world.seen()?;
    let said = world.upgrade_until("large", has_fetched_some, registry::cut)?;
    says(&said, 69, &[&registry::from_nodes()])?;
    world.unchanged(&before)?;
    world.refused(&["upgrade", &reference("2")], 69, &[&registry::from_nodes()])?;
    registry::up()
}

/// The next try of what the registry has interrupted.
fn killed_fetching(world: &World) -> Result<()> {
    let before = world.seen()?;
    let noded = world.noded()?;
    let said = world.upgrade_until("large", has_fetched_some, || noded.kill())?;
    ensure!(said.code != 0, "{said:?}");
    world.settle()?;
    world.unchanged(&before)?;
    world.upgrade("large")?.expect(0)?;
    world.upgrade("1")?.expect(0).map(drop)
}

fn has_fetched_some(event: &Value) -> bool {
    event["event"] == "progress" && event["done"].as_u64() > Some(1 << 20)
}

fn no_space(world: &World) -> Result<()> {
    // Compresses to next to nothing, so that nobody can know beforehand.
    let image = world
        .forge
        .image("fat", &[("payload", &b"nodectl ".repeat(20 << 20))])?;
    world.with_image("fat", &image)?;
    let node = &world.node;
    let used: u64 = node
        .run(["du", "-sk", STATE])?
        .split_whitespace()
        .next()
        .context("du is silent")?
        .parse()?;
    let size = format!("size={}k", used + (80 << 10));
    node.run(["mkdir", "-p", "/mnt/small"])?;
    node.run(["mount", "-t", "tmpfs", "-o", &size, "small", "/mnt/small"])?;
    node.run(["cp", "-a", &format!("{STATE}/."), "/mnt/small"])?;
    node.run(["systemctl", "stop", "noded"])?;
    node.run(["mount", "--bind", "/mnt/small", STATE])?;
    let free = || node.run(["stat", "--file-system", "--format=%a", STATE]);
    let before = free()?;
    let refused = world.refused(&["upgrade", &reference("fat")], 73, &["No space left"]);
    let after = free();
    let size = format!("remount,size={}k", used + 1024);
    node.run(["mount", "-o", &size, "/mnt/small"])?;
    let foreseen = world.refused(&["upgrade", &reference("fat")], 73, &["not enough space", STATE]);
    node.run(["systemctl", "stop", "noded"])?;
    node.run(["umount", STATE])?;
    node.run(["umount", "/mnt/small"])?;
    refused?;
    foreseen?;
    let (before, after): (u64, u64) = (before.trim().parse()?, after?.trim().parse()?);
    ensure!(after + 64 >= before, "{before} blocks were free, {after} are now");
    Ok(())
}

fn host_lacks(world: &World) -> Result<()> {
    let needs = "[requires]\ndevices = [\"/dev/nodectl-quantum\"]\nkernel_modules = [\"nodectl_flux\"]\n";
    let [steady, change] = world.services("lacks");
    world.signed("lacks", &[&world.base], &[steady, change.with(needs)], PARAMETERS)?;
    let name = reference("lacks");
    world.refused(&["upgrade", &name], 65, &["/dev/nodectl-quantum", "nodectl_flux"])
}

fn never_ready(world: &World) -> Result<()> {
    let never = "[readiness]\nkind = \"exec\"\ncommand = [\"/bin/busybox\", \"false\"]\n";
    let [steady, change] = world.services("a last word");
    world.signed("never", &[&world.base], &[steady, change.with(never)], PARAMETERS)?;
    let before = world.seen()?;
    let said = world.upgrade("never")?;
    says(&said, 70, &["change", "a last word"])?;
    let after = world.seen()?;
    ensure!(before.current == after.current, "{before:?} {after:?}");
    ensure!(
        before.pids["steady"] == after.pids["steady"],
        "steady was restarted"
    );
    world.at_rest()?;
    let status = world.status()?;
    let rejected = status["rejected"].as_object().map_or(0, serde_json::Map::len);
    ensure!(rejected == 1, "not on record as rejected: {status:#}");
    world.refused(
        &["upgrade", &reference("never")],
        75,
        &["failed on this node before"],
    )
}

fn two_clients(world: &World) -> Result<()> {
    // Long enough for all that is tried in it.
    const LONGER: &str = "/etc/nodectl/node.toml.d/longer.toml";
    let (from, to) = other(world)?;
    let before = world.seen()?;
    world.node.write(LONGER, "[probation]\nwindow_sec = 8\n")?;
    let (mine, theirs) = (reference(&to), reference(&from));
    let client = ["systemd-run", "--quiet", "--wait", "--collect", "--unit=client"];
    let client =
        world.node.command(
            client
                .iter()
                .chain(&["nodectl", "upgrade", "--allow-downgrade", &mine]),
        )?;
    let interrupted = world.while_running(client, entered("probation"), || {
        says(
            &world.nodectl(&["upgrade", &theirs])?,
            75,
            &["another operation", "upgrade"],
        )?;
        says(&world.nodectl(&["--direct", "upgrade", &theirs])?, 75, &["noded"])?;
        world
            .node
            .run(["systemctl", "kill", "--signal=KILL", "client"])
            .map(drop)
    })?;
    world.node.run(["rm", LONGER])?;
    ensure!(interrupted.code != 0, "{interrupted:?}");
    world.settle()?;
    ensure!(
        world.version()? == to,
        "the upgrade did not go on without its client"
    );
    let after = world.seen()?;
    ensure!(
        before.pids["steady"] == after.pids["steady"],
        "steady was restarted"
    );
    Ok(())
}

/// The release that the node runs, of the two that differ in `change` only, and the other one.
fn other(world: &World) -> Result<(String, String)> {
    let from = world.version()?;
    let to = if from == "1" { "2" } else { "1" };
    Ok((from, to.to_owned()))
}

fn entered(phase: &'static str) -> impl Fn(&Value) -> bool {
    move |event| event["event"] == "entered" && event["phase"] == phase
}

fn step(name: &'static str) -> impl Fn(&Value) -> bool {
    move |event| event["event"] == "service" && event["step"] == name
}

/// noded is killed in the middle: the node ends on exactly the old or the new release, healthy, without help.
/// The event of a phase comes before its journal, so what is armed may not be open yet.
fn killed_when(world: &World, fits: impl Fn(&Value) -> bool, kill: fn(&Noded) -> Result<()>) -> Result<()> {
    let (from, to) = other(world)?;
    let before = world.seen()?;
    let noded = world.noded()?;
    let said = world.upgrade_until(&to, fits, || kill(&noded))?;
    world.settle()?;
    let version = world.version()?;
    ensure!(
        version == from || version == to,
        "on release {version}: neither old nor new"
    );
    let new = version == to;
    ensure!(
        (said.code == 0) == new,
        "on release {version} after {from} to {to}: {said:?}"
    );
    let after = world.seen()?;
    ensure!(
        before.pids["steady"] == after.pids["steady"],
        "steady was restarted"
    );
    let units = format!("{STATE}/current/units/change.service");
    let loaded = world.node.run(["systemctl", "cat", "change"])?;
    ensure!(
        loaded.contains(world.node.run(["cat", &units])?.trim()),
        "systemd has another unit of change: {loaded}"
    );
    world.at_rest()
}

/// What was rejected is tried again by force, and noded killed when it gives up on it.
fn killed_on_the_way_back(world: &World) -> Result<()> {
    let before = world.seen()?;
    let noded = world.noded()?;
    let upgrade = world.node.command([
        "nodectl",
        "upgrade",
        "--force",
        "--allow-downgrade",
        &reference("never"),
    ])?;
    let said = world.while_running(upgrade, entered("reverting"), || noded.kill_in_transaction())?;
    says(&said, 70, &["change"])?;
    world.settle()?;
    let after = world.seen()?;
    ensure!(before.current == after.current, "{before:?} {after:?}");
    ensure!(
        before.pids["steady"] == after.pids["steady"],
        "steady was restarted"
    );
    world.refused(
        &["upgrade", &reference("never")],
        75,
        &["failed on this node before"],
    )
}

fn bundle(world: &World) -> Result<()> {
    let image = world
        .forge
        .image("bundled", &[("payload", &tiny::noise(1 << 16))])?;
    world.with_image("bundled", &image)?;
    let bytes = world.forge.bundle("bundled")?;
    registry::cut()?;
    let mut bad = bytes.clone();
    let payload = bad.len() / 2;
    bad[payload] ^= 1;
    world.node.write("/root/bad.tar", bad)?;
    world.refused(&["upgrade", "/root/bad.tar"], 65, &["sha256:"])?;
    world.node.write("/root/bundle.tar", bytes)?;
    let steady = world.pids()?["steady"];
    world.nodectl(&["upgrade", "/root/bundle.tar"])?.expect(0)?;
    ensure!(world.version()? == "bundled", "not on the bundle's release");
    ensure!(world.pids()?["steady"] == steady, "steady was restarted");
    registry::up()?;
    world.upgrade("1")?.expect(0).map(drop)
}

fn download_only(world: &World) -> Result<()> {
    let image = world
        .forge
        .image("staged", &[("payload", &tiny::noise(1 << 15))])?;
    world.with_image("staged", &image)?;
    let before = world.seen()?;
    let name = reference("staged");
    world.nodectl(&["upgrade", "--download-only", &name])?.expect(0)?;
    let staged = world.seen()?;
    ensure!(
        before.current == staged.current && before.pids == staged.pids,
        "{before:?} {staged:?}"
    );
    ensure!(
        staged.deployments.len() == before.deployments.len() + 1,
        "{staged:?}"
    );
    world.node.reboot()?;
    let booted = world.seen()?;
    ensure!(booted.current == before.current, "{booted:?}");
    world.nodectl(&["upgrade", &name])?.expect(0)?;
    let after = world.seen()?;
    ensure!(
        after.deployments == staged.deployments,
        "what was staged was not used: {after:?}"
    );
    ensure!(world.version()? == "staged", "not on the staged release");
    ensure!(
        after.pids["steady"] == booted.pids["steady"],
        "steady was restarted"
    );
    Ok(())
}

fn pin_and_gc(world: &World) -> Result<()> {
    let oldest = world
        .seen()?
        .deployments
        .into_iter()
        .min_by_key(|seq| seq.parse::<u64>().unwrap_or(u64::MAX))
        .context("no deployments")?;
    world
        .nodectl(&["pin", &oldest, "--reason", "a souvenir"])?
        .expect(0)?;
    let before = world.seen()?;
    let dry: Value = nodectl::json(&world.node, &["gc", "--dry-run"])?;
    ensure!(before == world.seen()?, "a dry run removes deployments");
    let swept: Value = nodectl::json(&world.node, &["gc"])?;
    ensure!(
        dry["deployments"] == swept["deployments"] && dry["images"] == swept["images"],
        "announced {dry}, done {swept}"
    );
    let after = world.seen()?;
    ensure!(after.deployments.contains(&oldest), "the pin did not hold");
    ensure!(
        after.deployments.len() < before.deployments.len(),
        "nothing was removed: {swept}"
    );
    ensure!(
        before.current == after.current && before.pids == after.pids,
        "{before:?} {after:?}"
    );
    let status = world.status()?;
    ensure!(status["pinned"][&oldest] == "a souvenir", "{status:#}");
    world.nodectl(&["unpin", &oldest])?.expect(0)?;
    nodectl::json::<Value>(&world.node, &["gc"])?;
    ensure!(
        !world.seen()?.deployments.contains(&oldest),
        "the pin held for ever"
    );
    world.nodectl(&["pin", "4711"])?.expect(64)?;
    world.at_rest()
}

/// A file of the image of `change`, of which nothing else has a copy.
fn payload(world: &World) -> Result<PathBuf> {
    let status = world.status()?;
    let services = status["services"].as_array().context("no services")?;
    let change = services
        .iter()
        .find(|service| service["name"] == "change")
        .context("no change")?;
    let image = change["image"]
        .as_str()
        .unwrap_or_default()
        .trim_start_matches("sha256:");
    world.node.path(&format!("{STATE}/store/trees/{image}/payload"))
}

/// Flips a bit in a file; its content before.
fn flip(file: &Path) -> Result<Vec<u8>> {
    let good = fs::read(file).with_context(|| format!("read {}", file.display()))?;
    let mut bad = good.clone();
    bad[1000] ^= 1;
    fs::write(file, bad)?;
    Ok(good)
}

fn fsck(world: &World) -> Result<()> {
    world.nodectl(&["fsck"])?.expect(0)?;
    let file = payload(world)?;
    let good = flip(&file)?;
    let before = world.seen()?;
    let said = world.nodectl(&["fsck"])?;
    says(&said, 65, &["/payload", "change"])?;
    says(&world.nodectl(&["fsck", "--repair"])?, 0, &["/payload"])?;
    world.nodectl(&["fsck"])?.expect(0)?;
    ensure!(fs::read(&file)? == good, "the byte is still flipped");
    world.unchanged(&before)
}

/// The unit that the timer starts, with all that its sandbox takes from it.
fn daily_check(world: &World) -> Result<()> {
    let node = &world.node;
    node.run(["systemctl", "is-active", "nodectl-fsck.timer"])?;
    let all_in_a_day = "/etc/nodectl/node.toml.d/60-check.toml";
    node.write(all_in_a_day, "[check]\ndays = 1\n")?;
    let unit = "nodectl-fsck.service";
    node.run(["systemctl", "start", unit])?;
    let last = || Ok::<_, anyhow::Error>(world.status()?["check"].clone());
    let clean = last()?;
    ensure!(
        clean["light"] == true && clean["findings"] == json!([]),
        "before anything was broken: {clean}"
    );
    let before = world.seen()?;
    let good = flip(&payload(world)?)?;
    let started = node.attempt(["systemctl", "start", unit])?;
    ensure!(!started.status.success(), "it does not see the flipped byte");
    let shown = node.run(["systemctl", "show", "--property=Result,ExecMainStatus", unit])?;
    ensure!(
        shown.contains("Result=exit-code") && shown.contains("ExecMainStatus=65"),
        "it failed for another reason: {shown}"
    );
    let status = world.status()?;
    let text = status["check"]["findings"].to_string();
    ensure!(
        status["healthy"] == false && text.contains("/payload"),
        "the status does not say so: {status:#}"
    );
    says(&world.nodectl(&["fsck", "--repair"])?, 0, &["/payload"])?;
    node.run(["systemctl", "start", unit])?;
    node.run(["rm", all_in_a_day])?;
    let clean = last()?;
    ensure!(clean["findings"] == json!([]), "after the repair: {clean}");
    ensure!(fs::read(payload(world)?)? == good, "the byte is still flipped");
    world.unchanged(&before)
}

fn set_unset_exec(world: &World) -> Result<()> {
    world.upgrade("1")?.expect(0)?;
    let before = world.seen()?;
    let greeting = || {
        world
            .nodectl(&["exec", "change", "--", "/bin/busybox", "cat", "/etc/tiny.json"])?
            .expect(0)
    };
    ensure!(greeting()?.contains("hello"), "{}", greeting()?);
    world.refused(&["set", "greting=x"], 78, &["greting"])?;
    world.nodectl(&["set", "greeting=bonjour"])?.expect(0)?;
    ensure!(greeting()?.contains("bonjour"), "{}", greeting()?);
    let after = world.seen()?;
    ensure!(
        before.pids["steady"] == after.pids["steady"],
        "steady was restarted"
    );
    ensure!(
        before.pids["change"] != after.pids["change"],
        "change was not restarted"
    );
    world.refused(&["set", "greeting=bonjour"], 77, &[])?;
    world.nodectl(&["unset", "greeting"])?.expect(0)?;
    ensure!(greeting()?.contains("hello"), "{}", greeting()?);
    world
        .nodectl(&["exec", "change", "--", "/bin/busybox", "sh", "-c", "exit 7"])?
        .expect(7)?;
    let nobody = world.nodectl(&["exec", "nobody", "--", "/bin/true"])?;
    ensure!(nobody.code != 0 && nobody.errors.contains("nobody"), "{nobody:?}");
    world.at_rest()
}

fn logs(world: &World) -> Result<()> {
    let said = world.nodectl(&["logs", "change"])?;
    says(&said, 0, &["change says 1"])?;
    ensure!(
        !said.output.contains("steady"),
        "another service's: {}",
        said.output
    );
    Ok(())
}

fn start_stop_restart(world: &World) -> Result<()> {
    let before = world.seen()?;
    world.nodectl(&["stop", "change"])?.expect(0)?;
    ensure!(
        nodectl::main_process(&world.node, "change").is_err(),
        "change still runs"
    );
    world.nodectl(&["start", "change"])?.expect(0)?;
    let started = world.seen()?;
    ensure!(
        started.pids["change"] != before.pids["change"],
        "change was not stopped"
    );
    world.nodectl(&["restart", "change"])?.expect(0)?;
    let restarted = world.seen()?;
    ensure!(
        restarted.pids["change"] != started.pids["change"],
        "change was not restarted"
    );
    ensure!(
        restarted.pids["steady"] == before.pids["steady"],
        "steady was restarted"
    );
    let nobody = world.nodectl(&["restart", "nobody"])?;
    ensure!(nobody.code != 0 && nobody.errors.contains("nobody"), "{nobody:?}");
    world.unchanged(&restarted)
}

/// systemd calls failed what it had to kill, and keeps that in mind even of a unit that is nowhere any more.
fn leaves_unwillingly(world: &World) -> Result<()> {
    let script = "trap '' TERM; while true; do /bin/busybox sleep 1; done";
    let [steady, change] = world.services("stubborn");
    let stubborn = Service::new("stubborn", &world.base, script);
    world.signed(
        "stubborn",
        &[&world.base],
        &[steady, change, stubborn],
        PARAMETERS,
    )?;
    world.upgrade("stubborn")?.expect(0)?;
    world.upgrade("1")?.expect(0)?;
    let journal = world
        .node
        .run(["journalctl", "--unit=stubborn", "--output=cat"])?;
    ensure!(
        journal.contains("Failed with result 'timeout'"),
        "it did not have to be killed: {journal}"
    );
    let listed = world
        .node
        .run(["systemctl", "list-units", "--all", "--no-legend", "stubborn*"])?;
    ensure!(listed.trim().is_empty(), "systemd still knows it: {listed}");
    world.at_rest()
}

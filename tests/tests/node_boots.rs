//! What the boots of a node make of a release that fails only then, of a clock that jumps, and of what was lost. Tiny
//! services, so that a boot is quick. Needs root, and `make stage` before it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use node_agent::api::{OperationKind, OperationResult, Status};
use node_tests::node::{Kind, Node};
use node_tests::stage::play;
use node_tests::story::Story;
use node_tests::tiny::{Forge, Release, Service, reference};
use node_tests::{nodectl, tiny_node};

const STATE: &str = "/var/lib/nodectl";

/// For noded to finish what it was interrupted in.
const SETTLE: Duration = Duration::from_secs(120);

/// Tries that a new deployment gets in all.
const TRIES: usize = 2;

const SERVICES: [&str; 2] = ["steady", "change"];

/// Starts as long as the host has a file that is gone after a boot, as a lock, a socket or a mount may be.
const UNTIL_A_BOOT: &str = "test -e /flag/up || exit 1; exec /bin/busybox sleep 1000000";
const FLAG: &str = "/run/tiny/up";
const FLAG_MOUNT: &str = "[[container.directories]]\npath = \"/run/tiny\"\n\n\
                          [[container.mounts]]\nsource = \"/run/tiny\"\ntarget = \"/flag\"\nread_only = true\n";

const YEAR: i64 = 365 * 86400;

#[test]
fn boots_lead_back_or_on() {
    play("nodectl-boots", "boots", |story, stage| {
        let world = story.step("a node runs release 1", |_| World::make(Kind::Box, stage))?;
        story.step("a release that fails only after a boot is left by noded", |_| {
            world.fails_after_a_boot()
        })?;
        story.step("where noded cannot run, it is left by its tries", |_| {
            world.left_by_tries()
        })?;
        story.step("a node that lost current runs what ran last", |_| {
            world.loses_current()
        })?;
        for journal in [None, Some(""), Some("{\"format\": 1, \"id\"")] {
            story.step(
                &format!("a journal that is {journal:?} leaves the node on what is current"),
                |_| world.loses_journal(journal),
            )?;
        }
        Ok(())
    });
}

#[test]
fn a_clock_that_jumps_neither_loses_nor_loops() {
    play("nodectl-clocks", "clocks", clocks);
}

/// A box has the host's clock; this kernel has one of its own.
fn clocks(story: &mut Story, stage: &Path) -> Result<()> {
    let world = story.step("a node on its own kernel runs release 1", |_| {
        World::make(Kind::Uml, stage)
    })?;
    story.step(
        "a release that fails only after a boot is left there, too",
        |_| world.fails_after_a_boot(),
    )?;
    story.step("ten years pass in the probation of an upgrade", |_| {
        world.jumps(10, &["upgrade", &reference("good")])?;
        world.settles_on("good", OperationKind::Upgrade, OperationResult::Done, "")
    })?;
    story.step("and ten come back in that of a rollback", |_| {
        world.jumps(-10, &["rollback"])?;
        world.settles_on("1", OperationKind::Rollback, OperationResult::Done, "")
    })
}

struct World {
    node: Node,
}

impl World {
    /// Release 1, `good`, and `bad`, whose service fails after a boot; they differ in the service `change` alone.
    fn make(kind: Kind, stage: &Path) -> Result<Self> {
        let forge = Forge::open(stage)?;
        // Commands take longer there.
        let window = if kind == Kind::Box { 4 } else { 10 };
        let configuration = format!("[probation]\nwindow_sec = {window}\ntries = {TRIES}\n");
        let node = tiny_node::boot("b1", kind, stage, &forge, &configuration)?;
        let image = forge.image("base", &[("flag/mount", b"")])?;
        let sleeps = |word: &str| format!("echo {word}; exec /bin/busybox sleep 1000000");
        for (version, script, more) in [
            ("1", sleeps("first"), ""),
            ("good", sleeps("good"), ""),
            ("bad", UNTIL_A_BOOT.to_owned(), FLAG_MOUNT),
        ] {
            let steady = Service::new("steady", &image, &sleeps("steady"));
            let change = Service::new("change", &image, &script).with(more);
            forge.release(&Release {
                version,
                images: &[&image],
                services: &[steady, change],
                more: "",
            })?;
            forge.sign(version, "key")?;
        }
        let world = Self { node };
        nodectl::on(&world.node, &["upgrade", &reference("1")])?.expect(0)?;
        Ok(world)
    }

    /// In the probation of `bad`, which starts as long as the node is not rebooted.
    fn tries_bad(&self) -> Result<()> {
        self.node.write(FLAG, "")?;
        nodectl::until(
            &self.node,
            "probation:",
            &["upgrade", "--force", &reference("bad")],
        )
    }

    fn fails_after_a_boot(&self) -> Result<()> {
        self.tries_bad()?;
        self.node.reboot()?;
        self.settles_on("1", OperationKind::Upgrade, OperationResult::RolledBack, "change")?;
        let again = nodectl::on(&self.node, &["upgrade", &reference("bad")])?;
        ensure!(again.code == 75, "it is taken once more: {again:?}");
        Ok(())
    }

    /// Only the boot's own part is at work.
    fn left_by_tries(&self) -> Result<()> {
        self.tries_bad()?;
        let new = self.current()?;
        self.node.run(["systemctl", "mask", "--now", "noded"])?;
        let mut boots = 0;
        while self.current()? == new {
            ensure!(boots < 2 * TRIES, "still there after {boots} boots");
            boots += 1;
            self.node.reboot()?;
        }
        ensure!(boots == TRIES, "it took {boots} boots");
        self.run()
            .context("after the boot that went back, without noded")?;
        self.node.run(["systemctl", "unmask", "noded"])?;
        self.node.run(["systemctl", "start", "noded"])?;
        self.settles_on(
            "1",
            OperationKind::Upgrade,
            OperationResult::RolledBack,
            "used up its tries",
        )
    }

    fn loses_current(&self) -> Result<()> {
        let was = self.current()?;
        self.node.run(["rm", &format!("{STATE}/current")])?;
        let status: Status = nodectl::json(&self.node, &["status"])?;
        ensure!(
            !status.healthy && status.warnings.iter().any(|warning| warning.contains("ran last")),
            "nothing is said: {status:?}"
        );
        self.node.reboot()?;
        self.settles_on(
            "1",
            OperationKind::Rollback,
            OperationResult::Done,
            "current was lost",
        )?;
        ensure!(self.current()? == was, "it was {was} and is {}", self.current()?);
        Ok(())
    }

    /// What the journal of a probation is when the node boots: gone, or these bytes.
    fn loses_journal(&self, bytes: Option<&str>) -> Result<()> {
        nodectl::until(&self.node, "probation:", &["upgrade", &reference("good")])?;
        // A client that waits would have noded started again.
        self.node.run(["pkill", "-KILL", "-x", "nodectl"])?;
        self.node.run(["systemctl", "stop", "noded"])?;
        let journal = format!("{STATE}/transaction.json");
        self.node.run(["test", "-s", &journal])?;
        match bytes {
            None => self.node.run(["rm", &journal]).map(drop)?,
            Some(bytes) => self.node.write(&journal, bytes)?,
        }
        self.node.reboot()?;
        self.settles_on(
            "good",
            OperationKind::Upgrade,
            OperationResult::Done,
            "journal is gone",
        )?;
        nodectl::on(&self.node, &["rollback"])?.expect(0).map(drop)
    }

    /// The clock jumps while a move is watched.
    fn jumps(&self, years: i64, arguments: &[&str]) -> Result<()> {
        nodectl::until(&self.node, "probation:", arguments)?;
        let time = self.time()? + years * YEAR;
        self.node.run(["date", &format!("--set=@{time}")]).map(drop)
    }

    fn time(&self) -> Result<i64> {
        Ok(self.node.run(["date", "+%s"])?.trim().parse()?)
    }

    fn current(&self) -> Result<String> {
        self.node.run(["readlink", &format!("{STATE}/current")])
    }

    /// All services are up.
    fn run(&self) -> Result<()> {
        SERVICES
            .iter()
            .try_for_each(|name| nodectl::main_process(&self.node, name).map(drop))
    }

    /// Without help, the node comes to rest on this release, and its history tells so, with these words.
    fn settles_on(
        &self,
        version: &str,
        kind: OperationKind,
        result: OperationResult,
        words: &str,
    ) -> Result<()> {
        let status = nodectl::settled(&self.node, SETTLE)?;
        let now = status.release.map(|release| release.version);
        let last = nodectl::history(&self.node)?
            .pop()
            .context("the history is empty")?;
        ensure!(now.as_deref() == Some(version), "on release {now:?}: {last:?}");
        let reason = last.reason.as_deref().unwrap_or_default();
        ensure!(
            (last.kind, last.result) == (kind, result) && reason.contains(words),
            "the history tells {last:?}"
        );
        self.run()?;
        nodectl::on(&self.node, &["fsck"])?.expect(0).map(drop)
    }
}

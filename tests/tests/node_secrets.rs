//! A secret's way through a node: the service sees it, and nothing else keeps, shows or says it, in whatever becomes of
//! upgrades. Needs root, and `make stage` before it.

use std::path::Path;

use anyhow::{Result, ensure};
use node_tests::node::{Kind, Node};
use node_tests::nodectl;
use node_tests::stage::play;
use node_tests::story::Story;
use node_tests::tiny::{Forge, Image, Release, Service, reference};
use node_tests::tiny_node;

/// The secret as the operator has it. It is looked for with grep(1), which reads what to look for from this file, so that
/// no search finds itself.
const FILE: &str = "/etc/nodectl/secrets/the-password";

const RENDERED: &str = "/etc/tiny.conf";

const SECRET: &str = "[[secret_files]]\ntarget = \"/etc/tiny.conf\"\n\
                      [secret_files.content.database]\npassword = { secret = \"the-password\" }\n";

const PARAMETERS: &str =
    "[parameters.greeting]\ntype = \"string\"\ndefault = \"hello\"\ndescription = \"a word\"\n";

const GREETING: &str = "[[files]]\ntarget = \"/etc/tiny.json\"\nformat = \"json\"\n\
                        content = { greeting = { parameter = \"greeting\" } }\n";

/// Names of files that hold it. What systemd gives to the service is where systemd keeps credentials, and nowhere else.
const FILES: &str = "grep --recursive --files-with-matches --text --fixed-strings --file=$1 --devices=skip \
    --exclude=the-password --exclude-dir=credentials /etc /run /root /tmp /var 2>/dev/null";

/// Processes that have it in their arguments or their environment.
const PROCESSES: &str = "grep --files-with-matches --text --fixed-strings --file=$1 /proc/[0-9]*/cmdline \
    /proc/[0-9]*/environ 2>/dev/null";

/// The same, again and again, as long as there is nothing to tell.
const WATCH: &str = "until grep --files-with-matches --text --fixed-strings --file=$1 /proc/[0-9]*/cmdline \
    /proc/[0-9]*/environ >/run/seen 2>/dev/null; do sleep 0.05; done";

/// All fields of the whole journal, and all that systemd knows about units.
const SAID: &str = "{ journalctl --output=export; systemctl show '*'; systemctl cat change; } | \
    grep --text --fixed-strings --file=$1";

#[test]
fn secrets_stay() {
    play("nodectl-secrets", "secrets", tell);
}

struct World {
    node: Node,
    secret: String,
}

fn tell(story: &mut Story, stage: &Path) -> Result<()> {
    let world = story.step("a node with a secret", |_| World::make(stage))?;
    world.node.start("watch", ["sh", "-c", WATCH, "watch", FILE])?;
    let moves: [(&[&str], i32); 8] = [
        (&["upgrade", &reference("1")], 0),
        (&["plan", &reference("2")], 0),
        (&["upgrade", &reference("2")], 0),
        (&["upgrade", &reference("never")], 70),
        (&["rollback"], 0),
        (&["restart", "change"], 0),
        (&["set", "greeting=bonjour"], 0),
        (&["fsck"], 0),
    ];
    for (arguments, code) in moves {
        story.step(&arguments.join(" "), |_| world.quiet(arguments, code))?;
        if arguments[0] != "plan" && arguments[0] != "fsck" {
            world.is_seen_by_the_service()?;
        }
    }
    story.step("what can be asked does not say it", |_| {
        for arguments in [
            &["status"][..],
            &["history"],
            &["logs", "change"],
            &["logs", "steady"],
            &["events", "--since", "0", "--no-follow"],
            &["plan", &reference("2")],
        ] {
            world.says_nothing(arguments)?;
        }
        Ok(())
    })?;
    story.step("it is in no file, no process and no journal", |_| {
        world.is_nowhere()
    })?;
    story.step("the searches would have found it", |_| world.would_be_found())
}

impl World {
    fn make(stage: &Path) -> Result<Self> {
        let forge = Forge::open(stage)?;
        let node = tiny_node::boot("s1", Kind::Box, stage, &forge, "[probation]\nwindow_sec = 1\n")?;
        let image = forge.image("base", &[])?;
        for version in ["1", "2", "never"] {
            release(&forge, &image, version)?;
        }
        let secret = std::fs::read_to_string("/proc/sys/kernel/random/uuid")?
            .trim()
            .to_owned();
        node.write(FILE, &secret)?;
        node.run(["chmod", "0600", FILE])?;
        Ok(Self { node, secret })
    }

    /// Runs nodectl, which says the secret in neither form.
    fn quiet(&self, arguments: &[&str], code: i32) -> Result<()> {
        let said = nodectl::on(&self.node, arguments)?;
        ensure!(
            !format!("{said:?}").contains(&self.secret),
            "{arguments:?}: {said:?}"
        );
        said.expect(code).map(drop)
    }

    fn says_nothing(&self, arguments: &[&str]) -> Result<()> {
        for json in [&["--json"][..], &[]] {
            let said = nodectl::on(&self.node, &[json, arguments].concat())?;
            ensure!(!said.output.is_empty(), "{arguments:?}: {said:?}");
            ensure!(
                !format!("{said:?}").contains(&self.secret),
                "{arguments:?}: {said:?}"
            );
        }
        Ok(())
    }

    fn is_seen_by_the_service(&self) -> Result<()> {
        let cat = ["exec", "change", "--", "/bin/busybox", "cat", RENDERED];
        let text = nodectl::on(&self.node, &cat)?.expect(0)?;
        ensure!(text.contains(&self.secret), "the service does not see it: {text}");
        Ok(())
    }

    fn is_nowhere(&self) -> Result<()> {
        for search in [FILES, PROCESSES, SAID] {
            let found = self.search(search)?;
            ensure!(found.is_empty(), "{search}: {found}");
        }
        let seen = self.node.run(["cat", "/run/seen"])?;
        ensure!(seen.is_empty(), "while it worked: {seen}");
        Ok(())
    }

    fn search(&self, search: &str) -> Result<String> {
        let found = self.node.attempt(["sh", "-c", search, "search", FILE])?;
        Ok(String::from_utf8_lossy(&found.stdout).into_owned())
    }

    /// As a parameter it is everywhere.
    fn would_be_found(&self) -> Result<()> {
        let give = "nodectl set greeting=$(cat $1)";
        self.node.run(["sh", "-c", give, "give", FILE])?;
        let keep = "password=$(cat $1) exec systemd-run --quiet --unit=keeper --setenv=password sleep 1000";
        self.node.run(["sh", "-c", keep, "keep", FILE])?;
        let (files, processes, said) = (self.search(FILES)?, self.search(PROCESSES)?, self.search(SAID)?);
        for (place, found) in [
            ("/var/lib/nodectl/deployments/", &files),
            ("/etc/nodectl/node.toml.d/", &files),
            ("/environ", &processes),
            (&*self.secret, &said),
        ] {
            ensure!(found.contains(place), "not in {place}: {found}");
        }
        let seen = self.node.run(["cat", "/run/seen"])?;
        ensure!(seen.contains("/proc/"), "the watch has seen nothing: {seen}");
        Ok(())
    }
}

fn release(forge: &Forge, image: &Image, version: &str) -> Result<()> {
    let script = format!("echo change says {version}; exec /bin/busybox sleep 1000000");
    let mut change = Service::new("change", image, &script).with(GREETING).with(SECRET);
    if version == "never" {
        change = change.with("[readiness]\nkind = \"exec\"\ncommand = [\"/bin/busybox\", \"false\"]\n");
    }
    let steady = Service::new("steady", image, "exec /bin/busybox sleep 1000000");
    forge.release(&Release {
        version,
        images: &[image],
        services: &[steady, change],
        more: PARAMETERS,
    })?;
    forge.sign(version, "key")
}

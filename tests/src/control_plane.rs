//! The cloud a compute node joins: keystone, placement, glance, nova, neutron, RabbitMQ, MariaDB in one machine.
//!
//! Built once: the packages as a root, then a boot in which setup.py fills the databases. The layer that boot has
//! written is kept, so that later runs only boot.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Context, Result, anyhow, bail};

use crate::cache::{self, Key};
use crate::cloud::Cloud;
use crate::command::{self, command, stream};
use crate::guest;
use crate::lab;
use crate::node::{Name, Node, Setup};
use crate::progress::Progress;
use crate::roots::Recipe;

/// Name of the machine.
pub const NAME: &str = "ctl";

const SETUP: &[(&str, &str)] = &[
    ("api.py", include_str!("../control-plane/api.py")),
    ("config.py", include_str!("../control-plane/config.py")),
    ("setup.py", include_str!("../control-plane/setup.py")),
];

const DIRECTORY: &str = "usr/local/lib/nodectl-lab";

/// For all services at once to be loaded and to find each other: some hundred seconds of processor time, of which other
/// work on the host may leave little.
const READY_SECONDS: u32 = 600;

/// What tells why one of them does not answer.
const TROUBLE: &str = "systemctl list-units --no-pager --plain --state=failed,activating,auto-restart
systemctl list-jobs --no-pager
journalctl --no-pager --boot --priority=warning --lines=30
tail --lines=8 /var/log/keystone/*.log /var/log/nova/*.log /var/log/neutron/*.log /var/log/rabbitmq/*.log
cat /proc/loadavg";

/// The control plane, ready to serve: booted if it is off, built if the cache has none.
///
/// # Errors
/// Its root cannot be built, a step of its setup fails, or it does not answer in time.
pub fn up(progress: &Progress) -> Result<Cloud> {
    let name = Name::parse(NAME)?;
    let layers = layers(progress)?;
    let cloud = match Node::find(&name) {
        Ok(node) => {
            if node.layers() != layers {
                bail!("the control plane is not of the present recipe; `testnode down {NAME}` removes it");
            }
            if !node.running()? {
                node.boot()?;
            }
            Cloud::on(node)
        }
        Err(_) => {
            progress.say("control plane: booting");
            Cloud::on(Node::up(&name, &Setup::over(layers).address(lab::CONTROL_PLANE))?)
        }
    };
    progress.say("control plane: waiting for its services");
    match cloud.wait_ready(READY_SECONDS) {
        Ok(_) => Ok(cloud),
        Err(error) => Err(error.context(trouble(cloud.node()))),
    }
}

/// What the control plane itself says about its services.
fn trouble(node: &Node) -> String {
    let told = node.run(["sh", "-c", &format!("{{ {TROUBLE}; }} 2>&1")]);
    let told = told.unwrap_or_else(|error| format!("nothing: {error:#}"));
    format!("the control plane does not serve; it says:\n{told}")
}

/// A control plane on its way up in the background: it takes half a minute even from the cache.
#[derive(Debug)]
pub struct Pending {
    progress: Arc<Progress>,
    thread: JoinHandle<Result<Cloud>>,
}

impl Pending {
    /// Begins to bring it up.
    pub fn begin() -> Self {
        let progress = Arc::new(Progress::quiet());
        let shared = Arc::clone(&progress);
        Self {
            progress,
            thread: std::thread::spawn(move || up(&shared)),
        }
    }

    /// Waits until it serves.
    ///
    /// # Errors
    /// As [`up`].
    pub fn wait(self, progress: &Progress) -> Result<Cloud> {
        progress.follow(&self.progress);
        self.thread
            .join()
            .map_err(|_| anyhow!("the thread that sets up the control plane panicked"))?
    }
}

/// Removes the control plane with all that was done in it; what is cached stays.
///
/// # Errors
/// Something of it cannot be removed.
pub fn down() -> Result<()> {
    match Node::find(&Name::parse(NAME)?) {
        Ok(node) => node.down(),
        Err(_) => Ok(()),
    }
}

/// The read-only layers of a control plane with filled databases, topmost first.
///
/// # Errors
/// As [`up`].
pub fn layers(progress: &Progress) -> Result<Vec<PathBuf>> {
    let packages = Recipe::control_plane();
    let root = packages.root(progress)?;
    let guest = guest::image(progress)?;
    let mut parts = vec![
        packages.key().as_str().to_owned(),
        guest::key().as_str().to_owned(),
    ];
    parts.extend(SETUP.iter().map(|(_, text)| (*text).to_owned()));
    let key = Key::of(parts.iter().map(String::as_bytes));
    let filled = cache::entry("control-plane-filled", &key, |scratch| {
        fill(scratch, &root, &guest, progress)
    })?;
    Ok(vec![filled, root])
}

/// Boots the bare packages, runs the setup, shuts down cleanly and keeps the written layer.
fn fill(scratch: &Path, root: &Path, guest: &Path, progress: &Progress) -> Result<()> {
    let name = Name::parse(NAME)?;
    let mut setup = Setup::over(vec![root.to_owned()]).address(lab::CONTROL_PLANE);
    for (file, text) in SETUP {
        setup = setup.file(&format!("{DIRECTORY}/{file}"), *text);
    }
    for file in ["vmlinuz", "initramfs.gz", "disk.raw"] {
        let content = fs::read(guest.join(file)).with_context(|| format!("read the guest's {file}"))?;
        setup = setup.file(&format!("{DIRECTORY}/guest/{file}"), content);
    }
    progress.say("control plane: first boot");
    let node = Node::up(&name, &setup)?;
    let filled = run_setup(&node, progress)
        .and_then(|()| node.power_off())
        .and_then(|()| keep(&node.written_layer(), scratch));
    if let Err(error) = filled {
        bail!("set up the control plane (left as it is; `testnode down {NAME}` removes it): {error:#}");
    }
    node.down()
}

fn run_setup(node: &Node, progress: &Progress) -> Result<()> {
    let script = format!("/{DIRECTORY}/setup.py");
    let guest = format!("/{DIRECTORY}/guest");
    let address = lab::CONTROL_PLANE.to_string();
    let mut timings = Vec::new();
    let mut run = node.command(["python3", &script, &address, &guest])?;
    stream(&mut run, |line| match line.split_once(' ') {
        Some(("setup", step)) => progress.say(format!("control plane: {step}")),
        Some(("took", timing)) => timings.push(timing.to_owned()),
        Some(_) | None => {}
    })?;
    progress.note(&format!("control plane set up ({} s)", timings.join(", ")));
    Ok(())
}

/// Moves the layer, with the whiteouts and the opaque marks of the overlay.
fn keep(layer: &Path, scratch: &Path) -> Result<()> {
    command::output(command("mv", ["-T", "--"]).arg(layer).arg(scratch)).map(drop)
}

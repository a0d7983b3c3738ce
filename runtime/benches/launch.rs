//! CPU time of one launch, node-run against crun, from the same bundles: `cargo bench -p node-runtime`.
//!
//! CPU time (user and system, of all processes of the launch until the service's program has ended)
//! does not depend on how busy the machine is, wall time does; so CPU time is what is compared.
//! Needs root, crun, and the Debian root that the container tests keep in the cache.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::sys::wait::wait;
use node_runtime::launch::{Readiness, launch_document};
use node_runtime::seccomp;
use node_runtime::spec::container::{Container, HostNamespace};
use node_runtime::spec::{Resolved, oci_spec};

/// Samples of each subject, if `RUNS` in the environment does not say.
const RUNS: usize = 100;
const DIGEST: &str = "bench";

/// One way of launching, with its samples in milliseconds.
struct Subject {
    name: String,
    command: Vec<String>,
    cpu: Vec<f64>,
    wall: Vec<f64>,
}

fn main() -> Result<()> {
    see_unified_cgroups()?;
    let tree = cached_tree()?;
    let directory = tempfile::tempdir()?;
    let run = directory.path().join("run");
    state_in_memory(&run)?;
    let compared = compare(directory.path(), &tree);
    umount2(&run, MntFlags::MNT_DETACH)?;
    compared
}

fn compare(directory: &Path, tree: &Path) -> Result<()> {
    nix::sys::prctl::set_child_subreaper(true)?;
    let mut subjects = vec![Subject::new("fork and exec".into(), vec!["/bin/true".into()])];
    for (kind, host_pid, filter) in [
        ("pidns", false, false),
        ("hostpid", true, false),
        ("pidns-seccomp", false, true),
    ] {
        let bundle = write_bundle(directory, tree, kind, host_pid, filter)?;
        subjects.push(Subject::new(
            format!("node-run {kind}"),
            node_run(directory, kind),
        ));
        subjects.push(Subject::new(
            format!("crun {kind}"),
            crun(directory, &bundle, kind),
        ));
    }
    let runs = std::env::var("RUNS")
        .map_or(Ok(RUNS), |runs| runs.parse())
        .context("RUNS")?;
    ensure!(runs > 0, "RUNS is 0");
    for _ in 0..runs {
        for subject in &mut subjects {
            subject.sample()?;
        }
    }
    for subject in &mut subjects {
        subject.print();
    }
    Ok(())
}

/// crun refuses hosts with both cgroup versions; this process and its children see one.
fn see_unified_cgroups() -> Result<()> {
    const CGROUPS: &str = "/sys/fs/cgroup";
    let none: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS).context("unshare mounts (root is needed)")?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    umount2(CGROUPS, MntFlags::MNT_DETACH)?;
    mount(Some("cgroup2"), CGROUPS, Some("cgroup2"), MsFlags::empty(), none).context("mount cgroup2")
}

/// What launches write at run time is below /run on a node, and so in memory; for both.
fn state_in_memory(run: &Path) -> Result<()> {
    std::fs::create_dir(run)?;
    let none: Option<&str> = None;
    mount(Some("tmpfs"), run, Some("tmpfs"), MsFlags::empty(), none).context("mount tmpfs")
}

fn cached_tree() -> Result<PathBuf> {
    let cache = std::env::var("NODECTL_CACHE").unwrap_or_else(|_| "/var/cache/nodectl".into());
    let base = Path::new(&cache).join("runtime-tests");
    let listing = std::fs::read_dir(&base).with_context(|| format!("read {}", base.display()))?;
    let roots = listing.filter_map(Result::ok).map(|entry| entry.path());
    let tree = roots.filter(|path| path.join("usr/bin/true").exists()).min();
    tree.with_context(|| format!("no root in {}: run the container tests first", base.display()))
}

/// Writes the bundle twice: as node-run takes it, and with the filter in its source form for crun.
fn write_bundle(directory: &Path, tree: &Path, name: &str, host_pid: bool, filter: bool) -> Result<PathBuf> {
    let mut container = Container::default();
    container.process.args = vec!["/usr/bin/true".into()];
    if host_pid {
        container.share.insert(HostNamespace::Pid);
    }
    let image = Default::default();
    let resolved = Resolved {
        service: name,
        container: &container,
        image_config: &image,
        rootfs: tree,
        passwd: "root:x:0:0:root:/root:/bin/sh\n",
        group: "root:x:0:\n",
        files: &[],
        hostname: None,
        seccomp: filter,
    };
    let mut spec = oci_spec(&resolved)?;
    let bundle = directory.join("deployments/1/services").join(name);
    std::fs::create_dir_all(&bundle)?;
    std::fs::write(bundle.join("config.json"), serde_json::to_vec(&spec)?)?;
    let launch = launch_document(&resolved, Readiness::Started, 10, Vec::new())?;
    std::fs::write(bundle.join("launch.json"), serde_json::to_vec(&launch)?)?;
    std::fs::write(bundle.join("digest"), DIGEST)?;
    if filter {
        std::fs::write(
            bundle.join("seccomp.bpf"),
            seccomp::compile(seccomp::DEFAULT_PROFILE)?,
        )?;
        let profile = serde_json::from_str(seccomp::DEFAULT_PROFILE)?;
        spec.linux_mut()
            .as_mut()
            .context("linux section")?
            .set_seccomp(Some(profile));
    }
    let theirs = directory.join("crun").join(name);
    std::fs::create_dir_all(&theirs)?;
    std::fs::write(theirs.join("config.json"), serde_json::to_vec(&spec)?)?;
    Ok(theirs)
}

fn node_run(directory: &Path, name: &str) -> Vec<String> {
    let root = directory.display();
    // Another build may be measured, for example the installed one.
    let program = std::env::var("NODE_RUN");
    [
        program.as_deref().unwrap_or(env!("CARGO_BIN_EXE_node-run")),
        "start",
        "--digest",
        DIGEST,
        "--state-root",
        &root.to_string(),
        "--run-root",
        &format!("{root}/run"),
        name,
    ]
    .map(str::to_owned)
    .to_vec()
}

fn crun(directory: &Path, bundle: &Path, name: &str) -> Vec<String> {
    // No cgroup action on either side.
    ["crun", "--cgroup-manager=disabled", "--root"]
        .map(str::to_owned)
        .into_iter()
        .chain([directory.join("run/crun").display().to_string(), "run".into()])
        .chain(["--bundle".into(), bundle.display().to_string(), name.to_owned()])
        .collect()
}

impl Subject {
    fn new(name: String, command: Vec<String>) -> Self {
        Self {
            name,
            command,
            cpu: Vec::new(),
            wall: Vec::new(),
        }
    }

    fn sample(&mut self) -> Result<()> {
        let before = children_cpu_ms()?;
        let begin = Instant::now();
        let (program, arguments) = self.command.split_first().context("empty command")?;
        let mut command = Command::new(program);
        // cargo's library path makes the loader of either program search directories that no node has.
        command
            .args(arguments)
            .stdin(Stdio::null())
            .env_remove("LD_LIBRARY_PATH")
            .env_remove("NOTIFY_SOCKET");
        let launcher = command.spawn().with_context(|| format!("start {program}"))?.id();
        // The container's process is a child of this one: its sibling, or adopted.
        loop {
            match wait() {
                Ok(nix::sys::wait::WaitStatus::Exited(_, 0)) => {}
                Ok(other) => bail!("{} (launcher {launcher}): {other:?}", self.name),
                Err(nix::errno::Errno::ECHILD) => break,
                Err(e) => return Err(e.into()),
            }
        }
        self.wall.push(begin.elapsed().as_secs_f64() * 1e3);
        self.cpu.push(children_cpu_ms()? - before);
        Ok(())
    }

    fn print(&mut self) {
        let line = |samples: &mut Vec<f64>| {
            samples.sort_by(f64::total_cmp);
            (
                samples.first().copied().unwrap_or_default(),
                samples[samples.len() / 2],
            )
        };
        let (cpu, wall) = (line(&mut self.cpu), line(&mut self.wall));
        println!(
            "{:<24} n={} cpu min {:>6.2} med {:>6.2} ms | wall min {:>6.2} med {:>6.2} ms",
            self.name,
            self.cpu.len(),
            cpu.0,
            cpu.1,
            wall.0,
            wall.1
        );
    }
}

fn children_cpu_ms() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let total = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    ensure!(total >= 0, "negative CPU time");
    Ok(f64::from(u32::try_from(total)?) / 1e3)
}

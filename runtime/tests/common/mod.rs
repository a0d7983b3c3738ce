//! A *box* for tests: a Debian root booted with systemd as PID 1 by systemd-nspawn, thrown away at
//! the end. What it lacks on this host it says in a panic.

// Each test program uses a part of this.
#![allow(dead_code)]

pub mod service;

use std::fs;
use std::io::Read;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const PACKAGES: &str = "systemd,systemd-sysv,dbus,python3-minimal";
const BOOT_PATIENCE: Duration = Duration::from_secs(120);

/// A running box; dropping it kills it and removes what it left.
pub struct Box {
    nspawn: Child,
    cgroup: PathBuf,
    leader: u32,
    _directory: tempfile::TempDir,
}

impl Box {
    /// Boots a box. Its root is an overlay in memory over the cached one; the cached one is also
    /// visible inside, read-only, as `/srv/tree`, the image of the services under test.
    pub fn boot() -> Self {
        let root = cached_root();
        let directory = tempfile::tempdir().expect("temporary directory");
        let notify = directory.path().join("notify");
        let socket = UnixDatagram::bind(&notify).expect("notify socket");
        let name = directory
            .path()
            .file_name()
            .and_then(|n| n.to_str())
            .map(|n| n.replace('.', ""));
        let cgroup = cgroup2().join(format!("node-run-test-{}", name.expect("name")));
        fs::create_dir(&cgroup).expect("make a cgroup (root on cgroup v2 is needed)");
        let log = fs::File::create(directory.path().join("console")).expect("console log");
        let mut nspawn = Command::new("sh");
        nspawn
            .args(["-c", "echo $$ >\"$0/cgroup.procs\" && exec \"$@\""])
            .arg(&cgroup);
        nspawn.args(NSPAWN);
        nspawn.arg(format!("--directory={}", root.display()));
        nspawn.arg(format!("--bind-ro={}:/srv/tree", root.display()));
        nspawn.arg(format!(
            "--bind-ro={}:/usr/libexec/node-run",
            env!("CARGO_BIN_EXE_node-run")
        ));
        nspawn
            .env("NOTIFY_SOCKET", &notify)
            .env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1");
        let log_too = log.try_clone().expect("console log");
        nspawn.stdin(Stdio::null()).stdout(log).stderr(log_too);
        let nspawn = nspawn
            .spawn()
            .expect("start systemd-nspawn (package systemd-container)");
        let mut booted = Self {
            nspawn,
            cgroup,
            leader: 0,
            _directory: directory,
        };
        booted.leader = booted.wait_for_boot(&socket);
        booted
    }

    fn wait_for_boot(&self, socket: &UnixDatagram) -> u32 {
        let deadline = Instant::now() + BOOT_PATIENCE;
        let mut leader = None;
        let mut buffer = [0; 4096];
        loop {
            let left = deadline
                .saturating_duration_since(Instant::now())
                .max(Duration::from_millis(1));
            socket.set_read_timeout(Some(left)).expect("timeout");
            let length = socket.recv(&mut buffer).unwrap_or_else(|e| {
                let console = fs::read_to_string(self._directory.path().join("console"));
                panic!("the box did not boot: {e}\n{}", console.unwrap_or_default())
            });
            let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
            for line in message.lines() {
                if let Some(pid) = line.strip_prefix("X_NSPAWN_LEADER_PID=") {
                    leader = pid.parse().ok();
                }
                if line == "READY=1" {
                    return leader.expect("nspawn tells the leader before it is ready");
                }
            }
        }
    }

    /// A path of the box as seen from here.
    pub fn path(&self, inside: &str) -> PathBuf {
        Path::new("/proc")
            .join(self.leader.to_string())
            .join("root")
            .join(inside.trim_start_matches('/'))
    }

    /// Writes a file in the box, with its directories.
    pub fn write(&self, inside: &str, content: impl AsRef<[u8]>) {
        let path = self.path(inside);
        fs::create_dir_all(path.parent().expect("a file has a directory")).expect("directories");
        fs::write(&path, content).unwrap_or_else(|e| panic!("write {inside}: {e}"));
    }

    /// Runs a shell command in the box.
    pub fn sh(&self, script: &str) -> Output {
        Command::new("nsenter")
            .args([
                "--target",
                &self.leader.to_string(),
                "--all",
                "--wdns=/",
                "--",
                "sh",
                "-c",
                script,
            ])
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .output()
            .expect("nsenter")
    }

    /// Standard output of a shell command in the box that has to succeed.
    pub fn ok(&self, script: &str) -> String {
        let output = self.sh(script);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        assert!(
            output.status.success(),
            "`{script}` failed: {}{}",
            text(&output.stdout),
            text(&output.stderr)
        );
        text(&output.stdout)
    }

    /// A property of a unit.
    pub fn property(&self, unit: &str, name: &str) -> String {
        self.ok(&format!("systemctl show --value -p {name} {unit}"))
    }

    /// Waits until a property of a unit has a value; systemd is asked at most 30 s long.
    pub fn wait_property(&self, unit: &str, name: &str, value: &str) {
        let script = format!(
            "timeout 30 sh -c 'until [ \"$(systemctl show --value -p {name} {unit})\" = \"{value}\" ]; do sleep 0.1; done'"
        );
        let waited = self.sh(&script).status.success();
        assert!(
            waited,
            "{unit} {name} is {}, not {value}\n{}",
            self.property(unit, name),
            self.journal(unit)
        );
    }

    /// The journal of a unit.
    pub fn journal(&self, unit: &str) -> String {
        self.ok(&format!(
            "journalctl --sync; journalctl -o cat --no-pager -u {unit}"
        ))
    }
}

impl Drop for Box {
    fn drop(&mut self) {
        let _ = fs::write(self.cgroup.join("cgroup.kill"), "1");
        let _ = self.nspawn.wait();
        let deadline = Instant::now() + Duration::from_secs(20);
        while !removed(&self.cgroup) && Instant::now() < deadline {
            std::thread::yield_now();
        }
    }
}

fn removed(cgroup: &Path) -> bool {
    let children = fs::read_dir(cgroup).into_iter().flatten().flatten();
    for child in children.filter(|child| child.path().is_dir()) {
        removed(&child.path());
    }
    fs::remove_dir(cgroup).is_ok() || !cgroup.exists()
}

const NSPAWN: [&str; 13] = [
    "systemd-nspawn",
    "--quiet",
    "--boot",
    "--register=no",
    "--keep-unit",
    "--notify-ready=yes",
    "--console=read-only",
    "--link-journal=no",
    "--private-network",
    "--capability=all",
    "--system-call-filter=@known",
    "--volatile=overlay",
    "--hostname=box",
];

fn cgroup2() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
    let line = mounts
        .lines()
        .find(|line| line.split(' ').nth(2) == Some("cgroup2"));
    let path = line
        .and_then(|line| line.split(' ').nth(1))
        .expect("no cgroup2 file system is mounted");
    PathBuf::from(path)
}

/// The Debian root, made once and kept under the cache by its list of packages.
fn cached_root() -> PathBuf {
    let cache = std::env::var("NODECTL_CACHE").unwrap_or_else(|_| "/var/cache/nodectl".to_owned());
    let base = Path::new(&cache).join("runtime-tests");
    let root = base.join(PACKAGES.replace(',', "+"));
    fs::create_dir_all(&base).expect("cache directory (root is needed)");
    let lock = fs::File::create(base.join("lock")).expect("lock");
    lock.lock().expect("lock the cache");
    if !root.is_dir() {
        let unfinished = base.join("unfinished");
        let _ = fs::remove_dir_all(&unfinished);
        let mut build = Command::new("mmdebstrap")
            .args(["--quiet", "--variant=minbase", "--include", PACKAGES, "bookworm"])
            .arg(&unfinished)
            .stderr(Stdio::piped())
            .spawn()
            .expect("start mmdebstrap (package mmdebstrap)");
        let mut errors = String::new();
        build
            .stderr
            .take()
            .map(|mut stderr| stderr.read_to_string(&mut errors));
        assert!(
            build.wait().expect("mmdebstrap").success(),
            "mmdebstrap failed: {errors}"
        );
        fs::rename(&unfinished, &root).expect("keep the root");
    }
    root
}

//! A box: a Debian root booted by systemd-nspawn with systemd as PID 1, thrown away at the end.

use std::{
    fs,
    io::Read as _,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

const PACKAGES: &str = "systemd,systemd-sysv,dbus,python3-minimal";
const BOOT_PATIENCE: Duration = Duration::from_secs(120);

/// In a mount namespace of its own, so that the overlay goes away with the last process of the box.
const BOOT: &str = r#"
echo $$ > "$CGROUP/cgroup.procs"
mount -t tmpfs tmpfs "$WORK"
mkdir "$WORK/upper" "$WORK/work" "$WORK/root"
mount -t overlay overlay -o "lowerdir=$LOWER,upperdir=$WORK/upper,workdir=$WORK/work" "$WORK/root"
exec systemd-nspawn --quiet --boot --register=no --keep-unit --notify-ready=yes --console=read-only \
  --link-journal=no --private-network --capability=all --system-call-filter=@known --hostname=box \
  --directory="$WORK/root" "$@"
"#;

/// A running box; dropping it kills it and removes what it left.
pub struct Booted {
    nspawn: Child,
    cgroup: PathBuf,
    leader: u32,
    directory: tempfile::TempDir,
}

impl Booted {
    /// Boots a box whose root is the cached Debian one with `layer` on top; `arguments` go to systemd as
    /// the kernel command line does on a machine.
    pub fn boot(layer: &Path, arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("temporary directory");
        let notify = directory.path().join("notify");
        let socket = UnixDatagram::bind(&notify).expect("notify socket");
        let unique = directory
            .path()
            .file_name()
            .and_then(|name| name.to_str())
            .expect("a name");
        let cgroup = cgroup2().join(format!("node-systemd-test-{}", unique.trim_start_matches('.')));
        fs::create_dir(&cgroup).expect("make a cgroup (root on cgroup v2 is needed)");
        let work = directory.path().join("work");
        fs::create_dir(&work).expect("work directory");
        let console = fs::File::create(directory.path().join("console")).expect("console log");
        let nspawn = Command::new("unshare")
            .args(["--mount", "--propagation=slave", "sh", "-euc", BOOT, "sh"])
            .args(arguments)
            .env("CGROUP", &cgroup)
            .env("WORK", &work)
            .env(
                "LOWER",
                format!("{}:{}", layer.display(), cached_root().display()),
            )
            .env("NOTIFY_SOCKET", &notify)
            .env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1")
            .stdin(Stdio::null())
            .stdout(console.try_clone().expect("console log"))
            .stderr(console)
            .spawn()
            .expect("start systemd-nspawn (package systemd-container)");
        let mut booted = Self {
            nspawn,
            cgroup,
            leader: 0,
            directory,
        };
        booted.leader = booted.wait_for_boot(&socket);
        booted
    }

    fn wait_for_boot(&self, socket: &UnixDatagram) -> u32 {
        let deadline = Instant::now() + BOOT_PATIENCE;
        let mut leader = None;
        let mut buffer = [0; 4096];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            socket
                .set_read_timeout(Some(left.max(Duration::from_millis(1))))
                .expect("timeout");
            let length = socket
                .recv(&mut buffer)
                .unwrap_or_else(|error| panic!("the box did not boot: {error}\n{}", self.console()));
            for line in String::from_utf8_lossy(&buffer[..length]).lines() {
                if let Some(pid) = line.strip_prefix("X_NSPAWN_LEADER_PID=") {
                    leader = pid.parse().ok();
                }
                if line == "READY=1" {
                    return leader.expect("nspawn tells the leader before it is ready");
                }
            }
        }
    }

    /// What the box wrote to its console.
    pub fn console(&self) -> String {
        fs::read_to_string(self.directory.path().join("console")).unwrap_or_default()
    }

    /// The box's root directory as seen from here.
    pub fn root(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.leader))
    }

    /// Runs a shell command in the box.
    pub fn sh(&self, script: &str) -> Output {
        Command::new("nsenter")
            .args(["--target", &self.leader.to_string(), "--all", "--wdns=/", "--"])
            .args(["sh", "-c", script])
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .output()
            .expect("run nsenter")
    }

    /// Standard output of a shell command in the box that has to succeed.
    pub fn ok(&self, script: &str) -> String {
        let output = self.sh(script);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "`{script}` failed: {stdout}{stderr}");
        stdout
    }

    /// A property of a unit.
    pub fn property(&self, unit: &str, name: &str) -> String {
        self.ok(&format!("systemctl show --value -p {name} {unit}"))
    }

    /// The unit's journal.
    pub fn journal(&self, unit: &str) -> String {
        self.ok(&format!(
            "journalctl --sync; journalctl -o cat --no-pager -u {unit}"
        ))
    }
}

impl Drop for Booted {
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

fn cgroup2() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
    let mut fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let mount = fields.find(|fields| fields.get(2) == Some(&"cgroup2"));
    PathBuf::from(mount.expect("no cgroup2 file system is mounted")[1])
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
        build(&base.join("unfinished"));
        fs::rename(base.join("unfinished"), &root).expect("keep the root");
    }
    root
}

fn build(directory: &Path) {
    let _ = fs::remove_dir_all(directory);
    let mut build = Command::new("mmdebstrap")
        .args(["--quiet", "--variant=minbase", "--include", PACKAGES, "bookworm"])
        .arg(directory)
        .stderr(Stdio::piped())
        .spawn()
        .expect("start mmdebstrap (package mmdebstrap)");
    let mut errors = String::new();
    if let Some(mut stderr) = build.stderr.take() {
        let _ = stderr.read_to_string(&mut errors);
    }
    assert!(
        build.wait().expect("mmdebstrap").success(),
        "mmdebstrap failed: {errors}"
    );
}

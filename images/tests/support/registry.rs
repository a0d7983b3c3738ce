//! The distribution registry (Debian package docker-registry) on a free loopback port.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running registry; ends with the value.
pub struct Registry {
    child: Child,
    pub host: String,
    pub directory: tempfile::TempDir,
}

/// User and password of [`Registry::with_password`], and the line of its htpasswd file.
pub const USER: &str = "node";
pub const PASSWORD: &str = "geheim";
const HTPASSWD: &str = "node:$2b$05$abcdefghijklmnopqrstuuVWu8RjbNovPZWAMRdd7iqaaG0mI53Uu\n";

impl Registry {
    pub fn start() -> Self {
        Registry::launch("")
    }

    /// One that wants basic authentication.
    pub fn with_password() -> Self {
        Registry::launch("auth:\n  htpasswd:\n    realm: test\n    path: htpasswd\n")
    }

    fn launch(extra: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("htpasswd"), HTPASSWD).expect("written");
        // Another process may take the port between here and the registry's start: try again then.
        for _ in 0..5 {
            let port = free_port();
            let config = format!(
                "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: data\n  delete:\n    enabled: true\nhttp:\n  addr: 127.0.0.1:{port}\n{extra}"
            );
            std::fs::write(directory.path().join("config.yml"), config).expect("written");
            if let Some(child) = spawn(directory.path(), port) {
                return Registry {
                    child,
                    host: format!("127.0.0.1:{port}"),
                    directory,
                };
            }
        }
        panic!("docker-registry does not start");
    }

    /// Ends the registry in the middle of whatever it does.
    pub fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("waited for");
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}

fn spawn(directory: &Path, port: u16) -> Option<Child> {
    let mut child = Command::new("docker-registry")
        .args(["serve", "config.yml"])
        .current_dir(directory)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("docker-registry has to be installed (Debian package docker-registry)");
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Some(child);
        }
        if child.try_wait().expect("asked").is_some() {
            return None;
        }
        // No event tells that another process listens now.
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().expect("killed");
    child.wait().expect("waited for");
    None
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

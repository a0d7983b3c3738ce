//! Services under test: definitions rendered by this crate, units as nodectl renders them.

use std::path::Path;

use node_runtime::launch::{CredentialFile, Readiness, launch_document};
use node_runtime::spec::container::{Container, HostNamespace};
use node_runtime::spec::{RenderedFile, Resolved, oci_spec};
use oci_spec::image::ImageConfiguration;

use super::Box;

/// A service under test.
pub struct Service {
    pub name: String,
    pub container: Container,
    pub readiness: Readiness,
    pub timeout: u64,
    pub files: Vec<(RenderedFile, String)>,
    pub credentials: Vec<CredentialFile>,
    pub filter: Option<Vec<u8>>,
    /// More lines for the unit's [Service] section.
    pub unit: String,
    pub digest: String,
}

impl Service {
    /// A service that runs a Python program.
    pub fn python(name: &str, program: &str) -> Self {
        Self::command(name, &["/usr/bin/python3", "-c", program])
    }

    /// A service that runs a command.
    pub fn command(name: &str, args: &[&str]) -> Self {
        let mut container = Container::default();
        container.process.args = args.iter().map(|arg| (*arg).to_owned()).collect();
        Self {
            name: name.to_owned(),
            container,
            readiness: Readiness::Started,
            timeout: 20,
            files: Vec::new(),
            credentials: Vec::new(),
            filter: None,
            unit: String::new(),
            digest: "0".repeat(64),
        }
    }

    /// The same in the host's pid namespace.
    pub fn host_pid(mut self) -> Self {
        self.container.share.insert(HostNamespace::Pid);
        self
    }

    /// The same with this readiness.
    pub fn ready(mut self, readiness: Readiness) -> Self {
        self.readiness = readiness;
        self
    }

    /// The same with these lines in its unit.
    pub fn unit(mut self, lines: &str) -> Self {
        self.unit = format!("{}{lines}\n", self.unit);
        self
    }

    /// Renders the bundle and the unit into the box, without a reload.
    pub fn install(&self, node: &Box) {
        let image = ImageConfiguration::default();
        let passwd = "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/nonexistent:/bin/false\n";
        let files: Vec<RenderedFile> = self.files.iter().map(|(file, _)| file.clone()).collect();
        let resolved = Resolved {
            service: &self.name,
            container: &self.container,
            image_config: &image,
            rootfs: Path::new("/srv/tree"),
            passwd,
            group: "root:x:0:\nnogroup:x:65534:\n",
            files: &files,
            hostname: None,
            seccomp: self.filter.is_some(),
        };
        let spec = oci_spec(&resolved).expect("OCI configuration");
        let launch = launch_document(
            &resolved,
            self.readiness.clone(),
            self.timeout,
            self.credentials.clone(),
        );
        let bundle = format!("/var/lib/nodectl/deployments/1/services/{}", self.name);
        node.write(
            &format!("{bundle}/config.json"),
            serde_json::to_vec_pretty(&spec).expect("json"),
        );
        let launch = serde_json::to_vec_pretty(&launch.expect("launch document")).expect("json");
        node.write(&format!("{bundle}/launch.json"), launch);
        node.write(&format!("{bundle}/digest"), format!("{}\n", self.digest));
        for (file, content) in &self.files {
            node.write(&format!("{bundle}/{}", file.bundle_relative), content);
        }
        if let Some(filter) = &self.filter {
            node.write(&format!("{bundle}/seccomp.bpf"), filter);
        }
        node.write(
            &format!("/run/systemd/system/{}.service", self.name),
            self.unit_text(),
        );
        node.ok("ln -sfn deployments/1 /var/lib/nodectl/current");
    }

    fn unit_text(&self) -> String {
        format!(
            "[Service]\nType=notify\nNotifyAccess=all\nKillMode=mixed\nTimeoutStartSec=30\n\
             ExecStart=/usr/libexec/node-run start --digest={} {}\n{}",
            self.digest, self.name, self.unit
        )
    }

    /// Installs it and starts it; the result of the start job.
    pub fn start(&self, node: &Box) -> bool {
        self.install(node);
        node.ok("systemctl daemon-reload");
        node.sh(&format!("systemctl start {}", self.name))
            .status
            .success()
    }

    /// Installs and starts it, which has to succeed.
    pub fn up(&self, node: &Box) {
        assert!(
            self.start(node),
            "{} did not start:\n{}",
            self.name,
            node.journal(&self.name)
        );
    }
}

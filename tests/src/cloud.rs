//! Questions and orders to the cloud, each one Python process in the control plane.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::lab;
use crate::node::{Name, Node};

const CLIENT: &str = include_str!("../control-plane/cloud.py");

/// Beside api.py and config.py, which are part of the control plane's image.
const PATH: &str = "/usr/local/lib/nodectl-lab/cloud.py";

/// The cloud's API, as its administrator.
#[derive(Debug, Clone)]
pub struct Cloud {
    node: Node,
}

/// What a compute node has to know to join.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Access {
    /// The control plane's address.
    pub address: Ipv4Addr,
    /// oslo.messaging's transport_url, password included.
    pub transport_url: String,
    /// The password of the users nova, placement, neutron and glance in project `service`, domain `Default`.
    pub password: String,
    /// Keystone's v3 URL.
    pub auth_url: String,
    /// The region all endpoints are in.
    pub region: String,
}

/// One nova service, as `openstack compute service list` shows it.
#[derive(Debug, Clone, Deserialize)]
pub struct Service {
    /// The program, for example `nova-compute`.
    pub binary: String,
    /// The host it runs on.
    pub host: String,
    /// `up` or `down`.
    pub state: String,
    /// `enabled` or `disabled`.
    pub status: String,
    /// Why it is disabled, if it is and somebody said so.
    pub disabled_reason: Option<String>,
    /// Time of the last report (UTC, no zone), if there was one.
    pub updated_at: Option<String>,
}

/// One instance.
#[derive(Debug, Clone, Deserialize)]
pub struct Server {
    /// Its uuid.
    pub id: String,
    /// Its name.
    pub name: String,
    /// `BUILD`, `ACTIVE`, `ERROR`, …
    pub status: String,
    /// What nova is doing with it, for example `spawning`; nothing at rest.
    #[serde(rename = "OS-EXT-STS:task_state")]
    pub task: Option<String>,
    /// The compute host, once one is chosen.
    #[serde(rename = "OS-EXT-SRV-ATTR:host")]
    pub host: Option<String>,
    /// libvirt's name of the domain.
    #[serde(rename = "OS-EXT-SRV-ATTR:instance_name")]
    pub domain: Option<String>,
}

/// A port of an instance.
#[derive(Debug, Clone, Deserialize)]
pub struct Port {
    /// Its uuid; the interface in Open vSwitch carries it as `iface-id`.
    pub id: String,
    /// `ACTIVE` once the agent has wired it.
    pub status: String,
    /// How the hypervisor attaches it: `ovs`, or `binding_failed`.
    #[serde(rename = "binding:vif_type")]
    pub vif_type: String,
    /// The host that it is bound to.
    #[serde(rename = "binding:host_id")]
    pub host: String,
    /// Its addresses.
    pub fixed_ips: Vec<FixedIp>,
}

/// An address of a port.
#[derive(Debug, Clone, Deserialize)]
pub struct FixedIp {
    /// The address.
    pub ip_address: Ipv4Addr,
}

/// A line of the guest on its serial console.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Heartbeat {
    /// One more each second.
    pub beat: u64,
    /// The guest kernel's uptime in seconds.
    pub uptime: String,
    /// The guest kernel's boot id: the same as long as the guest has not started anew.
    pub boot: String,
}

#[derive(Deserialize)]
struct Console {
    output: String,
}

impl Cloud {
    /// The running control plane.
    ///
    /// # Errors
    /// There is none.
    pub fn find() -> Result<Self> {
        Ok(Self::on(Node::find(&Name::parse(crate::control_plane::NAME)?)?))
    }

    pub(crate) fn on(node: Node) -> Self {
        Self { node }
    }

    /// The machine the control plane runs on.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Waits until all APIs answer and conductor and scheduler have reported.
    ///
    /// # Errors
    /// One of them does not within this time; the error names it.
    pub fn wait_ready(&self, seconds: u32) -> Result<Vec<Service>> {
        self.ask(&["wait-ready", &seconds.to_string()])
    }

    /// What a compute node has to know.
    ///
    /// # Errors
    /// The control plane is off.
    pub fn access(&self) -> Result<Access> {
        self.ask(&["access"])
    }

    /// All nova services.
    ///
    /// # Errors
    /// nova-api does not answer.
    pub fn services(&self) -> Result<Vec<Service>> {
        self.ask(&["services"])
    }

    /// Waits until nova-compute on that host is up.
    ///
    /// # Errors
    /// It is not within this time.
    pub fn wait_compute(&self, host: &str, seconds: u32) -> Result<Service> {
        self.ask(&["wait-compute", host, &seconds.to_string()])
    }

    /// Waits for a report of nova-compute that is later than `service`'s: it is alive, not just not yet missed.
    ///
    /// # Errors
    /// There is none within this time.
    pub fn wait_report_after(&self, service: &Service, seconds: u32) -> Result<Service> {
        let last = service.updated_at.as_deref().unwrap_or_default();
        self.ask(&["wait-report-after", &service.host, last, &seconds.to_string()])
    }

    /// Maps new compute hosts into the cell; the scheduler uses none that is not.
    ///
    /// # Errors
    /// nova-manage fails.
    pub fn discover_hosts(&self) -> Result<()> {
        self.ask::<serde::de::IgnoredAny>(&["discover-hosts"]).map(drop)
    }

    /// Waits until neutron hears its agent on that host.
    ///
    /// # Errors
    /// It does not within this time.
    pub fn wait_agent(&self, binary: &str, host: &str, seconds: u32) -> Result<()> {
        self.ask::<serde::de::IgnoredAny>(&["wait-agent", binary, host, &seconds.to_string()])
            .map(drop)
    }

    /// Makes a network with a subnet of this range.
    ///
    /// # Errors
    /// neutron refuses it.
    pub fn network_create(&self, name: &str, range: &str) -> Result<()> {
        self.ask::<serde::de::IgnoredAny>(&["network-create", name, range])
            .map(drop)
    }

    /// The ports of an instance.
    ///
    /// # Errors
    /// There is no such instance.
    pub fn server_ports(&self, name: &str) -> Result<Vec<Port>> {
        self.ask(&["server-ports", name])
    }

    /// Asks for an instance of the guest image, on this network, as people do. Returns before it runs.
    ///
    /// # Errors
    /// nova-api refuses it.
    pub fn server_create_on(&self, name: &str, network: &str) -> Result<()> {
        let what = ["--image", "guest", "--flavor", "guest", "--network", network];
        self.openstack(&[&["server", "create"], &what[..], &[name]].concat())
            .map(drop)
    }

    /// Asks for an instance of the guest image, without a network. Returns before it runs.
    ///
    /// # Errors
    /// nova-api refuses it.
    pub fn server_create(&self, name: &str) -> Result<()> {
        self.ask::<serde::de::IgnoredAny>(&["server-create", name])
            .map(drop)
    }

    /// All instances of the project.
    ///
    /// # Errors
    /// nova-api does not answer.
    pub fn servers(&self) -> Result<Vec<Server>> {
        self.ask(&["servers"])
    }

    /// An instance.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn server_show(&self, name: &str) -> Result<Server> {
        self.ask(&["server-show", name])
    }

    /// Waits until an instance is ACTIVE.
    ///
    /// # Errors
    /// It goes to ERROR (the error has nova's fault), or is not active within this time.
    pub fn wait_active(&self, name: &str, seconds: u32) -> Result<Server> {
        self.ask(&["wait-active", name, &seconds.to_string()])
    }

    /// The end of an instance's serial console.
    ///
    /// # Errors
    /// nova-compute does not answer.
    pub fn console(&self, name: &str) -> Result<String> {
        Ok(self.ask::<Console>(&["console", name])?.output)
    }

    /// Waits until the guest has printed a heartbeat that is later than `last`, or of another boot.
    ///
    /// # Errors
    /// It has not within this time.
    pub fn wait_heartbeat(&self, name: &str, last: Option<&Heartbeat>, seconds: u32) -> Result<Heartbeat> {
        let (boot, beat) = last.map_or(("none", 0), |last| (last.boot.as_str(), last.beat));
        self.ask(&[
            "wait-heartbeat",
            name,
            boot,
            &beat.to_string(),
            &seconds.to_string(),
        ])
    }

    /// Deletes an instance; returns when it is gone.
    ///
    /// # Errors
    /// It is still there after a minute.
    pub fn server_delete(&self, name: &str) -> Result<()> {
        self.ask::<serde::de::IgnoredAny>(&["server-delete", name])
            .map(drop)
    }

    /// Output of the real `openstack` client with these arguments (it takes 3 to 6 seconds).
    ///
    /// # Errors
    /// The client fails or takes longer than a minute.
    pub fn openstack(&self, arguments: &[&str]) -> Result<String> {
        let access = self.access()?;
        let mut argv: Vec<String> = ["env", "OS_USERNAME=admin", "OS_PROJECT_NAME=admin"]
            .map(String::from)
            .into();
        argv.extend(["OS_USER_DOMAIN_NAME=Default", "OS_PROJECT_DOMAIN_NAME=Default"].map(String::from));
        argv.push("OS_IDENTITY_API_VERSION=3".to_owned());
        argv.push(format!("OS_AUTH_URL={}", access.auth_url));
        argv.push(format!("OS_PASSWORD={}", access.password));
        argv.extend(["timeout", "60", "openstack"].map(String::from));
        argv.extend(arguments.iter().map(|word| (*word).to_owned()));
        self.node.run(argv)
    }

    fn ask<T: DeserializeOwned>(&self, words: &[&str]) -> Result<T> {
        self.node.write(PATH, CLIENT)?;
        let address = lab::CONTROL_PLANE.to_string();
        let mut argv = vec!["python3", PATH, &address];
        argv.extend(words);
        let answer = self
            .node
            .run(argv)
            .with_context(|| format!("cloud: {}", words.join(" ")))?;
        serde_json::from_str(&answer)
            .with_context(|| format!("cloud: answer to {}: {answer}", words.join(" ")))
    }
}

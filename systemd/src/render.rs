//! From a service definition to the text of its unit.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::{
    name::{UnitKind, UnitName},
    service::ServiceUnit,
    unit::{Section, UnitError, UnitFile, Value},
};

/// Where the launcher is installed.
pub const NODE_RUN: &str = "/usr/libexec/nodectl/node-run";
/// The state directory of an ordinary node.
pub const STATE_ROOT: &str = "/var/lib/nodectl";
/// The runtime directory of an ordinary node.
pub const RUN_ROOT: &str = "/run/nodectl";
/// The target that all services of the node belong to.
pub const SERVICES_TARGET: &str = "nodectl-services.target";
/// The unit that settles an open transaction at boot, before the services.
pub const RECOVER_SERVICE: &str = "nodectl-recover.service";

/// `multi-user.target`, which starts a service unless its definition says otherwise.
pub(crate) fn multi_user() -> UnitName {
    known("multi-user.target")
}

/// A name that this crate itself spells.
pub(crate) fn known(name: &'static str) -> UnitName {
    UnitName::parse(name).unwrap_or_else(|_| unreachable!("{name} is a unit name"))
}

/// The launcher's command line and surroundings: the part of the unit that nodectl decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceExec {
    /// The launcher.
    pub node_run: PathBuf,
    /// Digest of the service's bundle, in hexadecimal digits.
    pub digest: String,
    /// State directory of the node.
    pub state_root: PathBuf,
    /// Runtime directory of the node.
    pub run_root: PathBuf,
    /// Credentials by name, and the files that systemd reads them from.
    pub credentials: Vec<(String, PathBuf)>,
    /// Environment of the launcher.
    pub environment: BTreeMap<String, String>,
    /// Command on the host before each start; the start goes on if it fails (`ExecStartPre=-`, systemd.service(5));
    /// empty: none.
    pub start_pre: Vec<String>,
    /// Command on the host after each start, part of it (`ExecStartPost=`, systemd.service(5)); empty: none.
    pub start_post: Vec<String>,
    /// Command on the host before the main process is told to stop (`ExecStop=`); empty: none.
    pub stop: Vec<String>,
}

impl ServiceExec {
    /// The launcher and directories of an ordinary node, no credentials and no environment.
    #[must_use]
    pub fn new(digest: impl Into<String>) -> Self {
        Self {
            node_run: NODE_RUN.into(),
            digest: digest.into(),
            state_root: STATE_ROOT.into(),
            run_root: RUN_ROOT.into(),
            credentials: Vec::new(),
            environment: BTreeMap::new(),
            start_pre: Vec::new(),
            start_post: Vec::new(),
            stop: Vec::new(),
        }
    }

    fn command(&self, service: &str) -> Result<Value, UnitError> {
        let hex = |c: char| matches!(c, '0'..='9' | 'a'..='f');
        if self.digest.is_empty() || !self.digest.chars().all(hex) {
            return Err(UnitError::Form {
                key: "digest",
                text: self.digest.clone(),
                wanted: "a digest in lower-case hexadecimal digits",
            });
        }
        let mut arguments = vec!["start".to_owned(), format!("--digest={}", self.digest)];
        for (option, path, ordinary) in [
            ("--state-root", &self.state_root, STATE_ROOT),
            ("--run-root", &self.run_root, RUN_ROOT),
        ] {
            if path != Path::new(ordinary) {
                arguments.push(format!("{option}={}", utf8(option, path)?));
            }
        }
        arguments.push(service.to_owned());
        Value::command("node_run", &self.node_run, &arguments)
    }
}

fn utf8<'a>(key: &'static str, path: &'a Path) -> Result<&'a str, UnitError> {
    path.to_str().ok_or_else(|| UnitError::Path {
        key,
        path: path.to_string_lossy().into_owned(),
    })
}

/// A unit file that is ready to be put into a deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenderedUnit {
    /// Its name, which is its file name.
    pub name: UnitName,
    /// Its text. Equal for two deployments if and only if the service is the same in both.
    pub text: String,
}

/// The unit of a service. Fixed here for all services:
///
/// - `Type=notify` with `NotifyAccess=all`: the launcher announces the main process and waits for systemd
///   to have taken it (`BARRIER=1`) before the process may run, so that no exit is lost;
/// - `Delegate=yes`, so that the container may use its own cgroup;
/// - the order after the recovery of an open transaction and before the services' target.
///
/// # Errors
/// [`UnitError`] naming the key of the definition that cannot be written.
pub fn render_service(
    service: &str,
    unit: &ServiceUnit,
    exec: &ServiceExec,
) -> Result<RenderedUnit, UnitError> {
    let name = UnitName::service(service)?;
    check_kinds(unit)?;
    let file = UnitFile::default()
        .with(unit_section(service, unit, exec)?)
        .with(service_section(service, unit, exec)?)
        .with(install_section(unit));
    Ok(RenderedUnit {
        name,
        text: file.text(),
    })
}

fn unit_section(service: &str, unit: &ServiceUnit, exec: &ServiceExec) -> Result<Section, UnitError> {
    let mut section = Section::new("Unit");
    let description = match unit.description.as_str() {
        "" => service,
        text => text,
    };
    section.set("Description", Value::text("description", description)?);
    section.set_names("After", &[known(RECOVER_SERVICE)]);
    section.set("RequiresMountsFor", Value::path("state_root", &exec.state_root)?);
    unit.write_unit(&mut section)?;
    Ok(section)
}

fn service_section(service: &str, unit: &ServiceUnit, exec: &ServiceExec) -> Result<Section, UnitError> {
    let mut section = Section::new("Service");
    section.set("Type", Value::word("notify"));
    section.set("NotifyAccess", Value::word("all"));
    section.set("Delegate", Value::word("yes"));
    // Otherwise the journal would call every service by the name of the launcher.
    section.set("SyslogIdentifier", Value::text("name", service)?);
    for (name, path) in &exec.credentials {
        section.set("LoadCredential", Value::credential("credentials", name, path)?);
    }
    for (name, value) in &exec.environment {
        section.set("Environment", Value::environment("environment", name, value)?);
    }
    if let Some((program, arguments)) = exec.start_pre.split_first() {
        let command = Value::command("start_pre", program.as_ref(), arguments)?;
        section.set("ExecStartPre", command.forgiven());
    }
    section.set("ExecStart", exec.command(service)?);
    for (directive, key, command) in [
        ("ExecStartPost", "start_post", &exec.start_post),
        ("ExecStop", "stop", &exec.stop),
    ] {
        if let Some((program, arguments)) = command.split_first() {
            section.set(directive, Value::command(key, program.as_ref(), arguments)?);
        }
    }
    unit.write_service(&mut section)?;
    Ok(section)
}

fn install_section(unit: &ServiceUnit) -> Section {
    let mut section = Section::new("Install");
    section.set_names("WantedBy", &unit.wanted_by);
    section.set_names("Alias", &unit.aliases);
    section
}

/// The places that take one kind of unit only.
fn check_kinds(unit: &ServiceUnit) -> Result<(), UnitError> {
    let places = [
        (unit.slice.as_slice(), UnitKind::Slice),
        (unit.wanted_by.as_slice(), UnitKind::Target),
        (unit.aliases.as_slice(), UnitKind::Service),
        (unit.sockets.as_slice(), UnitKind::Socket),
    ];
    for (names, kind) in places {
        for name in names {
            name.clone().of_kind(kind)?;
        }
    }
    Ok(())
}

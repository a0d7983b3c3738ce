//! The `[unit]` section of a service definition: what systemd must know about a service.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    name::UnitName,
    unit::{Section, UnitError, Value},
    value::{Memory, SignalName, Span},
};

/// When systemd starts a service again after it ended (`Restart=`, systemd.service(5)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Never.
    No,
    /// After an error, a signal, a timeout or a missed watchdog.
    #[default]
    OnFailure,
    /// Whatever the reason, unless it was stopped on purpose.
    Always,
}

impl Restart {
    fn word(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::OnFailure => "on-failure",
            Self::Always => "always",
        }
    }
}

/// Which processes a stop ends (`KillMode=`, systemd.kill(5)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum KillMode {
    /// The stop signal to the main process, then SIGKILL to all that is left.
    #[default]
    Mixed,
    /// The main process only: for a daemon whose children must outlive it, such as guests.
    Process,
    /// Both signals to all processes of the unit.
    ControlGroup,
}

impl KillMode {
    fn word(self) -> &'static str {
        match self {
            Self::Mixed => "mixed",
            Self::Process => "process",
            Self::ControlGroup => "control-group",
        }
    }
}

/// What a condition looks at (systemd.unit(5), "Conditions and Asserts").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ConditionKind {
    /// The path exists.
    PathExists,
    /// The path is a directory.
    PathIsDirectory,
    /// The path is a mount point.
    PathIsMountPoint,
    /// The directory has something in it.
    DirectoryNotEmpty,
    /// The file has something in it.
    FileNotEmpty,
    /// The kernel command line has this word or assignment.
    KernelCommandLine,
    /// The machine is virtual, of this kind, or `yes`.
    Virtualization,
}

impl ConditionKind {
    fn directive(self) -> &'static str {
        match self {
            Self::PathExists => "ConditionPathExists",
            Self::PathIsDirectory => "ConditionPathIsDirectory",
            Self::PathIsMountPoint => "ConditionPathIsMountPoint",
            Self::DirectoryNotEmpty => "ConditionDirectoryNotEmpty",
            Self::FileNotEmpty => "ConditionFileNotEmpty",
            Self::KernelCommandLine => "ConditionKernelCommandLine",
            Self::Virtualization => "ConditionVirtualization",
        }
    }

    fn value(self, value: &str) -> Result<Value, UnitError> {
        const KEY: &str = "conditions.value";
        match self {
            Self::PathExists
            | Self::PathIsDirectory
            | Self::PathIsMountPoint
            | Self::DirectoryNotEmpty
            | Self::FileNotEmpty => Value::literal_path(KEY, value.as_ref()),
            Self::KernelCommandLine | Self::Virtualization => {
                // These marks in front would change what the condition means; `negate` says it openly.
                if value.trim_start().starts_with(['!', '|']) {
                    return Err(UnitError::Form {
                        key: KEY,
                        text: value.to_owned(),
                        wanted: "a value without a mark in front",
                    });
                }
                Value::text(KEY, value)
            }
        }
    }
}

/// A condition: where it does not hold, the service is not started, and that is no error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// What it looks at.
    pub kind: ConditionKind,
    /// The path or word.
    pub value: String,
    /// True if the opposite must hold.
    #[serde(default)]
    pub negate: bool,
}

/// The `[unit]` section of a service definition. Everything that is not here is the same for all services.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServiceUnit {
    /// One line for people.
    pub description: String,
    /// Units that must be up, or have failed, before this one starts.
    pub after: Vec<UnitName>,
    /// Units that wait for this one.
    pub before: Vec<UnitName>,
    /// True if it starts while the system is still being set up, because the host's network is configured on top of it.
    /// Such a service waits for file systems, kernel modules and temporary files, and for `after`; for nothing else.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub early: bool,
    /// Units without which this one does not start; stopping one of them stops this one.
    pub requires: Vec<UnitName>,
    /// Units that are started with this one; their failure does not matter.
    pub wants: Vec<UnitName>,
    /// As `requires`, and this one also stops when one of them vanishes.
    pub binds_to: Vec<UnitName>,
    /// Units whose stop and restart this one follows.
    pub part_of: Vec<UnitName>,
    /// Units that cannot run together with this one.
    pub conflicts: Vec<UnitName>,
    /// Targets that start this service. Empty: it starts only on demand.
    pub wanted_by: Vec<UnitName>,
    /// Other names of the unit.
    pub aliases: Vec<UnitName>,
    /// Socket units whose sockets the service takes over.
    pub sockets: Vec<UnitName>,
    /// When it is started again.
    pub restart: Restart,
    /// Pause before it is started again.
    pub restart_sec: Span,
    /// Window in which starts are counted.
    pub start_limit_interval_sec: Span,
    /// Starts in the window after which systemd gives up.
    pub start_limit_burst: u32,
    /// How long it may take to become ready.
    pub timeout_start_sec: Span,
    /// How long it may take to stop before it is killed.
    pub timeout_stop_sec: Span,
    /// Which processes a stop ends.
    pub kill_mode: KillMode,
    /// The signal of a stop, if not SIGTERM.
    pub kill_signal: Option<SignalName>,
    /// How often the service promises to report through sd_notify(3).
    pub watchdog_sec: Option<Span>,
    /// The slice it runs in, if not system.slice.
    pub slice: Option<UnitName>,
    /// Most threads and processes.
    pub tasks_max: Option<u64>,
    /// Memory that is protected from reclaim.
    pub memory_low: Option<Memory>,
    /// Memory above which the service is slowed down.
    pub memory_high: Option<Memory>,
    /// Memory above which the kernel kills.
    pub memory_max: Option<Memory>,
    /// Share of the CPU against other units, 1 to 10000; systemd's default is 100.
    pub cpu_weight: Option<u64>,
    /// Share of the disk against other units, 1 to 10000; systemd's default is 100.
    pub io_weight: Option<u64>,
    /// Where they do not hold, the service is not started.
    pub conditions: Vec<Condition>,
    /// Command on the host after each stop: program and arguments.
    pub exec_stop_post: Vec<String>,
}

impl Default for ServiceUnit {
    fn default() -> Self {
        Self {
            description: String::new(),
            after: Vec::new(),
            before: Vec::new(),
            early: false,
            requires: Vec::new(),
            wants: Vec::new(),
            binds_to: Vec::new(),
            part_of: Vec::new(),
            conflicts: Vec::new(),
            wanted_by: vec![crate::render::multi_user()],
            aliases: Vec::new(),
            sockets: Vec::new(),
            restart: Restart::OnFailure,
            restart_sec: Span::from_secs(1),
            start_limit_interval_sec: Span::from_secs(60),
            start_limit_burst: 5,
            timeout_start_sec: Span::from_secs(90),
            timeout_stop_sec: Span::from_secs(90),
            kill_mode: KillMode::Mixed,
            kill_signal: None,
            watchdog_sec: None,
            slice: None,
            tasks_max: None,
            memory_low: None,
            memory_high: None,
            memory_max: None,
            cpu_weight: None,
            io_weight: None,
            conditions: Vec::new(),
            exec_stop_post: Vec::new(),
        }
    }
}

impl ServiceUnit {
    /// Writes the part of `[Unit]` that the definition decides.
    pub(crate) fn write_unit(&self, section: &mut Section) -> Result<(), UnitError> {
        if self.early {
            write_early(section);
        }
        section.set_names("After", &self.after);
        section.set_names("Before", &self.before);
        section.set_names("Requires", &self.requires);
        section.set_names("Wants", &self.wants);
        section.set_names("BindsTo", &self.binds_to);
        section.set_names("PartOf", &self.part_of);
        section.set_names("Conflicts", &self.conflicts);
        for condition in &self.conditions {
            let value = condition.kind.value(&condition.value)?;
            let value = if condition.negate {
                value.marked("!")
            } else {
                value
            };
            section.set(condition.kind.directive(), value);
        }
        section.set(
            "StartLimitIntervalSec",
            Value::span(self.start_limit_interval_sec),
        );
        section.set("StartLimitBurst", Value::number(self.start_limit_burst.into()));
        Ok(())
    }

    /// Writes the part of `[Service]` that the definition decides.
    pub(crate) fn write_service(&self, section: &mut Section) -> Result<(), UnitError> {
        section.set("Restart", Value::word(self.restart.word()));
        section.set("RestartSec", Value::span(self.restart_sec));
        section.set("TimeoutStartSec", Value::span(self.timeout_start_sec));
        section.set("TimeoutStopSec", Value::span(self.timeout_stop_sec));
        section.set("KillMode", Value::word(self.kill_mode.word()));
        section.set_some("KillSignal", self.kill_signal.map(Value::signal));
        section.set_some("WatchdogSec", self.watchdog_sec.map(Value::span));
        section.set_names("Slice", self.slice.as_slice());
        if !self.sockets.is_empty() {
            section.set("Sockets", Value::sockets(&self.sockets));
        }
        self.write_limits(section)?;
        if let Some((program, arguments)) = self.exec_stop_post.split_first() {
            let command = Value::command("exec_stop_post", program.as_ref(), arguments)?;
            section.set("ExecStopPost", command);
        }
        Ok(())
    }

    fn write_limits(&self, section: &mut Section) -> Result<(), UnitError> {
        section.set_some("TasksMax", self.tasks_max.map(Value::number));
        section.set_some("MemoryLow", self.memory_low.map(Value::memory));
        section.set_some("MemoryHigh", self.memory_high.map(Value::memory));
        section.set_some("MemoryMax", self.memory_max.map(Value::memory));
        section.set_some("CPUWeight", weight("cpu_weight", self.cpu_weight)?);
        section.set_some("IOWeight", weight("io_weight", self.io_weight)?);
        Ok(())
    }
}

/// What is left of systemd's default dependencies (systemd.service(5)) for a service that the network waits for.
/// With all of them it would wait for `sysinit.target`, which some units reach only with the network: cloud-init.
fn write_early(section: &mut Section) {
    let known = |names: &[&'static str]| {
        names
            .iter()
            .map(|name| crate::render::known(name))
            .collect::<Vec<_>>()
    };
    section.set("DefaultDependencies", Value::word("no"));
    section.set_names("Conflicts", &known(&["shutdown.target"]));
    section.set_names("Before", &known(&["shutdown.target"]));
    let set_up = [
        "local-fs.target",
        "systemd-modules-load.service",
        "systemd-sysctl.service",
        "systemd-tmpfiles-setup.service",
    ];
    section.set_names("After", &known(&set_up));
}

/// A cgroup weight (systemd.resource-control(5)): 1 to 10000.
fn weight(key: &'static str, weight: Option<u64>) -> Result<Option<Value>, UnitError> {
    match weight {
        None => Ok(None),
        Some(weight @ 1..=10_000) => Ok(Some(Value::number(weight))),
        Some(weight) => Err(UnitError::Form {
            key,
            text: weight.to_string(),
            wanted: "a weight from 1 to 10000",
        }),
    }
}

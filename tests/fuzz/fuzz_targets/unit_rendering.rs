//! Values of a service definition as a unit file: systemd has to find exactly the directives that were meant, with
//! exactly these values, whatever the values are. See [`super::unit_syntax`] for how it reads them.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;

use node_systemd::service::{Condition, ConditionKind};
use node_systemd::value::Memory;
use node_systemd::{ServiceExec, ServiceUnit, UnitName, render_service};

use super::fields::{fields, tagged};
use super::unit_syntax::{Directive, parse};

struct Input {
    service: String,
    unit: ServiceUnit,
    exec: ServiceExec,
}

pub fn run(data: &[u8]) {
    let Some(fields) = fields(data) else { return };
    let Some(input) = input(&fields) else { return };
    let text = serde_json::to_string(&input.unit).expect("a unit is JSON");
    let back: ServiceUnit = serde_json::from_str(&text).expect("what was written reads back");
    assert_eq!(back, input.unit, "it reads back as something else");
    let Ok(rendered) = render_service(&input.service, &input.unit, &input.exec) else {
        return;
    };
    assert_eq!(rendered.name.as_str(), format!("{}.service", input.service));
    let mut found = parse(&rendered.text);
    let mut meant = meant(&input);
    // Order is of no account between directives, and counts for those of the same name, which a stable sort keeps.
    let key = |directive: &Directive| (directive.section.clone(), directive.name.clone());
    found.sort_by_key(key);
    meant.sort_by_key(key);
    assert_eq!(found, meant, "{}", rendered.text);
}

fn input(fields: &[&str]) -> Option<Input> {
    let mut input = Input {
        service: "s".to_owned(),
        unit: ServiceUnit::default(),
        exec: ServiceExec::new("00ff"),
    };
    for field in fields {
        let (tag, text) = tagged(field)?;
        set(&mut input, tag, text)?;
    }
    Some(input)
}

fn set(input: &mut Input, tag: char, text: &str) -> Option<()> {
    let Input { service, unit, exec } = input;
    let name = || UnitName::parse(text).ok();
    match tag {
        'N' => *service = text.to_owned(),
        'D' => unit.description = text.to_owned(),
        'a' => unit.after.push(name()?),
        'b' => unit.before.push(name()?),
        'R' => unit.requires.push(name()?),
        'W' => unit.wants.push(name()?),
        'B' => unit.binds_to.push(name()?),
        'p' => unit.part_of.push(name()?),
        'c' => unit.conflicts.push(name()?),
        'w' => unit.wanted_by.push(name()?),
        'l' => unit.aliases.push(name()?),
        's' => unit.sockets.push(name()?),
        'S' => unit.slice = Some(name()?),
        'e' => unit.early = !unit.early,
        'C' => unit.conditions.push(condition(text)?),
        'k' => unit.kill_signal = Some(text.parse().ok()?),
        't' => unit.timeout_stop_sec = text.parse().ok()?,
        'T' => unit.watchdog_sec = Some(text.parse().ok()?),
        'M' => unit.memory_max = Some(text.parse().ok()?),
        'i' => unit.cpu_weight = Some(text.parse().ok()?),
        'x' => unit.exec_stop_post.push(text.to_owned()),
        'P' => exec.start_post.push(text.to_owned()),
        'Q' => exec.stop.push(text.to_owned()),
        'r' => exec.state_root = text.into(),
        'u' => exec.run_root = text.into(),
        'n' => exec.node_run = text.into(),
        'd' => exec.digest = text.to_owned(),
        'E' => {
            let (name, value) = text.split_once('=')?;
            exec.environment.insert(name.to_owned(), value.to_owned());
        }
        'L' => {
            let (name, path) = text.split_once(':')?;
            exec.credentials.push((name.to_owned(), path.into()));
        }
        _ => return None,
    }
    Some(())
}

const CONDITIONS: [(ConditionKind, &str); 7] = [
    (ConditionKind::PathExists, "ConditionPathExists"),
    (ConditionKind::PathIsDirectory, "ConditionPathIsDirectory"),
    (ConditionKind::PathIsMountPoint, "ConditionPathIsMountPoint"),
    (ConditionKind::DirectoryNotEmpty, "ConditionDirectoryNotEmpty"),
    (ConditionKind::FileNotEmpty, "ConditionFileNotEmpty"),
    (ConditionKind::KernelCommandLine, "ConditionKernelCommandLine"),
    (ConditionKind::Virtualization, "ConditionVirtualization"),
];

/// A digit for the kind, `!` or `+`, and the value.
fn condition(text: &str) -> Option<Condition> {
    let (kind, rest) = tagged(text)?;
    let (mark, value) = tagged(rest)?;
    let (kind, _) = CONDITIONS.get(kind.to_digit(10)? as usize)?;
    Some(Condition {
        kind: *kind,
        value: value.to_owned(),
        negate: mark == '!',
    })
}

/// The directives that an author means by these values.
fn meant(Input { service, unit, exec }: &Input) -> Vec<Directive> {
    let mut all = Meant(Vec::new());
    let description = if unit.description.is_empty() {
        service
    } else {
        &unit.description
    };
    all.one("Unit", "Description", description.trim());
    all.words("Unit", "After", ["nodectl-recover.service"]);
    all.words("Unit", "RequiresMountsFor", [exec.state_root.display()]);
    if unit.early {
        all.one("Unit", "DefaultDependencies", "no");
        all.words("Unit", "Conflicts", ["shutdown.target"]);
        all.words("Unit", "Before", ["shutdown.target"]);
        let set_up = ["local-fs.target", "systemd-modules-load.service"];
        let more = ["systemd-sysctl.service", "systemd-tmpfiles-setup.service"];
        all.words("Unit", "After", set_up.into_iter().chain(more));
    }
    all.words("Unit", "After", &unit.after);
    all.words("Unit", "Before", &unit.before);
    all.words("Unit", "Requires", &unit.requires);
    all.words("Unit", "Wants", &unit.wants);
    all.words("Unit", "BindsTo", &unit.binds_to);
    all.words("Unit", "PartOf", &unit.part_of);
    all.words("Unit", "Conflicts", &unit.conflicts);
    for condition in &unit.conditions {
        let (_, name) = CONDITIONS
            .iter()
            .find(|(kind, _)| *kind == condition.kind)
            .expect("a known kind");
        let value = match condition.kind {
            ConditionKind::KernelCommandLine | ConditionKind::Virtualization => condition.value.trim(),
            _ => condition.value.as_str(),
        };
        all.words("Unit", name, [if condition.negate { "!" } else { "" }, value]);
    }
    all.one(
        "Unit",
        "StartLimitIntervalSec",
        span(unit.start_limit_interval_sec.duration()),
    );
    all.one("Unit", "StartLimitBurst", unit.start_limit_burst);
    service_section(&mut all, service, unit, exec);
    all.words("Install", "WantedBy", &unit.wanted_by);
    all.words("Install", "Alias", &unit.aliases);
    all.0
}

fn service_section(all: &mut Meant, service: &str, unit: &ServiceUnit, exec: &ServiceExec) {
    for (name, value) in [("Type", "notify"), ("NotifyAccess", "all"), ("Delegate", "yes")] {
        all.one("Service", name, value);
    }
    all.one("Service", "SyslogIdentifier", service);
    for (name, path) in &exec.credentials {
        all.words(
            "Service",
            "LoadCredential",
            [name.clone(), path.display().to_string()],
        );
    }
    let environment: &BTreeMap<String, String> = &exec.environment;
    for (name, value) in environment {
        all.words("Service", "Environment", [format!("{name}={value}")]);
    }
    let mut start = vec![
        exec.node_run.display().to_string(),
        "start".to_owned(),
        format!("--digest={}", exec.digest),
    ];
    for (option, path, usual) in [
        ("--state-root", &exec.state_root, "/var/lib/nodectl"),
        ("--run-root", &exec.run_root, "/run/nodectl"),
    ] {
        let path = path.display().to_string();
        if path != usual {
            start.push(format!("{option}={path}"));
        }
    }
    start.push(service.to_owned());
    all.words("Service", "ExecStart", start);
    all.words("Service", "ExecStartPost", &exec.start_post);
    all.words("Service", "ExecStop", &exec.stop);
    all.words("Service", "ExecStopPost", &unit.exec_stop_post);
    all.one("Service", "Restart", "on-failure");
    all.one("Service", "RestartSec", span(unit.restart_sec.duration()));
    all.one(
        "Service",
        "TimeoutStartSec",
        span(unit.timeout_start_sec.duration()),
    );
    all.one(
        "Service",
        "TimeoutStopSec",
        span(unit.timeout_stop_sec.duration()),
    );
    all.one("Service", "KillMode", "mixed");
    all.some("Service", "KillSignal", unit.kill_signal);
    all.some(
        "Service",
        "WatchdogSec",
        unit.watchdog_sec.map(|time| span(time.duration())),
    );
    all.words("Service", "Slice", unit.slice.as_slice());
    all.words("Service", "Sockets", &unit.sockets);
    all.some("Service", "MemoryMax", unit.memory_max.map(memory));
    all.some("Service", "CPUWeight", unit.cpu_weight);
}

fn span(time: Duration) -> String {
    match time.subsec_millis() {
        0 => format!("{}s", time.as_secs()),
        _ => format!("{}ms", time.as_millis()),
    }
}

fn memory(memory: Memory) -> String {
    match memory {
        Memory::Bytes(bytes) => bytes.to_string(),
        Memory::Percent(part) => format!("{part}%"),
        Memory::Infinity => "infinity".to_owned(),
    }
}

struct Meant(Vec<Directive>);

impl Meant {
    /// Nothing where there are no words.
    fn words<T: Display>(&mut self, section: &str, name: &str, words: impl IntoIterator<Item = T>) {
        let words: Vec<String> = words.into_iter().map(|word| word.to_string()).collect();
        if !words.is_empty() {
            self.0.push(Directive {
                section: section.to_owned(),
                name: name.to_owned(),
                words,
            });
        }
    }

    fn one(&mut self, section: &str, name: &str, value: impl Display) {
        self.words(section, name, [value]);
    }

    fn some(&mut self, section: &str, name: &str, value: Option<impl Display>) {
        self.words(section, name, value);
    }
}

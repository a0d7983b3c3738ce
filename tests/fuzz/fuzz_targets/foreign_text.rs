//! Texts of other programs: headers of a registry, what the tools of Open vSwitch print, libvirt's record of a guest, the
//! command line of a QEMU.
//!
//! Fields: a letter and a text.

use node_agent::dataplane::{Bridge, Saved, script, text};
use node_agent::guests::{Place, Record, place, read_command_line};
use node_images::registry::{
    Challenge, RegistryConfig, RetryPolicy, Verdict, may_have_credentials, retry_after,
};

use super::fields::{fields, tagged};

const REGISTRIES: [&str; 4] = [
    "registry.example.com",
    "registry.example.com:5000",
    "q.example",
    "127.0.0.1:5000",
];

pub fn run(data: &[u8]) {
    let Some(fields) = fields(data) else { return };
    let mut bridges = Vec::new();
    for field in &fields {
        let Some((tag, text)) = tagged(field) else { return };
        match tag {
            'C' => check_challenge(text),
            'R' => check_retry_after(text),
            'G' => check_record(text),
            'Q' => check_command_line(text),
            'B' => bridges = text::bridges(text).unwrap_or_default(),
            'O' => {
                if text::fill(&mut bridges, text).is_ok() {
                    check_scripts(&bridges);
                }
            }
            _ => return,
        }
    }
}

fn check_challenge(text: &str) {
    let Ok(Challenge::Bearer { realm, .. }) = Challenge::parse([text]) else {
        return;
    };
    let config = RegistryConfig::default();
    for registry in REGISTRIES {
        if may_have_credentials(&config, registry, &realm) {
            let host = realm.host_str().expect("credentials go to a host");
            let own = registry.split(':').next().unwrap_or_default();
            assert!(
                realm.scheme() == "https" || own == "127.0.0.1",
                "{realm} is not encrypted"
            );
            let labels = |name: &str| name.split('.').rev().map(str::to_owned).collect::<Vec<_>>();
            let shared = labels(host)
                .iter()
                .zip(&labels(own))
                .take_while(|(a, b)| a == b)
                .count();
            let address = own.parse::<std::net::IpAddr>().is_ok();
            assert!(
                host == own || (!address && shared >= 2),
                "{realm} gets what {registry} may have"
            );
        }
    }
}

fn check_retry_after(text: &str) {
    let now = jiff::Timestamp::from_second(1_700_000_000).expect("a time");
    if let Some(pause) = retry_after(text, now) {
        let policy = RetryPolicy::default();
        match policy.verdict(0, Some(pause), 0.5) {
            Verdict::Again(length) => assert!(length <= policy.longest_wish && length >= pause),
            Verdict::TooLong(length) => assert!(length == pause && length > policy.longest_wish),
            Verdict::Spent => panic!("there are attempts left"),
        }
    }
}

fn check_record(text: &str) {
    if let Ok(record) = Record::parse(text) {
        assert!(record.needs().iter().all(|path| !path.as_os_str().is_empty()));
        assert_eq!(Record::parse(text).ok(), Some(record));
    }
}

fn check_command_line(text: &str) {
    let line = read_command_line(text.as_bytes());
    for value in [line.name, line.uuid, line.machine].into_iter().flatten() {
        assert!(value.len() <= text.len());
    }
    match place(text) {
        Place::Scope(unit) => assert!(unit.ends_with(".scope") && !unit.contains('/')),
        Place::Service(unit) => assert!(unit.ends_with(".service") && !unit.contains('/')),
        Place::NoUnit(path) => assert!(!path.contains(".service/")),
    }
}

/// What sh(1) is given does with these texts what it is to do with them, and runs nothing else.
fn check_scripts(bridges: &[Bridge]) {
    for command in commands(&script::observe(bridges)) {
        let known = ["set", "dump", "dump()", "printf", "shift", "ovs-ofctl", "}"];
        assert!(known.contains(&command.words[0].as_str()), "{command:?}");
        if command.words[0] == "dump" {
            let index: usize = command.words[1].parse().expect("a number");
            assert_eq!(command.words.last(), Some(&bridges[index].name));
        }
    }
    let saved = Saved {
        bridges: bridges.to_vec(),
        at_ms: 0,
        attempts: 0,
    };
    let script = script::take_over(&saved, 1);
    // What is the same in all of them ends with the function's brace.
    let (_, own) = script.split_once("\n}\npatiently ovs-ofctl").unwrap_or(("", ""));
    let mut fed = Vec::new();
    for command in commands(own).iter().skip(1) {
        let known = [
            "patiently",
            "ovs-ofctl",
            "ovs-vsctl",
            "||",
            "ports_are_there",
            "flows_are_there",
        ];
        assert!(known.contains(&command.words[0].as_str()), "{command:?}");
        fed.extend(command.input.clone());
    }
    let mut meant = Vec::new();
    for bridge in bridges {
        if !bridge.groups.is_empty() {
            meant.push(
                bridge
                    .groups
                    .iter()
                    .map(|group| format!("add_or_mod {group}"))
                    .collect::<Vec<_>>(),
            );
        }
        meant.push(bridge.flows.clone());
    }
    let ports = |bridge: &Bridge| {
        let ports = bridge.ports.iter();
        ports.map(|(port, number)| format!("{number} {port}")).collect()
    };
    meant.extend(bridges.iter().map(ports));
    assert_eq!(fed, meant, "{own}");
}

/// Stands for `<<` outside quotes.
const HERE: &str = "\u{1}\u{1}";

#[derive(Debug)]
struct Command {
    words: Vec<String>,
    /// Lines of its here-document.
    input: Option<Vec<String>>,
}

/// Commands of a script, as far as it uses sh's language: words, quotes, `||`, here-documents.
fn commands(script: &str) -> Vec<Command> {
    let mut found = Vec::new();
    let mut rest = script;
    while !rest.is_empty() {
        let (words, after) = words(rest);
        rest = after;
        let mut input = None;
        if let Some(end) = words.last().and_then(|word| word.strip_prefix(HERE)) {
            let mut lines = Vec::new();
            loop {
                let (line, after) = rest.split_once('\n').expect("a here-document has an end");
                rest = after;
                if line == end {
                    break;
                }
                lines.push(line.to_owned());
            }
            input = Some(lines);
        }
        if !words.is_empty() {
            found.push(Command { words, input });
        }
    }
    found
}

/// The words up to the end of the line, and what is behind it.
fn words(text: &str) -> (Vec<String>, &str) {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            _ if quoted => word.get_or_insert_default().push(c),
            '\\' => word.get_or_insert_default().extend(chars.next().map(|(_, c)| c)),
            '<' => word.get_or_insert_default().push_str(&HERE[..1]),
            ' ' | '\t' => words.extend(word.take()),
            '\n' => {
                words.extend(word);
                return (words, &text[at + 1..]);
            }
            _ => word.get_or_insert_default().push(c),
        }
    }
    assert!(!quoted, "a quote without an end");
    words.extend(word);
    (words, "")
}

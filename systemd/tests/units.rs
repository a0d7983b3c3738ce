//! The text of rendered units: golden files, and that no value of a definition can add a line or a directive.

use std::path::PathBuf;

use node_systemd::{
    RenderedUnit, ServiceExec, ServiceUnit, render_service,
    service::{Condition, ConditionKind},
    unit::UnitError,
};
use proptest::prelude::*;

fn exec() -> ServiceExec {
    ServiceExec::new("0a1b2c3d")
}

fn render(definition: &str, exec: &ServiceExec) -> Result<RenderedUnit, UnitError> {
    let unit: ServiceUnit = toml::from_str(definition).expect("a [unit] section");
    render_service("libvirtd", &unit, exec)
}

#[test]
fn the_smallest_definition() {
    insta::assert_snapshot!(render("", &exec()).expect("renders").text);
}

#[test]
fn everything_a_definition_can_say() {
    let definition = r#"
        description = "libvirt, 100% of it"
        after = ["virtlogd.service", "dbus.service"]
        before = ["nova-compute.service"]
        requires = ["virtlogd.service"]
        wants = ["systemd-machined.service"]
        binds_to = ["dev-kvm.device"]
        part_of = ["compute.target"]
        conflicts = ["qemu-kvm.service"]
        wanted_by = ["multi-user.target", "compute.target"]
        aliases = ["virtqemud.service"]
        sockets = ["libvirtd.socket"]
        restart = "always"
        restart_sec = "500ms"
        start_limit_interval_sec = 30
        start_limit_burst = 3
        timeout_start_sec = "5min"
        timeout_stop_sec = 190
        kill_mode = "process"
        kill_signal = "SIGINT"
        watchdog_sec = 20
        slice = "compute.slice"
        tasks_max = 32768
        memory_low = "10%"
        memory_high = "1G"
        memory_max = "infinity"
        cpu_weight = 200
        io_weight = 300
        exec_stop_post = ["/usr/bin/logger", "libvirt's $HOME ended: 100%\n"]
        [[conditions]]
        kind = "path-exists"
        value = "/dev/kvm"
        [[conditions]]
        kind = "kernel-command-line"
        value = "nokvm"
        negate = true
    "#;
    let mut exec = exec();
    exec.state_root = "/srv/node state".into();
    exec.run_root = "/run/other".into();
    exec.credentials = vec![("password".into(), PathBuf::from("/etc/nodectl/secrets/password"))];
    exec.environment
        .insert("RUST_LOG".into(), "info, \"x\"=%d".into());
    exec.start_pre = vec!["/usr/bin/nodectl".into(), "hold".into()];
    exec.start_post = vec!["/usr/bin/nodectl".into(), "finish".into()];
    exec.stop = vec!["/usr/bin/nodectl".into(), "save".into(), "libvirtd".into()];
    insta::assert_snapshot!(render(definition, &exec).expect("renders").text);
}

#[test]
fn equal_services_have_equal_text_and_another_digest_is_another_text() {
    let text = |digest: &str| {
        let exec = ServiceExec::new(digest);
        render("restart = \"always\"", &exec).expect("renders").text
    };
    assert_eq!(text("aa"), text("aa"));
    assert_ne!(text("aa"), text("ab"));
}

#[test]
fn unknown_keys_and_wrong_values_are_refused_by_name() {
    for (definition, named) in [
        ("descripton = \"x\"", "descripton"),
        ("after = [\"libvirtd\"]", "libvirtd"),
        ("restart = \"sometimes\"", "sometimes"),
        ("timeout_start_sec = \"1d\"", "1d"),
        ("timeout_start_sec = -1", "timeout_start_sec"),
        ("timeout_start_sec = 9223372036854775807", "9223372036854775807"),
        (
            "timeout_start_sec = \"18446744073709551615ms\"",
            "18446744073709551615ms",
        ),
        ("memory_max = \"lots\"", "lots"),
        ("kill_signal = \"SIGNOPE\"", "SIGNOPE"),
        (
            "[[conditions]]\nkind = \"path-exists\"\nvalue = \"/\"\nnot = true",
            "not",
        ),
    ] {
        let error = toml::from_str::<ServiceUnit>(definition).expect_err(definition);
        assert!(error.to_string().contains(named), "{definition}: {error}");
    }
}

#[test]
fn values_that_cannot_stand_in_a_unit_are_refused_by_key() {
    for (definition, key) in [
        ("description = \"a\\nUser=nobody\"", "description"),
        ("description = \"ends in \\\\\"", "description"),
        ("description = \"a\\uFFFFb\"", "description"),
        ("description = \"a\\uFDD0b\"", "description"),
        ("slice = \"compute.service\"", "compute.service"),
        ("wanted_by = [\"a.service\"]", "a.service"),
        ("aliases = [\"a.socket\"]", "a.socket"),
        ("cpu_weight = 0", "cpu_weight"),
        ("exec_stop_post = [\"logger\"]", "exec_stop_post"),
        ("exec_stop_post = [\"/\"]", "exec_stop_post"),
        ("exec_stop_post = [\"/bin/it's\"]", "exec_stop_post"),
        ("exec_stop_post = ['/bin/a\\b']", "exec_stop_post"),
        ("exec_stop_post = ['/bin/\"a\"']", "exec_stop_post"),
        (
            "[[conditions]]\nkind = \"path-exists\"\nvalue = \"relative\"",
            "conditions",
        ),
        (
            "[[conditions]]\nkind = \"virtualization\"\nvalue = \"!vm\"",
            "conditions",
        ),
    ] {
        let error = render(definition, &exec()).expect_err(definition);
        assert!(error.to_string().contains(key), "{definition}: {error}");
    }
    for digest in ["", "AB", "../x", "a b"] {
        assert!(render("", &ServiceExec::new(digest)).is_err(), "{digest:?}");
    }
}

/// What systemd's parser makes of a text: (section, directive, value), comments and continuations as in
/// systemd.syntax(7).
fn parse(text: &str) -> Vec<(String, String, String)> {
    let mut out = Vec::new();
    let mut section = String::new();
    let mut pending = String::new();
    // systemd ends lines at \n, \r and NUL.
    for line in text.split(['\n', '\r', '\0']) {
        let line = format!("{pending}{line}");
        pending.clear();
        if line.trim_start().starts_with(['#', ';']) {
            continue;
        }
        if let Some(start) = line.strip_suffix('\\') {
            pending = format!("{start} ");
            continue;
        }
        let line = line.trim();
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').to_owned();
        } else if let Some((key, value)) = line.split_once('=') {
            out.push((section.clone(), key.to_owned(), value.to_owned()));
        } else {
            assert!(line.is_empty(), "a line that is no assignment: {line:?}");
        }
    }
    out
}

/// The same text with all values taken away: what must not depend on any value.
fn skeleton(text: &str) -> Vec<(String, String)> {
    parse(text)
        .into_iter()
        .map(|(section, key, _)| (section, key))
        .collect()
}

/// A single percent sign would be a specifier.
fn has_specifier(value: &str) -> bool {
    value.replace("%%", "").contains('%')
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_value_adds_a_line_a_directive_or_a_specifier(
        description in hostile(), argument in hostile(), path in hostile(), value in hostile(),
        word in hostile(),
    ) {
        let build = |d: &str, a: &str, p: &str, v: &str, w: &str| {
            let unit = ServiceUnit {
                description: d.to_owned(),
                exec_stop_post: vec!["/bin/true".to_owned(), a.to_owned()],
                conditions: vec![
                    Condition { kind: ConditionKind::PathExists, value: format!("/{p}"), negate: true },
                    Condition { kind: ConditionKind::KernelCommandLine, value: w.to_owned(), negate: false },
                ],
                ..ServiceUnit::default()
            };
            let mut exec = exec();
            exec.state_root = PathBuf::from(format!("/{p}"));
            exec.credentials = vec![("secret".to_owned(), PathBuf::from(format!("/{p}")))];
            exec.environment.insert("NAME".to_owned(), v.to_owned());
            render_service("libvirtd", &unit, &exec)
        };
        let harmless = build("d", "a", "p", "v", "w").expect("renders");
        // Refusing is fine; what is written must be one assignment for one value.
        if let Ok(unit) = build(&description, &argument, &path, &value, &word) {
            prop_assert_eq!(skeleton(&unit.text), skeleton(&harmless.text), "{}", unit.text);
            for (_, key, value) in parse(&unit.text) {
                prop_assert!(!has_specifier(&value), "{key}={value}");
            }
        }
    }

    #[test]
    fn a_harmless_text_is_always_taken(text in "[A-Za-z0-9 .,:;_/=%$'\"-]{0,40}[a-z]") {
        let unit = ServiceUnit { description: text.clone(), ..ServiceUnit::default() };
        let rendered = render_service("x", &unit, &exec()).expect("renders");
        let line = format!("\nDescription={}\n", text.trim().replace('%', "%%"));
        prop_assert!(rendered.text.contains(&line), "{}", rendered.text);
    }
}

/// Texts made of what matters to systemd's parser.
fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("\n"),
        Just("\r"),
        Just("\\"),
        Just("\\\n"),
        Just("\0"),
        Just("%n"),
        Just("%"),
        Just("\""),
        Just("'"),
        Just("#"),
        Just(";"),
        Just("[Service]"),
        Just("User=root"),
        Just("\nExecStart=/bin/sh"),
        Just(" "),
        Just("$HOME"),
        Just("\u{2028}"),
        Just("\u{85}"),
        Just("a"),
        Just("/"),
        Just("-"),
        Just("\t"),
    ];
    proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

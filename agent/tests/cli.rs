//! The command line from outside: help, bad usage, exit statuses, JSON, generated files.

use std::path::Path;
use std::process::Output;

use assert_cmd::Command;

/// nodectl on an empty node of its own: nothing on this machine is read or written.
fn nodectl(root: &Path) -> Command {
    let mut command = Command::cargo_bin("nodectl").unwrap();
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .arg("--state-root")
        .arg(root.join("var/lib/nodectl"))
        .arg("--config-root")
        .arg(root.join("etc/nodectl"))
        .arg("--run-root")
        .arg(root.join("run/nodectl"));
    command
}

fn run(arguments: &[&str]) -> Output {
    let root = tempfile::tempdir().unwrap();
    nodectl(root.path()).args(arguments).output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("not killed")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Every command path of the tree, for example `release sign`.
fn paths(command: &clap::Command, prefix: &[String]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
        let mut path = prefix.to_vec();
        path.push(verb.get_name().to_owned());
        found.extend(paths(verb, &path));
        found.push(path);
    }
    found
}

#[test]
fn every_command_explains_itself_within_a_terminal() {
    for path in paths(&node_agent::cli::command(), &[]) {
        let mut arguments: Vec<&str> = path.iter().map(String::as_str).collect();
        arguments.push("--help");
        let output = run(&arguments);
        let help = text(&output.stdout);
        assert_eq!(code(&output), 0, "{path:?}");
        assert!(help.contains("Usage: nodectl"), "{path:?}: {help}");
        for line in help.lines() {
            assert!(line.chars().count() <= 100, "{path:?}: {line}");
        }
    }
}

#[test]
fn a_wrong_command_line_is_64_and_says_what_is_wrong() {
    let table: [(&[&str], &str); 12] = [
        (&["upgrad"], "upgrad"),
        (&["upgrade", "a", "b"], "unexpected argument 'b'"),
        (&["upgrade", "--check", "--force"], "--check"),
        (&["upgrade", "--plan", "--download-only"], "--plan"),
        (&["rollback", "x"], "deployment number"),
        (&["rollback", "0"], "deployment number"),
        (&["set"], "NAME=VALUE"),
        (&["set", "x"], "expected NAME=VALUE"),
        (&["exec", "nova-compute"], "CMD"),
        (&["exec", "nova-compute", "ls"], "--"),
        (&["logs", "../etc"], "not a service name"),
        (&["restart"], "SERVICE"),
    ];
    for (arguments, expected) in table {
        let output = run(arguments);
        let message = text(&output.stderr);
        assert_eq!(code(&output), 64, "{arguments:?}: {message}");
        assert!(message.contains(expected), "{arguments:?}: {message}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn nothing_asked_is_64_with_help() {
    let output = run(&[]);
    assert_eq!(code(&output), 64);
    let root = Command::cargo_bin("nodectl").unwrap().output().unwrap();
    assert_eq!(code(&root), 64);
    assert!(text(&root.stderr).contains("upgrade"));
}

#[test]
fn the_version_is_the_package_version() {
    let output = run(&["--version"]);
    assert_eq!(code(&output), 0);
    assert_eq!(
        text(&output.stdout),
        format!("nodectl {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn a_bad_reference_is_64_with_a_hint_and_json_says_it_in_one_document() {
    let output = run(&["--json", "image", "inspect", "libvirt"]);
    assert_eq!(code(&output), 64);
    let failed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(failed["error"]["code"], 64);
    assert!(failed["error"]["hint"].is_string());
    let message = text(&output.stderr);
    assert!(
        message.starts_with("nodectl: bad reference: `libvirt` names no registry"),
        "{message}"
    );
    assert!(message.contains("\nhint: "), "{message}");
}

#[test]
fn a_registry_that_is_not_there_is_69() {
    // Port 1 of loopback: nobody listens there.
    let output = run(&["release", "inspect", "127.0.0.1:1/compute-release:1"]);
    assert_eq!(code(&output), 69, "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("127.0.0.1:1"));
}

#[test]
fn an_unknown_configuration_key_is_78_and_named_with_its_file() {
    let root = tempfile::tempdir().unwrap();
    let etc = root.path().join("etc/nodectl");
    std::fs::create_dir_all(&etc).unwrap();
    std::fs::write(etc.join("node.toml"), "relase = 1\n").unwrap();
    let output = nodectl(root.path())
        .args(["release", "inspect", "127.0.0.1:1/x:1"])
        .output()
        .unwrap();
    let message = text(&output.stderr);
    assert_eq!(code(&output), 78, "{message}");
    assert!(
        message.contains("relase") && message.contains("node.toml"),
        "{message}"
    );
}

#[test]
fn events_without_noded_are_69() {
    let output = run(&["events"]);
    assert_eq!(code(&output), 69);
}

#[test]
fn a_closed_pipe_is_no_error() {
    let mut help = std::process::Command::new(assert_cmd::cargo::cargo_bin("nodectl"))
        .args(["generate", "--help"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(help.stdout.take());
    let status = help.wait().unwrap();
    assert!(status.code().is_some(), "no signal, no panic: {status}");
    assert_ne!(status.code(), Some(101));
}

#[test]
fn man_pages_and_completions_come_from_the_command_tree() {
    let target = tempfile::tempdir().unwrap();
    let (man, completions) = (target.path().join("man"), target.path().join("completions"));
    let output = run(&[
        "generate",
        "--man",
        man.to_str().unwrap(),
        "--completions",
        completions.to_str().unwrap(),
    ]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let command = node_agent::cli::command();
    let shown = |verb: &str| command.find_subcommand(verb).is_some_and(|v| !v.is_hide_set());
    for path in paths(&command, &[]).iter().filter(|path| shown(&path[0])) {
        let page = man.join(format!("nodectl-{}.1", path.join("-")));
        let page =
            std::fs::read_to_string(&page).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
        assert!(page.contains(".SH NAME"), "{path:?}");
    }
    let main = std::fs::read_to_string(man.join("nodectl.1")).unwrap();
    assert!(
        main.contains("upgrade") && main.contains("rolled back"),
        "verbs and exit statuses"
    );
    for name in ["nodectl.bash", "_nodectl", "nodectl.fish"] {
        let script = std::fs::read_to_string(completions.join(name)).unwrap();
        assert!(
            script.contains("upgrade") && script.contains("download-only"),
            "{name}"
        );
    }
}

//! The rules that keep the layout readable, checked instead of remembered.

use std::fs;
use std::path::{Path, PathBuf};

/// Leaf crates: they know nothing of each other, nor of the agent that composes them.
const LEAVES: [&str; 3] = ["images", "runtime", "systemd"];

const CRATES: [&str; 5] = ["agent", "images", "runtime", "systemd", "tests"];

/// One thing per file. Integration tests read like lists and may be longer.
const FILE_LINES: usize = 400;

const FUNCTION_LINES: usize = 60;

#[test]
fn leaf_crates_know_nothing_of_each_other() {
    for leaf in LEAVES {
        let manifest = fs::read_to_string(root().join(leaf).join("Cargo.toml")).unwrap();
        let package = format!("node-{leaf}");
        for line in manifest.lines() {
            let Some((key, _)) = line.split_once(['.', ' ', '=']) else {
                continue;
            };
            // A crate may depend on itself in tests, to switch a feature on.
            assert!(
                !key.starts_with("node-") || key == package,
                "{leaf}/Cargo.toml: {line}"
            );
        }
    }
}

#[test]
fn unsafe_code_is_in_one_file_of_a_crate_and_in_the_inventory() {
    let inventory = std::fs::read_to_string(root().join("docs/security.md")).expect("docs/security.md");
    for (path, text) in all_code() {
        let allowed = path.ends_with("src/sys.rs");
        let used = allows_unsafe(&text);
        assert!(allowed || !used, "{} allows unsafe code", path.display());
        let listed = inventory.contains(&format!("| `{}` |", path.display()));
        assert!(
            listed || !used,
            "docs/security.md says nothing of {}",
            path.display()
        );
    }
}

#[test]
fn every_way_to_allow_unsafe_code_is_seen() {
    for (text, expected) in [
        ("#![allow(unsafe_code)]", true),
        ("#[expect(unsafe_code, reason = \"x\")]", true),
        ("#[allow(\n    dead_code,\n    unsafe_code\n)]", true),
        ("#[cfg_attr(test, warn(unsafe_code))]", true),
        ("#[allow(dead_code)]\nfn f(unsafe_code: u8) {}", false),
        ("#![deny(unsafe_code)]\n#![forbid(unsafe_code)]", false),
    ] {
        assert_eq!(allows_unsafe(text), expected, "{text}");
    }
}

/// Whether a level is set that lets unsafe code pass.
fn allows_unsafe(text: &str) -> bool {
    ["allow(", "expect(", "warn("].iter().any(|level| {
        text.split(level).skip(1).any(|rest| {
            let lints = rest.split(')').next().unwrap_or_default();
            lints.split([',', ' ', '\n']).any(|lint| lint == "unsafe_code")
        })
    })
}

#[test]
fn files_hold_one_thing() {
    let long: Vec<String> = sources()
        .filter(|(_, text)| text.lines().count() > FILE_LINES)
        .map(|(path, text)| format!("{}: {} lines", path.display(), text.lines().count()))
        .collect();
    assert!(
        long.is_empty(),
        "longer than {FILE_LINES} lines:\n{}",
        long.join("\n")
    );
}

#[test]
fn functions_fit_a_screen() {
    let mut long = Vec::new();
    for (path, text) in sources() {
        for (line, name, length) in functions(&text) {
            if length > FUNCTION_LINES {
                long.push(format!("{}:{line}: {name} has {length} lines", path.display()));
            }
        }
    }
    assert!(
        long.is_empty(),
        "longer than {FUNCTION_LINES} lines:\n{}",
        long.join("\n")
    );
}

#[test]
fn function_lengths_are_seen() {
    let text =
        "impl A {\n    pub async fn one(\n        x: u8,\n    ) -> u8 {\n        x\n    }\n}\nfn two() {}\n";
    assert_eq!(
        functions(text),
        [(2, "one".to_owned(), 5), (8, "two".to_owned(), 1)]
    );
}

/// Line, name and length of each function, in text as rustfmt leaves it: a body ends at the first line with a closing
/// brace at the function's own depth.
fn functions(text: &str) -> Vec<(usize, String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let Some(name) = name_of_function(code) else {
            continue;
        };
        let closing = format!("{}}}", &line[..line.len() - code.len()]);
        // A declaration without a body whose parameters take several lines ends with its own parenthesis.
        let declared = format!("{})", &line[..line.len() - code.len()]);
        let ends = |line: &str| line == closing || (line.starts_with(&declared) && line.ends_with(';'));
        let length = if code.ends_with('}') || code.ends_with(';') {
            1
        } else {
            1 + lines[index..].iter().position(|line| ends(line)).unwrap_or(0)
        };
        found.push((index + 1, name, length));
    }
    found
}

fn name_of_function(code: &str) -> Option<String> {
    let (before, after) = code.split_once("fn ")?;
    let modifiers = [
        "pub",
        "pub(crate)",
        "pub(super)",
        "const",
        "async",
        "unsafe",
        "extern",
        "\"C\"",
    ];
    if !before
        .split_whitespace()
        .all(|word| modifiers.contains(&word) || word.starts_with("pub(in"))
    {
        return None;
    }
    let name: String = after
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect();
    (!name.is_empty()).then_some(name)
}

/// All sources of all crates, except tests: tables are long and easy to read.
fn sources() -> impl Iterator<Item = (PathBuf, String)> {
    CRATES.iter().flat_map(|name| {
        let mut files = Vec::new();
        collect(&root().join(name).join("src"), &mut files);
        files.into_iter().map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            (path.strip_prefix(root()).unwrap().to_owned(), text)
        })
    })
}

/// Everything that is compiled: sources, tests, benches and fuzz targets.
fn all_code() -> impl Iterator<Item = (PathBuf, String)> {
    // This file says in tables what it looks for.
    let own = Path::new("tests/tests/architecture.rs");
    let mut files = Vec::new();
    for name in CRATES.iter().copied().chain(["fuzz"]) {
        walk(&root().join(name), &mut files);
    }
    files.into_iter().filter_map(move |path| {
        let text = fs::read_to_string(&path).unwrap();
        let path = path.strip_prefix(root()).unwrap().to_owned();
        (path != own).then_some((path, text))
    })
}

/// All sources below a directory, if there is one, except what was built there.
fn walk(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            walk(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("tests") {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

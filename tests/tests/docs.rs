//! What the documents say exists: commands, make targets, links, paths, decisions.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;

/// Top-level directories: inline code that begins with one of them is a path of this repository.
const DIRECTORIES: [&str; 7] = [
    "agent/", "docs/", "images/", "runtime/", "systemd/", "tests/", ".ci/",
];

/// A document, taken apart.
struct Document {
    path: PathBuf,
    /// Lines of fenced code blocks, continued ones joined, comments left out.
    fenced: Vec<String>,
    /// Inline code, on one line each.
    inline: Vec<String>,
    /// Targets of links.
    links: Vec<String>,
    headings: Vec<String>,
}

#[test]
fn commands_parse() {
    let mut wrong = Vec::new();
    for document in documents() {
        for line in &document.fenced {
            let words = words(line);
            let command = words
                .iter()
                .map(String::as_str)
                .skip_while(|word| *word == "sudo");
            let command: Vec<&str> = command.collect();
            if command.first() == Some(&"nodectl")
                && let Err(error) = node_agent::cli::command().try_get_matches_from(&command)
                && !matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion)
            {
                wrong.push(format!("{}: {line}\n{error}", document.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn mentioned_verbs_and_options_exist() {
    let mut wrong = Vec::new();
    for document in documents() {
        for code in &document.inline {
            if let Some(arguments) = code.strip_prefix("nodectl ")
                && let Err(problem) = mentioned(arguments)
            {
                wrong.push(format!("{}: `{code}`: {problem}", document.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn make_targets_exist() {
    let targets = make_targets();
    assert!(
        targets.contains("demo") && targets.contains("install"),
        "{targets:?}"
    );
    let mut wrong = Vec::new();
    for document in documents() {
        for code in document.fenced.iter().chain(&document.inline) {
            for target in targets_in(code).filter(|target| !targets.contains(target)) {
                wrong.push(format!("{}: make {target}", document.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn links_and_paths_lead_somewhere() {
    let mut wrong = Vec::new();
    for document in documents() {
        let here = document.path.parent().unwrap();
        for link in &document.links {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() {
                document.path.clone()
            } else {
                here.join(file)
            };
            let found =
                target.exists() && (anchor.is_empty() || read(&target).headings.iter().any(|h| h == anchor));
            if !found {
                wrong.push(format!("{}: {link}", document.path.display()));
            }
        }
        for code in &document.inline {
            let is_path = DIRECTORIES.iter().any(|directory| code.starts_with(directory));
            if is_path && !code.contains(['*', '<', ' ']) && !root().join(code).exists() {
                wrong.push(format!("{}: `{code}`", document.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn decisions_are_numbered_without_gaps() {
    let mut names = names_in(&root().join("docs/adr"));
    names.sort();
    for (index, name) in names.iter().enumerate() {
        let number = index + 1;
        assert!(
            name.starts_with(&format!("{number:04}-")) && name.ends_with(".md"),
            "docs/adr/{name} should have number {number:04}"
        );
        let text = fs::read_to_string(root().join("docs/adr").join(name)).unwrap();
        assert!(
            text.starts_with(&format!("# {number}. ")),
            "docs/adr/{name}: its title has another number"
        );
    }
}

#[test]
fn documents_are_taken_apart() {
    let text = "# A `b` title: c\n[x](y.md#z) `make\ndemo`\n```sh\nnodectl set a=\"b c\" \\\n    d=e  # why\n\
                make lint && sudo make install\n```\n`nodectl gc --dry-run`, [w](https://example.org)\n";
    let document = take_apart(Path::new("x.md"), text);
    assert_eq!(
        document.fenced,
        ["nodectl set a=\"b c\" d=e", "make lint && sudo make install"]
    );
    assert_eq!(document.inline, ["b", "make demo", "nodectl gc --dry-run"]);
    assert_eq!(document.links, ["y.md#z"]);
    assert_eq!(document.headings, ["a-b-title-c"]);
    assert_eq!(words(&document.fenced[0]), ["nodectl", "set", "a=b c", "d=e"]);
    let targets: Vec<_> = targets_in(&document.fenced[1]).collect();
    assert_eq!(targets, ["lint", "install"]);
    assert!(mentioned("release build --output=x").is_ok());
    for wrong in ["upgrad", "gc --dryrun", "release biuld"] {
        assert!(mentioned(wrong).is_err(), "{wrong}");
    }
}

/// The README files and everything under docs.
fn documents() -> Vec<Document> {
    let mut paths = vec![root().join("README.md"), root().join("tests/README.md")];
    for directory in [root().join("docs"), root().join("docs/adr")] {
        let names = names_in(&directory).into_iter();
        paths.extend(
            names
                .filter(|name| name.ends_with(".md"))
                .map(|name| directory.join(name)),
        );
    }
    assert!(paths.len() > 6, "where are the documents? {paths:?}");
    paths.iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> Document {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    take_apart(path, &text)
}

fn take_apart(path: &Path, text: &str) -> Document {
    let mut prose = String::new();
    let mut fenced = vec![String::new()];
    let mut headings = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            inside = !inside;
        } else if inside {
            let code = line.split(" #").next().unwrap_or_default().trim();
            let last = fenced.last_mut().unwrap();
            last.push_str(code.trim_end_matches('\\'));
            if !code.ends_with('\\') {
                fenced.push(String::new());
            }
        } else {
            prose.push_str(line);
            prose.push('\n');
            headings.extend(line.starts_with('#').then(|| anchor(line)));
        }
    }
    fenced.retain(|line| !line.is_empty());
    // Between two backquotes, every second piece is code.
    let pieces = prose.split('`').enumerate();
    let inline = pieces
        .filter(|(index, _)| index % 2 == 1)
        .map(|(_, code)| code.replace('\n', " "))
        .collect();
    let ends = prose.split("](").skip(1);
    let links = ends
        .filter_map(|rest| rest.split_once(')').map(|(link, _)| link.to_owned()))
        .filter(|link| !link.contains("://"))
        .collect();
    Document {
        path: path.to_owned(),
        fenced,
        inline,
        links,
        headings,
    }
}

/// The anchor that a heading gets: lower case, punctuation left out, hyphens for spaces.
fn anchor(heading: &str) -> String {
    let kept = heading
        .trim_start_matches('#')
        .trim()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() })
        .collect()
}

/// The words of a command line, with double quotes taken off.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            c if c.is_whitespace() && !quoted => words.push(String::new()),
            c => words.last_mut().unwrap().push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Checks verbs and options of a command that is mentioned without all its arguments.
fn mentioned(arguments: &str) -> Result<(), String> {
    let mut command = node_agent::cli::command();
    command.build();
    let mut at = &command;
    for word in arguments.split_whitespace().take_while(|word| *word != "--") {
        if let Some(option) = word.strip_prefix("--") {
            let name = option.split('=').next().unwrap_or_default();
            if !at
                .get_arguments()
                .any(|argument| argument.get_long() == Some(name))
            {
                return Err(format!("no option --{name}"));
            }
        } else if let Some(verb) = at.find_subcommand(word) {
            at = verb;
        } else if at.has_subcommands() {
            return Err(format!("no verb {word}"));
        }
    }
    Ok(())
}

fn targets_in(code: &str) -> impl Iterator<Item = String> {
    let mut targets = Vec::new();
    for command in code.split("&&") {
        let mut words = command.split_whitespace().skip_while(|word| *word == "sudo");
        if words.next() == Some("make") {
            let plain = |word: &&str| word.chars().all(|c| c.is_ascii_lowercase() || c == '-');
            targets.extend(words.take_while(plain).map(str::to_owned));
        }
    }
    targets.into_iter()
}

fn make_targets() -> BTreeSet<String> {
    let files = ["Makefile", "systemd/dist/install.mk"];
    let text: String = files
        .map(|file| fs::read_to_string(root().join(file)).unwrap())
        .concat();
    let rules = text.lines().filter_map(|line| line.split_once(':'));
    rules
        .filter(|(name, rest)| !rest.starts_with('=') && !name.contains(|c: char| c.is_whitespace()))
        .map(|(name, _)| name.to_owned())
        .collect()
}

fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

//! The table of capabilities in the documentation is that of the definitions.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use node_agent::definition::Definition;
use node_runtime::spec::seccomp::Seccomp;
use node_tests::privileges::HELD_BY;

#[test]
fn documented_capabilities_are_those_of_the_definitions() {
    let page = fs::read_to_string(root().join("docs/capabilities.md")).unwrap();
    let told: BTreeSet<&str> = page.lines().filter(|line| line.starts_with("| ")).collect();
    let mut expected: BTreeSet<String> =
        ["| service | Kolla-Ansible | here | runs as | filter | held to it by |".to_owned()].into();
    expected.insert("| service | capability | why |".to_owned());
    let mut missing = Vec::new();
    for definition in definitions() {
        let begin = format!("| {} | ", definition.name);
        let end = format!(" | {} |", overview(&definition));
        match told
            .iter()
            .find(|line| line.starts_with(&begin) && line.ends_with(&end))
        {
            Some(line) => drop(expected.insert((*line).to_owned())),
            None => missing.push(format!("{begin}…{end}")),
        }
        for (capability, why) in &definition.container.capabilities {
            expected.insert(format!("| {} | `{capability}` | {why} |", definition.name));
        }
    }
    let lines = expected
        .iter()
        .filter(|line| !told.contains(line.as_str()))
        .cloned();
    missing.extend(lines);
    let stale: Vec<_> = told.iter().filter(|line| !expected.contains(**line)).collect();
    assert!(
        missing.is_empty() && stale.is_empty(),
        "docs/capabilities.md lacks\n{}\nand should not have\n{stale:#?}",
        missing.join("\n")
    );
}

/// The table in docs/security.md: which filter is loaded for which services, and none goes without.
#[test]
fn every_service_has_the_documented_filter() {
    let mut filters: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for definition in definitions() {
        let file = match &definition.container.seccomp {
            Seccomp::Default => "runtime/src/seccomp/default.json".to_owned(),
            Seccomp::Profile { name, .. } => format!("images/seccomp/{name}.json"),
            Seccomp::Unconfined { .. } => panic!("{} is unconfined", definition.name),
        };
        assert!(root().join(&file).exists(), "{file}");
        filters.entry(file).or_default().insert(definition.name);
    }
    let page = fs::read_to_string(root().join("docs/security.md")).unwrap();
    let told: BTreeSet<&str> = page
        .lines()
        .filter(|line| line.starts_with("| `") && line.contains("seccomp/"))
        .collect();
    let expected: BTreeSet<String> = filters
        .into_iter()
        .map(|(file, services)| {
            let services: Vec<String> = services.into_iter().collect();
            format!("| `{file}` | {} |", services.join(", "))
        })
        .collect();
    let expected: BTreeSet<&str> = expected.iter().map(String::as_str).collect();
    assert_eq!(told, expected, "docs/security.md, and the definitions");
}

#[test]
fn every_service_is_held_to_its_definition() {
    let held: BTreeSet<&str> = HELD_BY
        .iter()
        .flat_map(|(_, services)| *services)
        .copied()
        .collect();
    let definitions = definitions();
    let defined: BTreeSet<&str> = definitions.iter().map(|d| d.name.as_str()).collect();
    assert_eq!(held, defined, "services that node tests run, and those there are");
    for (test, _) in HELD_BY {
        let file = root().join(format!("tests/tests/{test}.rs"));
        assert!(file.exists(), "{} is not there", file.display());
    }
}

/// What the first table says about a service, after what Kolla gives it; the last column is which tests run it.
fn overview(definition: &Definition) -> String {
    let container = &definition.container;
    let count = match container.capabilities.len() {
        0 => "none".to_owned(),
        count => count.to_string(),
    };
    let user = container.process.user.as_deref().unwrap_or("root");
    let user = user.split(':').next().unwrap_or_default();
    let frozen = if container.process.no_new_privileges {
        ", no new privileges"
    } else {
        ""
    };
    let filter = match &container.seccomp {
        Seccomp::Default => "default",
        Seccomp::Profile { .. } => "profile",
        Seccomp::Unconfined { .. } => "unconfined",
    };
    let tests: Vec<&str> = HELD_BY
        .iter()
        .filter(|(_, services)| services.contains(&definition.name.as_str()))
        .map(|(test, _)| *test)
        .collect();
    format!("{count} | {user}{frozen} | {filter} | {}", tests.join(", "))
}

fn definitions() -> Vec<Definition> {
    let files = fs::read_dir(root().join("images/services")).unwrap();
    let load = |entry: std::io::Result<fs::DirEntry>| Definition::load(&entry.unwrap().path()).unwrap();
    let definitions: Vec<_> = files.map(load).collect();
    assert!(definitions.len() > 10, "where are the services?");
    definitions
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

//! Release documents and service definitions: what is accepted holds together, can be written and read again, and names
//! nothing that would be another place on the disk.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use node_agent::config::Settings;
use node_agent::definition::{Definition, Probe};
use node_agent::parameters;
use node_agent::release::{ReleaseDocument, Wanted, locate, select};
use node_images::reference::Reference;

use super::oci_configuration::check_path;

pub fn run(data: &[u8]) {
    if let Ok(document) = ReleaseDocument::parse(data) {
        check(&document);
    }
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(definition) = Definition::parse(text, Path::new("x.toml")) {
        check_definition(&definition);
        let json = serde_json::to_vec(&definition).expect("a definition is JSON");
        let back: Definition = serde_json::from_slice(&json).expect("what was written reads back");
        assert_eq!(back, definition);
        back.check().expect("it was checked before");
    }
}

fn check(document: &ReleaseDocument) {
    let bytes = document.to_bytes().expect("a release is JSON");
    let back = ReleaseDocument::parse(&bytes).expect("what was written reads back");
    assert_eq!(&back, document);
    assert_eq!(back.to_bytes().expect("JSON"), bytes, "not the same bytes");
    for (name, definition) in &document.services {
        assert_eq!(*name, definition.name);
        assert!(document.images.contains_key(&definition.image));
        check_definition(definition);
        for parameter in definition.parameters() {
            assert!(document.parameters.contains_key(parameter));
        }
    }
    let settings = Settings::from(node_agent::config::Fragment::default());
    assert!(settings.probation(&document.probation).tries > 0);
    let wanted = Wanted {
        choices: &BTreeMap::new(),
        services: None,
    };
    let chosen =
        select(document.services.keys(), &document.choices, wanted).expect("the defaults fit together");
    assert!(chosen.iter().all(|name| document.services.contains_key(name)));
    let all: BTreeSet<&str> = document.parameters.keys().map(String::as_str).collect();
    match parameters::resolve(&document.parameters, &BTreeMap::new(), &all) {
        Ok(values) => {
            for (name, value) in values {
                assert!(document.parameters[&name].kind.accepts(&value));
            }
        }
        Err(errors) => assert!(
            errors
                .iter()
                .all(|e| matches!(e, parameters::ParameterError::Missing { .. }))
        ),
    }
    let beside: Reference = "r.example/a/release:1".parse().expect("a reference");
    for image in document.images.values() {
        if let Ok(place) = locate::image(&beside, &image.repository, &image.digest) {
            let place = place.expect("a release of a registry has its images in one");
            assert!(place.repository().is_some(), "{:?} is {place}", image.repository);
            assert_eq!(
                place.digest(),
                Some(image.digest),
                "{:?} is {place}",
                image.repository
            );
        }
    }
}

fn check_definition(definition: &Definition) {
    check_name(&definition.name);
    check_name(&definition.image);
    for secret in definition.secrets() {
        check_name(secret);
    }
    let files = definition.files.iter().map(|file| &file.target);
    let secret_files = definition.secret_files.iter().map(|file| &file.target);
    for target in files
        .chain(secret_files)
        .chain(definition.state.iter().map(|state| &state.path))
    {
        check_path(target.to_str().expect("it came from a text"));
        assert_ne!(target, Path::new("/"));
    }
    for gate in &definition.gates {
        assert!(
            gate.attempts > 0 && !gate.timeout.is_zero() && !gate.interval.is_zero() && !gate.when.is_empty()
        );
        if let Probe::Exec { command } | Probe::NovaHeartbeat { command } = &gate.probe {
            assert!(command[0].starts_with('/'));
        }
    }
}

/// It becomes part of paths, unit names and command lines.
fn check_name(name: &str) {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    assert!(
        name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(plain) && name.len() <= 128
    );
}

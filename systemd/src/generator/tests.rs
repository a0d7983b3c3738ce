//! What is emitted, as a table over what is found.

use super::*;

fn source(name: &str, install: &str) -> UnitSource {
    UnitSource {
        name: UnitName::parse(name).expect("a unit name"),
        text: format!("[Service]\nExecStart=/bin/{name}\n[Install]\n{install}\n"),
    }
}

fn found(current: Vec<UnitSource>) -> Inputs {
    Inputs {
        current: Some(current),
        ..Inputs::default()
    }
}

/// The plan as lines: a file as its name, a link as `name -> target`.
fn lines(inputs: &Inputs) -> Vec<String> {
    plan(inputs)
        .entries
        .iter()
        .map(|(name, emit)| match emit {
            Emit::File(_) => name.clone(),
            Emit::Link(to) => format!("{name} -> {to}"),
        })
        .collect()
}

#[test]
fn a_unit_is_copied_and_linked_to_its_targets() {
    assert_eq!(
        lines(&found(vec![
            source("a.service", "WantedBy=multi-user.target\nAlias=b.service"),
            source("c.service", "WantedBy=early.target"),
            source("d.service", ""),
        ])),
        [
            "a.service",
            "b.service -> a.service",
            "c.service",
            "d.service",
            "early.target.wants/c.service -> ../c.service",
            "multi-user.target.wants/a.service -> ../a.service",
            "multi-user.target.wants/nodectl-services.target -> \
             /usr/lib/systemd/system/nodectl-services.target",
            "nodectl-services.target.wants/a.service -> ../a.service",
            "nodectl-services.target.wants/c.service -> ../c.service",
        ]
    );
}

#[test]
fn no_deployment_waits_for_its_mount() {
    assert_eq!(
        lines(&Inputs::default()),
        ["multi-user.target.wants/nodectl-late-mount.service -> \
          /usr/lib/systemd/system/nodectl-late-mount.service"]
    );
}

#[test]
fn a_deployment_without_services_emits_nothing() {
    assert!(lines(&found(vec![])).is_empty());
}

#[test]
fn disabled_emits_nothing_at_all() {
    let inputs = Inputs {
        disabled: true,
        retired: vec![source("old.service", "")],
        transaction_open: true,
        ..found(vec![source("a.service", "WantedBy=multi-user.target")])
    };
    assert!(lines(&inputs).is_empty());
}

#[test]
fn a_retired_unit_is_there_but_starts_nothing_and_current_wins() {
    let current = source("a.service", "");
    let inputs = Inputs {
        retired: vec![
            source("a.service", "WantedBy=old.target"),
            source("gone.service", "WantedBy=multi-user.target\nAlias=x.service"),
        ],
        ..found(vec![current.clone()])
    };
    let plan = plan(&inputs);
    assert_eq!(plan.entries.get("a.service"), Some(&Emit::File(current.text)));
    let names: Vec<_> = plan.entries.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "a.service",
            "gone.service",
            "multi-user.target.wants/nodectl-services.target"
        ]
    );
}

#[test]
fn an_open_transaction_pulls_recovery_into_every_target_that_starts_services() {
    let inputs = Inputs {
        transaction_open: true,
        ..found(vec![source("c.service", "WantedBy=early.target")])
    };
    let recover: Vec<_> = lines(&inputs)
        .into_iter()
        .filter(|line| line.contains(RECOVER_SERVICE))
        .map(|line| line.split('/').next().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(
        recover,
        [
            "early.target.wants",
            "multi-user.target.wants",
            "nodectl-services.target.wants"
        ]
    );
    // Also where the deployment itself cannot be read: recovery is what can repair it.
    let damaged = Inputs {
        transaction_open: true,
        ..Inputs::default()
    };
    assert!(
        lines(&damaged)
            .iter()
            .any(|line| line.starts_with("multi-user.target.wants/nodectl-recover"))
    );
}

#[test]
fn an_alias_never_replaces_a_unit() {
    let units = vec![
        source("a.service", "Alias=b.service a.service"),
        source("b.service", ""),
    ];
    let plan = plan(&found(units));
    assert!(matches!(plan.entries.get("b.service"), Some(Emit::File(_))));
    assert_eq!(plan.messages.len(), 1, "{:?}", plan.messages);
}

#[test]
fn the_target_of_guests_comes_with_the_service_that_shuts_them_down() {
    let mut libvirtd = source("libvirtd.service", "");
    assert!(!lines(&found(vec![libvirtd.clone()])).contains(&GUESTS_TARGET.to_owned()));
    libvirtd.text = format!("[Unit]\nWants={GUESTS_SERVICE}\n");
    assert!(lines(&found(vec![libvirtd.clone()])).contains(&GUESTS_TARGET.to_owned()));
    let retired = Inputs {
        retired: vec![libvirtd],
        ..found(vec![])
    };
    assert!(lines(&retired).contains(&GUESTS_TARGET.to_owned()));
}

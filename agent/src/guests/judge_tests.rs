//! Every danger, one by one.

use super::*;

fn guest(place: Place, registration: Registration) -> Guest {
    let mut process = process(142, "g1", "u1");
    process.place = place;
    Guest {
        process,
        registration,
        record: Some(record(142, "g1", "u1")),
        missing: Vec::new(),
    }
}

fn process(pid: u32, name: &str, uuid: &str) -> Process {
    Process {
        pid,
        name: Some(name.into()),
        uuid: Some(uuid.into()),
        machine: None,
        of_libvirt: true,
        place: scope(),
    }
}

fn record(pid: u32, name: &str, uuid: &str) -> Record {
    Record {
        name: name.into(),
        uuid: uuid.into(),
        pid,
        monitor: "/l/monitor.sock".into(),
        library: "/l".into(),
        job: None,
        block_jobs: Vec::new(),
    }
}

fn scope() -> Place {
    Place::Scope("machine-qemu.scope".into())
}

fn service(name: &str) -> Place {
    Place::Service(name.into())
}

fn facts(guests: Vec<Guest>) -> Facts {
    Facts {
        unit: DaemonUnit {
            name: "libvirtd.service".into(),
            kill_mode: "process".into(),
        },
        controllers: true,
        guests,
        unreadable: Vec::new(),
    }
}

/// `None`: it may be stopped. Else a part of what is said.
fn says(facts: &Facts) -> Option<String> {
    may_stop(facts).err()
}

#[test]
fn where_a_guest_is_decides_with_what_machined_and_the_kernel_offer() {
    use Registration::{Known, Unknown};
    let mute = || Registration::NoAnswer("no such name".into());
    let nowhere = || Place::NoUnit("/machine/qemu-1-g1.libvirt-qemu".into());
    let table: [(Place, Registration, bool, Option<&str>); 14] = [
        (scope(), Known, true, None),
        (scope(), Unknown, true, Some("knows no machine for its scope")),
        (scope(), mute(), true, Some("no such name")),
        (nowhere(), Known, true, Some("not in a machine scope")),
        (nowhere(), Unknown, true, Some("not in a machine scope")),
        (nowhere(), mute(), true, Some("no such name")),
        (
            service("libvirtd.service"),
            Known,
            true,
            Some("only KillMode=process"),
        ),
        (
            service("libvirtd.service"),
            Unknown,
            true,
            Some("only KillMode=process"),
        ),
        (service("a.service"), Known, true, Some("cgroup of a.service")),
        // Without controllers libvirt registers nothing and looks at nothing.
        (scope(), Unknown, false, None),
        (nowhere(), mute(), false, None),
        (service("libvirtd.service"), Unknown, false, None),
        (service("libvirtd.service"), mute(), false, None),
        (service("a.service"), Unknown, false, Some("cgroup of a.service")),
    ];
    for (place, registration, controllers, expected) in table {
        let mut facts = facts(vec![guest(place.clone(), registration.clone())]);
        facts.controllers = controllers;
        let said = says(&facts);
        let fits = match (&said, expected) {
            (None, None) => true,
            (Some(said), Some(part)) => said.contains(part) && said.starts_with("guest g1 (pid 142): "),
            (None, Some(_)) | (Some(_), None) => false,
        };
        assert!(
            fits,
            "{place:?}, {registration:?}, controllers {controllers}: {said:?}"
        );
    }
}

#[test]
fn a_unit_that_kills_what_is_in_its_cgroup_is_never_stopped_over_a_guest() {
    for kill_mode in ["control-group", "mixed", ""] {
        for controllers in [true, false] {
            for of_libvirt in [true, false] {
                let mut guest = guest(service("libvirtd.service"), Registration::Unknown);
                guest.process.of_libvirt = of_libvirt;
                let mut facts = facts(vec![guest]);
                facts.controllers = controllers;
                facts.unit.kill_mode = kill_mode.into();
                let said = says(&facts).unwrap();
                assert!(said.contains(&format!("(KillMode={kill_mode})")), "{said}");
            }
        }
    }
    // Guests in scopes are out of its reach.
    let mut facts = facts(vec![guest(scope(), Registration::Known)]);
    facts.unit.kill_mode = "control-group".into();
    assert_eq!(says(&facts), None);
}

#[test]
fn what_libvirt_needs_to_find_a_guest_again_has_to_be_there() {
    let mut lost = guest(scope(), Registration::Known);
    lost.record = None;
    assert!(says(&facts(vec![lost])).unwrap().contains("no record of it"));
    let mut keyless = guest(scope(), Registration::Known);
    keyless.missing = vec!["/l/master-key.aes".into()];
    assert!(
        says(&facts(vec![keyless]))
            .unwrap()
            .contains("/l/master-key.aes is missing")
    );
    let mut unread = facts(vec![guest(scope(), Registration::Known)]);
    unread.unreadable = vec!["/run/libvirt/qemu/g1.xml: it is not XML".into()];
    assert!(says(&unread).unwrap().contains("g1.xml"));
}

#[test]
fn what_libvirt_is_busy_with_is_named() {
    let mut moving = guest(scope(), Registration::Known);
    moving.record.as_mut().unwrap().job = Some("migration out".into());
    let mut copying = guest(scope(), Registration::Known);
    copying.record.as_mut().unwrap().block_jobs = vec!["copy of vda".into()];
    let said = says(&facts(vec![moving, copying])).unwrap();
    assert_eq!(
        said,
        "guest g1 (pid 142): libvirt is busy with it: migration out; \
         guest g1 (pid 142): a block job is running: copy of vda"
    );
}

#[test]
fn processes_that_libvirt_does_not_care_for_object_only_where_they_would_be_killed() {
    let mut stranger = guest(service("a.service"), Registration::Unknown);
    stranger.process.of_libvirt = false;
    stranger.record = None;
    assert_eq!(says(&facts(vec![stranger])), None);
    assert_eq!(says(&facts(vec![])), None);
}

#[test]
fn a_hundred_objections_are_told_in_one_line() {
    let lost = || guest(service("a.service"), Registration::Known);
    let said = says(&facts(vec![lost(); 100])).unwrap();
    assert_eq!(said.matches("pid 142").count(), TOLD);
    assert!(said.ends_with("; and 95 more"), "{said}");
}

#[test]
fn the_daemon_the_process_table_and_the_records_have_to_agree() {
    let listed = |uuids: &[&str]| uuids.iter().map(|u| (*u).to_owned()).collect::<BTreeSet<_>>();
    let (a, b) = (process(1, "a", "ua"), process(2, "b", "ub"));
    let (ra, rb) = (record(1, "a", "ua"), record(2, "b", "ub"));
    let both = [a.clone(), b.clone()];
    let records = [ra.clone(), rb.clone()];
    assert_eq!(agree(&listed(&["ua", "ub"]), &both, &records), Ok(()));
    assert_eq!(agree(&listed(&[]), &[], &[]), Ok(()));

    let lost = agree(&listed(&["ua"]), &both, &records).unwrap_err();
    assert!(
        lost.contains("guest b (pid 2)") && lost.contains("does not know it"),
        "{lost}"
    );
    let dead = agree(&listed(&["ua", "ub"]), &both[..1], &records).unwrap_err();
    assert_eq!(dead, "guest b: libvirt says that it runs, and it does not");
    let dead = agree(&listed(&["ua", "ub"]), &both[..1], &records[..1]).unwrap_err();
    assert!(dead.contains("guest ub"), "{dead}");
    let unrecorded = agree(&listed(&["ua", "ub"]), &both, &records[..1]).unwrap_err();
    assert!(unrecorded.contains("no record"), "{unrecorded}");
    let taken = agree(&listed(&["ua"]), &both[..1], &[record(9, "a", "ua")]).unwrap_err();
    assert!(taken.contains("takes process 9 for it"), "{taken}");

    let mut stranger = process(7, "s", "us");
    stranger.of_libvirt = false;
    assert_eq!(agree(&listed(&["ua"]), &[a, stranger], &[ra]), Ok(()));
}

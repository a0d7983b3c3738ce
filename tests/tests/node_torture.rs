//! A slice of `make torture`: power cuts at random instants and at each boundary, and proof that the simulator sees.

use std::process::{Command, Output};

use node_tests::stage::stage;

/// One after the other: they share the registry's network.
#[test]
fn power_cuts_lose_nothing() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "this test mounts file systems: run it as root"
    );
    for fs in ["ext4", "xfs"] {
        clean(12, &["cuts", "--count", "12", "--seed", "7", "--fs", fs]);
        clean(10, &["boundaries", "--reached", "forced", "--fs", fs]);
    }
    clean(8, &["boundaries", "--reached", "names", "--every", "25"]);
    clean(5, &["kills", "--every", "40"]);
    // On a disk that is full a rollback has to work, too.
    clean(
        5,
        &[
            "faults",
            "--fault",
            "full",
            "--fs",
            "xfs",
            "--every",
            "60",
            "--step",
            "upgrade:2",
            "--step",
            "rollback",
        ],
    );
    for fault in ["no-space", "quota", "broken", "read-only", "shutdown"] {
        clean(3, &["faults", "--fault", fault, "--every", "90"]);
    }
    // Around what an upgrade needs, some sizes too small and eight that are enough.
    clean(10, &["sizes", "--from", "2048", "--by", "768"]);
    clean(15, &["damage", "--every", "20"]);
    // A simulator that does not see what is missing proves nothing.
    violated(&["cuts", "--count", "8", "--lie", "syncfs"]);
    violated(&["boundaries", "--reached", "forced", "--without", "file-sync"]);
}

/// It saw no violation, in so many tries at least.
fn clean(least: u64, arguments: &[&str]) {
    let output = torture(arguments);
    let said = said(&output);
    assert!(
        output.status.success() && said.contains(" 0 violations"),
        "torture {}: {said}",
        arguments.join(" ")
    );
    let tried = String::from_utf8_lossy(&output.stdout)
        .lines()
        .rev()
        .find(|line| line.contains(" 0 violations"))
        .and_then(|line| line.split(' ').next()?.parse::<u64>().ok());
    assert!(
        tried >= Some(least),
        "torture {} tried only {tried:?} of {least}: {said}",
        arguments.join(" ")
    );
}

fn violated(arguments: &[&str]) {
    let output = torture(arguments);
    let said = said(&output);
    assert!(
        output.status.code() == Some(1) && said.contains("VIOLATION"),
        "torture {} saw nothing: {said}",
        arguments.join(" ")
    );
}

fn torture(arguments: &[&str]) -> Output {
    let mut torture = Command::new(env!("CARGO_BIN_EXE_torture"));
    torture.args(arguments).arg("--stage").arg(stage());
    torture.output().expect("torture can be run")
}

fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

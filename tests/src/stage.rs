//! What the tests on booted machines begin with.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::node::Kind;
use crate::story::Story;
use crate::{hypervisor, paths, teardown};

/// Where `make stage` has put the programs: `$NODECTL_STAGE`, or target/stage.
pub fn stage() -> PathBuf {
    std::env::var_os("NODECTL_STAGE").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/stage"),
        PathBuf::from,
    )
}

/// How often or how long, from an environment variable.
///
/// # Panics
/// It is set, and no number.
pub fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} is {text:?}, which is no number"))
    })
}

/// Begins a test that boots machines, in surroundings of its own: what an earlier run left there is removed. The
/// staged programs.
///
/// # Panics
/// Without root or staged programs, and if something can't be removed.
pub fn begin(instance: &str) -> PathBuf {
    assert!(
        nix::unistd::geteuid().is_root(),
        "this test boots machines: run it as root"
    );
    let stage = stage();
    assert!(
        stage.join("usr/bin/nodectl").exists(),
        "{} has no usr/bin/nodectl: run `make stage` first",
        stage.display()
    );
    // Those in QEMU stay apart, so that both kinds can run side by side.
    match hypervisor::kind() {
        Kind::Vm => paths::choose_instance(&format!("{instance}-vm")),
        _ => paths::choose_instance(instance),
    }
    teardown::everything().expect("what an earlier run left can be removed");
    stage
}

/// Plays a story as a test, from [`begin`] to the removal of all it made. What a failed one leaves stays to be looked at
/// only where `$NODECTL_KEEP` is set.
///
/// # Panics
/// The story fails, it can't begin, or something can't be removed.
pub fn play(instance: &str, title: &str, tell: impl FnOnce(&mut Story, &Path) -> Result<()>) {
    let stage = begin(instance);
    let mut story = Story::begin(title);
    let told = tell(&mut story, &stage);
    story.end();
    if told.is_ok() || std::env::var_os("NODECTL_KEEP").is_none() {
        teardown::everything().expect("everything can be removed");
    }
    told.unwrap_or_else(|error| panic!("{error:#}"));
}

//! The Debian package: what it holds and asks for, and that building it twice gives the same bytes.

mod common;

use std::{fs, path::Path, process::Command};

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect(program);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {stderr}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn build(into: &Path) -> String {
    let programs = into.join("programs");
    common::programs(&programs);
    let script = common::repository().join("systemd/dist/debian-package/build.sh");
    let output = Command::new(script)
        .args([&programs, into])
        .env("SOURCE_DATE_EPOCH", "1700000000")
        .env_remove("MAKEFLAGS")
        .output()
        .expect("run build.sh");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let package = fs::read_dir(into)
        .expect("a directory")
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"));
    package.expect("a package").display().to_string()
}

#[test]
fn the_package_is_whole_and_reproducible() {
    let (one, two) = (
        tempfile::tempdir().expect("a directory"),
        tempfile::tempdir().expect("a directory"),
    );
    let package = build(one.path());
    let same = fs::read(&package).expect("read") == fs::read(build(two.path())).expect("read");
    assert!(same, "built twice, two results");
    let field = |name: &str| output("dpkg-deb", &["-f", &package, name]).trim().to_owned();
    assert_eq!(field("Version"), env!("CARGO_PKG_VERSION"));
    assert!(field("Depends").contains("libc6"), "{}", field("Depends"));
    assert!(
        field("Depends").contains("systemd (>= 252), dbus"),
        "{}",
        field("Depends")
    );
    let unpacked = one.path().join("unpacked");
    output("dpkg-deb", &["-R", &package, unpacked.to_str().expect("a path")]);
    for script in ["postinst", "prerm", "postrm"] {
        output(
            "sh",
            &[
                "-n",
                unpacked.join("DEBIAN").join(script).to_str().expect("a path"),
            ],
        );
    }
    let stage = tempfile::tempdir().expect("a directory");
    common::install(stage.path());
    let packed = common::tree(&unpacked);
    for file in common::tree(stage.path()) {
        let file = if file.contains("/man1/") {
            format!("{file}.gz")
        } else {
            file
        };
        assert!(
            packed.contains(&file),
            "{file} is installed and not in the package"
        );
    }
}

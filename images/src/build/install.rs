//! Installs packages into a root file system with mmdebstrap; the result is a tar file.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::accounts::Lines;
use super::apt::{self, Apt};
use super::definition::Definition;
use super::dpkg::Deb;
use super::error::BuildError;
use super::process;
use crate::digest::Digest;

const SETUP: &str = include_str!("hooks/setup.sh");
const PREPARE: &str = include_str!("hooks/prepare.sh");
const INSTALL: &str = include_str!("hooks/install.sh");
const FACTS: &str = include_str!("hooks/facts.sh");

/// What to install, and on what.
pub struct Installation<'i> {
    /// The definition.
    pub definition: &'i Definition,
    /// Tar of the base's root; `None` starts from nothing.
    pub base: Option<&'i Path>,
    /// The chosen packages, whose files are in the directory of packages.
    pub debs: &'i [Deb],
    /// Accounts to make.
    pub accounts: Lines,
    /// Time stamp of generated files, seconds since 1970.
    pub epoch: u64,
}

/// What came out; both are in the working directory.
pub struct Installed {
    /// The root as mmdebstrap wrote it.
    pub tar: PathBuf,
    /// Directory with the output of programs of the image.
    pub facts: PathBuf,
}

/// Installs in the empty directory `work`, which must be on the file system of the cache.
///
/// # Errors
/// [`BuildError::Program`] with the last lines of mmdebstrap, [`BuildError::Io`] for files here.
pub fn install(
    installation: &Installation<'_>,
    apt: &Apt,
    work: &Path,
    on_line: &mut dyn FnMut(&str),
) -> Result<Installed, BuildError> {
    // Alone first: where it is missing, the error says so.
    let mut version = Command::new("mmdebstrap");
    process::run(
        version.arg("--version"),
        "mmdebstrap",
        "telling its version",
        on_line,
    )?;
    write_inputs(installation, apt, work, on_line)?;
    let installed = Installed {
        tar: work.join("root.tar"),
        facts: work.join("facts"),
    };
    let roots = work.join("roots");
    make(&installed.facts)?;
    make(&roots)?;
    let mut command = contained();
    command
        .arg("mmdebstrap")
        .current_dir(work)
        .env("TMPDIR", &roots)
        .env("SOURCE_DATE_EPOCH", installation.epoch.to_string())
        .env("PYTHONHASHSEED", "0")
        .env("LC_ALL", "C.UTF-8")
        .args([
            "--format=tar",
            "--skip=update",
            "--setup-hook=sh ./setup.sh \"$1\"",
        ]);
    match &installation.definition.archive {
        Some(archive) => from_nothing(&mut command, installation.definition, archive, &installed.tar),
        None => onto_base(&mut command, &installed.tar),
    }
    process::run(&mut command, "mmdebstrap", "installing packages", on_line)?;
    Ok(installed)
}

/// A command that ends with this process and takes its mounts with it. As root, mmdebstrap mounts
/// /proc and /sys where everybody sees them; killed, it would leave them in a directory that the next
/// build clears. As another user it makes a mount namespace itself.
fn contained() -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM"]);
    if nix::unistd::geteuid().is_root() {
        command.args(["unshare", "--mount"]);
    }
    command
}

fn from_nothing(
    command: &mut Command,
    definition: &Definition,
    archive: &super::definition::Archive,
    tar: &Path,
) {
    command
        .arg("--variant=minbase")
        .arg(format!("--architectures={}", archive.architecture))
        .arg("--aptopt=Apt::Install-Recommends \"false\"")
        .arg("--essential-hook=sh ./prepare.sh \"$1\"")
        .arg("--customize-hook=sh ./facts.sh \"$1\"");
    if !definition.packages.is_empty() {
        command.arg(format!("--include={}", definition.packages.join(",")));
    }
    command
        .arg(&archive.suite)
        .arg(tar)
        .args(apt::source_lines(archive));
}

fn onto_base(command: &mut Command, tar: &Path) {
    command
        .arg("--variant=custom")
        .arg("--customize-hook=sh ./prepare.sh \"$1\"")
        .arg("--customize-hook=sh ./install.sh \"$1\"")
        .arg("--customize-hook=sh ./facts.sh \"$1\"")
        .arg("")
        .arg(tar);
}

fn write_inputs(
    installation: &Installation<'_>,
    apt: &Apt,
    work: &Path,
    on_line: &mut dyn FnMut(&str),
) -> Result<(), BuildError> {
    for (name, text) in [
        ("setup.sh", SETUP),
        ("prepare.sh", PREPARE),
        ("install.sh", INSTALL),
        ("facts.sh", FACTS),
        ("requests", &requests(installation)),
    ] {
        write(&work.join(name), text)?;
    }
    let accounts = work.join("accounts");
    make(&accounts)?;
    write(&accounts.join("passwd"), &installation.accounts.passwd)?;
    write(&accounts.join("group"), &installation.accounts.group)?;
    write(&accounts.join("shadow"), &installation.accounts.shadow)?;
    write(&accounts.join("gshadow"), &installation.accounts.gshadow)?;
    if let Some(base) = installation.base {
        link(base, &work.join("base.tar"))?;
    }
    let lists = work.join("lists");
    make(&lists)?;
    link_all(&apt.lists(), &lists)?;
    let debs = work.join("debs");
    make(&debs)?;
    for deb in installation.debs {
        link(&apt.debs().join(&deb.file), &debs.join(&deb.file))?;
    }
    write_stand_ins(installation, work, on_line)
}

/// The requested packages in their chosen versions, one a line.
fn requests(installation: &Installation<'_>) -> String {
    let mut text = String::new();
    for name in &installation.definition.packages {
        let chosen = installation.debs.iter().find(|deb| deb.package.name == *name);
        match chosen {
            Some(deb) => text.push_str(&deb.package.to_string()),
            None => text.push_str(name),
        }
        text.push('\n');
    }
    text
}

fn write_stand_ins(
    installation: &Installation<'_>,
    work: &Path,
    on_line: &mut dyn FnMut(&str),
) -> Result<(), BuildError> {
    let target = work.join("stand-ins");
    make(&target)?;
    for (name, stand_in) in &installation.definition.stand_ins {
        let tree = work.join("stand-in").join(name);
        let control = tree.join("DEBIAN");
        fs::create_dir_all(&control).map_err(BuildError::io("make", &control))?;
        write(&control.join("control"), &apt::control(name, stand_in))?;
        let mut command = Command::new("dpkg-deb");
        command
            .env("SOURCE_DATE_EPOCH", installation.epoch.to_string())
            .args(["--root-owner-group", "--build"])
            .arg(&tree)
            .arg(target.join(format!("{name}.deb")));
        process::run(&mut command, "dpkg", "making a stand-in package", on_line)?;
    }
    Ok(())
}

fn link_all(from: &Path, to: &Path) -> Result<(), BuildError> {
    for entry in fs::read_dir(from).map_err(BuildError::io("list", from))? {
        let entry = entry.map_err(BuildError::io("list", from))?;
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if is_file && entry.file_name() != "lock" {
            link(&entry.path(), &to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

fn link(from: &Path, to: &Path) -> Result<(), BuildError> {
    fs::hard_link(from, to).map_err(BuildError::io("link", from))
}

fn make(path: &Path) -> Result<(), BuildError> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(BuildError::io("make", path)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn write(path: &Path, text: &str) -> Result<(), BuildError> {
    fs::write(path, text).map_err(BuildError::io("write", path))
}

/// Digest of the scripts that run inside an installation.
#[must_use]
pub fn hooks_digest() -> Digest {
    Digest::of([SETUP, PREPARE, INSTALL, FACTS].concat().as_bytes())
}

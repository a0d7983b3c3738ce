//! Small initial RAM file systems: busybox, a few kernel modules, one script.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::cache;
use crate::command::{self, command};

/// What is in it.
#[derive(Debug, Clone, Copy)]
pub struct Initramfs<'a> {
    /// Text of `/init`, a script for `/bin/busybox sh`.
    pub init: &'a str,
    /// Names of kernel modules, put into `/modules`.
    pub modules: &'a [&'a str],
    /// A directory with the modules of the kernel, searched.
    pub from: &'a Path,
    /// A static busybox.
    pub busybox: &'a Path,
}

impl Initramfs<'_> {
    /// Writes it, compressed; `scratch` must not exist and is gone afterwards.
    ///
    /// # Errors
    /// A module is missing, or a file cannot be written.
    pub fn pack(&self, scratch: &Path, target: &Path) -> Result<()> {
        for directory in ["bin", "dev", "modules"] {
            fs::create_dir_all(scratch.join(directory)).context("create the tree of the initramfs")?;
        }
        let program = scratch.join("bin/busybox");
        copy(self.busybox, &program)?;
        for name in self.modules {
            let file = format!("{name}.ko");
            copy(&find(self.from, &file)?, &scratch.join("modules").join(file))?;
        }
        let init = scratch.join("init");
        fs::write(&init, self.init).context("write init")?;
        fs::set_permissions(&init, fs::Permissions::from_mode(0o755)).context("make init executable")?;
        let pack =
            "set -e; find . | LC_ALL=C sort | \"$1\" cpio -o -H newc -R 0:0 2>/dev/null | gzip -n -9 >\"$2\"";
        command::output(
            command("sh", ["-c", pack, "pack"])
                .arg(&program)
                .arg(target)
                .current_dir(scratch),
        )?;
        cache::remove(scratch)
    }
}

/// The one file of that name below a directory; the search ends at the first.
///
/// # Errors
/// There is none.
pub fn find(directory: &Path, name: &str) -> Result<PathBuf> {
    let found = command::output(
        Command::new("find")
            .arg(directory)
            .args(["-name", name, "-type", "f", "-print", "-quit"]),
    )?;
    if found.is_empty() {
        bail!("no {name} in {}", directory.display());
    }
    Ok(PathBuf::from(found.trim_end()))
}

/// Copies a file with its mode.
///
/// # Errors
/// It cannot be read, or its copy not written.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to)
        .map(drop)
        .with_context(|| format!("copy {} to {}", from.display(), to.display()))
}

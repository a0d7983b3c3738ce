//! How a new machine's disk is made.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::kernel;
use super::record::{Kind, Platform, Record};
use crate::cache;
use crate::command;
use crate::kernels::Kernels;
use crate::lab;
use crate::progress::Progress;
use crate::roots::Recipe;

/// What a new machine is made of.
#[derive(Debug, Clone)]
pub struct Setup {
    pub(super) platform: Platform,
    pub(super) layers: Vec<PathBuf>,
    pub(super) address: Option<Ipv4Addr>,
    trees: Vec<PathBuf>,
    files: Vec<(String, Vec<u8>)>,
}

impl Setup {
    /// A node in a box, next free address.
    ///
    /// # Errors
    /// The root file system is not cached and cannot be built.
    pub fn node() -> Result<Self> {
        Self::node_on(Kind::Box)
    }

    /// A node, next free address.
    ///
    /// # Errors
    /// The root file system or a kernel is not cached and cannot be built.
    pub fn node_on(kind: Kind) -> Result<Self> {
        let progress = Progress::start();
        let platform = match kind {
            Kind::Box => return Ok(Self::over(vec![Recipe::node().root(&progress)?])),
            Kind::Uml => Platform::Uml,
            Kind::Vm => Platform::Vm,
        };
        let kernels = Kernels::cached(&progress)?;
        Ok(Self {
            platform: platform(kernels.clone()),
            ..Self::over(kernels.layers(&progress)?)
        })
    }

    /// A box over these read-only layers, topmost first.
    pub fn over(layers: Vec<PathBuf>) -> Self {
        Self {
            platform: Platform::Box,
            layers,
            address: None,
            trees: Vec::new(),
            files: Vec::new(),
        }
    }

    /// With a fixed address.
    #[must_use]
    pub fn address(mut self, address: Ipv4Addr) -> Self {
        self.address = Some(address);
        self
    }

    /// With the content of a directory, for example of `make install DESTDIR=`, copied over the root before the boot.
    #[must_use]
    pub fn install(mut self, tree: &Path) -> Self {
        self.trees.push(tree.to_owned());
        self
    }

    /// With a file (mode 0644, path from the root) that is there before the boot.
    #[must_use]
    pub fn file(mut self, path: &str, content: impl Into<Vec<u8>>) -> Self {
        self.files.push((path.to_owned(), content.into()));
        self
    }

    pub(super) fn write_disk(&self, record: &Record) -> Result<()> {
        let disk = record.disk();
        // A host that was rebooted has forgotten its machines, but not their disks.
        cache::remove(&disk)?;
        for directory in ["upper", "work", "root", "state"] {
            let path = disk.join(directory);
            fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
        }
        fs::set_permissions(record.upper(), fs::Permissions::from_mode(0o755))?;
        for tree in &self.trees {
            let mut copy = Command::new("cp");
            copy.args(["-a", "--reflink=auto", "--no-preserve=ownership"])
                .arg(tree.join("."))
                .arg(record.upper());
            command::output(&mut copy).with_context(|| format!("install {}", tree.display()))?;
        }
        let name = &record.name;
        let hosts = format!(
            "127.0.0.1 localhost\n{} registry\n{} ctl\n{} {name}\n",
            lab::LAB,
            lab::CONTROL_PLANE,
            record.address
        );
        let identity = hex::encode(&openssl::sha::sha256(name.as_str().as_bytes())[..16]);
        write(&record.upper(), "etc/hosts", hosts.as_bytes())?;
        write(&record.upper(), "etc/hostname", format!("{name}\n").as_bytes())?;
        write(
            &record.upper(),
            "etc/machine-id",
            format!("{identity}\n").as_bytes(),
        )?;
        self.files
            .iter()
            .try_for_each(|(path, content)| write(&record.upper(), path, content))?;
        match &record.platform {
            Platform::Box => Ok(()),
            Platform::Uml(_) | Platform::Vm(_) => kernel::make(record),
        }
    }
}

fn write(upper: &Path, path: &str, content: &[u8]) -> Result<()> {
    let path = upper.join(path.trim_start_matches('/'));
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
    }
    fs::write(&path, content).with_context(|| format!("write {}", path.display()))
}

//! What is known about a machine, as one JSON file per machine, so that another process can go on with it.

use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::kernels::Kernels;
use crate::{lab, paths};

/// What a machine runs on. One variant per way to boot the same root file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// systemd-nspawn on the host's kernel: boots in seconds.
    Box,
    /// user-mode-linux: a kernel of its own, one CPU.
    Uml,
    /// QEMU: a kernel of its own on its own hardware.
    Vm,
}

/// A kind with what it takes to boot it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind", content = "kernels")]
pub(super) enum Platform {
    Box,
    Uml(Kernels),
    Vm(Kernels),
}

impl Platform {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Box => Kind::Box,
            Self::Uml(_) => Kind::Uml,
            Self::Vm(_) => Kind::Vm,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Box => "box",
            Self::Uml => "uml",
            Self::Vm => "vm",
        })
    }
}

/// The name of a machine: also part of interface names, which hold 15 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// Checks a name: 1 to 12 of a–z, 0–9 and inner hyphens.
    ///
    /// # Errors
    /// The name is something else.
    pub fn parse(text: &str) -> Result<Self> {
        let plain = text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if !plain || text.is_empty() || text.len() > 12 || text.starts_with('-') || text.ends_with('-') {
            bail!("machine name {text:?} is not 1 to 12 of a-z, 0-9 and inner hyphens");
        }
        Ok(Self(text.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::str::FromStr for Name {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Name {
    type Error = anyhow::Error;

    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

/// One machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    pub name: Name,
    pub platform: Platform,
    pub address: Ipv4Addr,
    /// Read-only layers of the root, topmost first.
    pub layers: Vec<PathBuf>,
}

impl Record {
    pub fn load(name: &Name) -> Result<Option<Self>> {
        let path = directory(name).join("machine.json");
        match fs::read(&path) {
            Ok(text) => Ok(Some(
                serde_json::from_slice(&text).with_context(|| format!("read {}", path.display()))?,
            )),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
        }
    }

    pub fn all() -> Result<Vec<Self>> {
        let parent = machines();
        let entries = match fs::read_dir(&parent) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(|| format!("list {}", parent.display())),
        };
        let mut records = Vec::new();
        for entry in entries {
            let name = Name::parse(&entry?.file_name().to_string_lossy())?;
            records.extend(Self::load(&name)?);
        }
        records.sort_by(|one, two| one.name.cmp(&two.name));
        Ok(records)
    }

    pub fn save(&self) -> Result<()> {
        let directory = directory(&self.name);
        fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
        let path = directory.join("machine.json");
        fs::write(&path, serde_json::to_vec_pretty(self)?)
            .with_context(|| format!("write {}", path.display()))
    }

    pub fn remove(&self) -> Result<()> {
        let directory = directory(&self.name);
        fs::remove_dir_all(&directory).with_context(|| format!("remove {}", directory.display()))
    }

    pub fn notify_socket(&self) -> PathBuf {
        directory(&self.name).join("notify")
    }

    /// The connection that commands share, of a machine on a kernel of its own.
    pub fn ssh_control(&self) -> PathBuf {
        directory(&self.name).join("ssh")
    }

    /// Everything the machine writes.
    pub fn disk(&self) -> PathBuf {
        paths::work().join(self.name.as_str())
    }

    /// The disk of a machine on a kernel of its own: an ext4 file system.
    pub fn image(&self) -> PathBuf {
        self.disk().join("disk.img")
    }

    pub fn upper(&self) -> PathBuf {
        self.disk().join("upper")
    }

    /// The machine's own file system for nodectl's state; an overlay could not link and rename like a disk does.
    pub fn state(&self) -> PathBuf {
        self.disk().join("state")
    }

    pub fn console(&self) -> PathBuf {
        self.disk().join("console.log")
    }
}

/// The lowest address that no machine has.
pub(super) fn free_address(taken: &[Record]) -> Option<Ipv4Addr> {
    let [a, b, c, first] = lab::FIRST_NODE.octets();
    (first..=254)
        .map(|last| Ipv4Addr::new(a, b, c, last))
        .find(|free| taken.iter().all(|one| one.address != *free))
}

fn machines() -> PathBuf {
    paths::run().join("machines")
}

fn directory(name: &Name) -> PathBuf {
    machines().join(name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_interfaces_and_paths() {
        for good in ["n1", "ctl", "abc-def-ghij"] {
            assert_eq!(Name::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "-a", "a-", "A", "a/b", "..", "n1.x", "thirteenchars"] {
            assert!(
                Name::parse(bad)
                    .unwrap_err()
                    .to_string()
                    .contains(&format!("{bad:?}"))
            );
        }
    }

    #[test]
    fn the_lowest_free_address_is_taken() {
        let at = |last| Record {
            name: Name::parse("x").unwrap(),
            platform: Platform::Box,
            address: Ipv4Addr::new(198, 51, 100, last),
            layers: Vec::new(),
        };
        assert_eq!(free_address(&[]), Some(lab::FIRST_NODE));
        assert_eq!(
            free_address(&[at(11), at(13)]),
            Some(Ipv4Addr::new(198, 51, 100, 12))
        );
        let all: Vec<_> = (11..=254).map(at).collect();
        assert_eq!(free_address(&all), None);
    }
}

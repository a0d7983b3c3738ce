//! Unit names, checked once and then trusted.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Longest unit name that systemd accepts, in bytes (`UNIT_NAME_MAX`, without the final NUL).
const LONGEST: usize = 255;

/// The kinds of unit that systemd knows, by the end of the name (systemd.unit(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum UnitKind {
    /// A process and its supervision.
    Service,
    /// A socket that starts a service.
    Socket,
    /// A device known to udev.
    Device,
    /// A mount point.
    Mount,
    /// A mount point that is mounted when used.
    Automount,
    /// A swap device or file.
    Swap,
    /// A group of units, a point in the order of boot.
    Target,
    /// A watched path.
    Path,
    /// A timer.
    Timer,
    /// A part of the cgroup tree.
    Slice,
    /// Processes started by somebody else.
    Scope,
}

impl UnitKind {
    const ALL: [(Self, &'static str); 11] = [
        (Self::Service, "service"),
        (Self::Socket, "socket"),
        (Self::Device, "device"),
        (Self::Mount, "mount"),
        (Self::Automount, "automount"),
        (Self::Swap, "swap"),
        (Self::Target, "target"),
        (Self::Path, "path"),
        (Self::Timer, "timer"),
        (Self::Slice, "slice"),
        (Self::Scope, "scope"),
    ];

    fn of_suffix(suffix: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|(_, s)| *s == suffix)
            .map(|(kind, _)| *kind)
    }
}

/// Why a text is not a unit name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Empty, or nothing before the dot.
    #[error("unit name {0:?} has no name before the suffix")]
    Empty(String),
    /// Longer than systemd takes.
    #[error("unit name {name:?} is {length} bytes long; the most is 255")]
    TooLong {
        /// The name as given.
        name: String,
        /// Its length in bytes.
        length: usize,
    },
    /// A character outside the set of systemd.unit(5).
    #[error("unit name {name:?} contains {character:?}; allowed are letters, digits and \":-_.\\@\"")]
    Character {
        /// The name as given.
        name: String,
        /// The first character that is not allowed.
        character: char,
    },
    /// No suffix, or one that is no kind of unit.
    #[error("unit name {0:?} does not end in a unit type such as .service")]
    Suffix(String),
    /// A name that starts with a dot or an `@`.
    #[error("unit name {0:?} starts with a character that a unit name cannot start with")]
    Start(String),
    /// A template (`name@.service`) where a unit that can run is needed.
    #[error("unit name {0:?} is a template; name an instance of it")]
    Template(String),
    /// A unit of another kind than the place needs.
    #[error("unit name {name:?} must be a {wanted:?} unit here")]
    Kind {
        /// The name as given.
        name: String,
        /// What the place needs.
        wanted: UnitKind,
    },
}

/// The name of a unit that can be loaded: checked against systemd.unit(5), never a template.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UnitName(String);

impl UnitName {
    /// Takes a full name with its suffix, for example `libvirtd.service`.
    ///
    /// # Errors
    /// A text that systemd would not accept as the name of a unit, or a template.
    pub fn parse(name: &str) -> Result<Self, NameError> {
        let owned = || name.to_owned();
        if name.len() > LONGEST {
            return Err(NameError::TooLong {
                name: owned(),
                length: name.len(),
            });
        }
        if let Some(character) = name.chars().find(|c| !is_allowed(*c)) {
            return Err(NameError::Character {
                name: owned(),
                character,
            });
        }
        let Some((stem, suffix)) = name.rsplit_once('.') else {
            return Err(NameError::Suffix(owned()));
        };
        if UnitKind::of_suffix(suffix).is_none() {
            return Err(NameError::Suffix(owned()));
        }
        if stem.is_empty() {
            return Err(NameError::Empty(owned()));
        }
        if stem.starts_with(['.', '@']) {
            return Err(NameError::Start(owned()));
        }
        if stem.ends_with('@') {
            return Err(NameError::Template(owned()));
        }
        Ok(Self(owned()))
    }

    /// The service unit of a service of this node: `libvirtd` gives `libvirtd.service`.
    ///
    /// # Errors
    /// As [`UnitName::parse`].
    pub fn service(service: &str) -> Result<Self, NameError> {
        Self::parse(&format!("{service}.service"))
    }

    /// The same name, if it is of the kind that a place needs.
    ///
    /// # Errors
    /// [`NameError::Kind`].
    pub fn of_kind(self, wanted: UnitKind) -> Result<Self, NameError> {
        if self.kind() == Some(wanted) {
            Ok(self)
        } else {
            Err(NameError::Kind { name: self.0, wanted })
        }
    }

    /// The whole name with its suffix.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name without its suffix.
    #[must_use]
    pub fn stem(&self) -> &str {
        self.0.rsplit_once('.').map_or(self.as_str(), |(stem, _)| stem)
    }

    /// What kind of unit the suffix says.
    #[must_use]
    pub fn kind(&self) -> Option<UnitKind> {
        let (_, suffix) = self.0.rsplit_once('.')?;
        UnitKind::of_suffix(suffix)
    }
}

fn is_allowed(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, ':' | '-' | '_' | '.' | '\\' | '@')
}

impl fmt::Display for UnitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for UnitName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        Self::parse(name)
    }
}

impl TryFrom<String> for UnitName {
    type Error = NameError;

    fn try_from(name: String) -> Result<Self, NameError> {
        Self::parse(&name)
    }
}

impl From<UnitName> for String {
    fn from(name: UnitName) -> Self {
        name.0
    }
}

impl JsonSchema for UnitName {
    fn schema_name() -> Cow<'static, str> {
        "UnitName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "Name of a systemd unit with its suffix, for example libvirtd.service",
            "pattern": r"^[A-Za-z0-9:_\\-][A-Za-z0-9:_.\\@-]*\.(service|socket|device|mount|automount|swap|target|path|timer|slice|scope)$",
            "maxLength": LONGEST,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_systemd_takes() {
        for name in [
            "libvirtd.service",
            "ovs-vswitchd.service",
            "getty@tty1.service",
            "dev-disk-by\\x2dlabel.device",
            "system.slice",
            "-.mount",
            "a:b_c.d.socket",
        ] {
            assert_eq!(UnitName::parse(name).expect(name).as_str(), name);
        }
    }

    #[test]
    fn refuses_the_rest_and_says_why() {
        type Check = fn(&NameError) -> bool;
        let cases: [(&str, Check); 9] = [
            ("", |e| matches!(e, NameError::Suffix(_))),
            (".service", |e| matches!(e, NameError::Empty(_))),
            ("libvirtd", |e| matches!(e, NameError::Suffix(_))),
            ("libvirtd.conf", |e| matches!(e, NameError::Suffix(_))),
            ("a b.service", |e| {
                matches!(e, NameError::Character { character: ' ', .. })
            }),
            ("a\nb.service", |e| {
                matches!(e, NameError::Character { character: '\n', .. })
            }),
            ("../a.service", |e| {
                matches!(e, NameError::Character { character: '/', .. })
            }),
            ("..service", |e| matches!(e, NameError::Start(_))),
            ("getty@.service", |e| matches!(e, NameError::Template(_))),
        ];
        for (name, check) in cases {
            let error = UnitName::parse(name).expect_err(name);
            assert!(check(&error), "{name:?}: {error:?}");
        }
        let long = format!("{}.service", "a".repeat(248));
        assert!(matches!(
            UnitName::parse(&long),
            Err(NameError::TooLong { length: 256, .. })
        ));
    }

    #[test]
    fn a_kind_is_asked_for_by_place() {
        let name = UnitName::service("nova-compute").expect("valid");
        assert_eq!(
            (name.stem(), name.kind()),
            ("nova-compute", Some(UnitKind::Service))
        );
        assert!(name.of_kind(UnitKind::Slice).is_err());
    }
}

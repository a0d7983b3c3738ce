//! Small value types of the container section that need more than serde's derive: they refuse
//! what they do not understand while a document is read, so later code has nothing to re-check.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A text in a document that is not a value of its kind.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ValueError {
    /// Not an octal mode of at most four digits.
    #[error("`{0}` is not an octal file mode like \"0755\"")]
    Mode(String),
    /// Not a capability of capabilities(7).
    #[error("`{0}` is not a Linux capability like \"CAP_NET_ADMIN\"")]
    Capability(String),
    /// Not a number, `infinity` or `SOFT:HARD` of those.
    #[error("`{0}` is not a limit: want a number, \"infinity\" or \"SOFT:HARD\"")]
    Limit(String),
}

/// File mode bits, written in documents as an octal string (`"0750"`), at most `7777`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Mode(u32);

impl Mode {
    /// The mode with these permission bits (file type bits are cut off).
    pub fn new(bits: u32) -> Self {
        Self(bits & 0o7777)
    }

    /// The permission bits as a number.
    pub fn bits(self) -> u32 {
        self.0
    }
}

impl TryFrom<String> for Mode {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        match u32::from_str_radix(&text, 8) {
            Ok(bits) if bits <= 0o7777 && !text.starts_with('+') => Ok(Self(bits)),
            _ => Err(ValueError::Mode(text)),
        }
    }
}

impl From<Mode> for String {
    fn from(mode: Mode) -> Self {
        format!("{:04o}", mode.0)
    }
}

/// A Linux capability by its name in capabilities(7); documents may leave out `CAP_`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Capability(String);

impl Capability {
    /// The full name, for example `CAP_NET_ADMIN`.
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Capability {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        let name = if text.starts_with("CAP_") {
            text.clone()
        } else {
            format!("CAP_{text}")
        };
        match caps::Capability::from_str(&name) {
            Ok(_) => Ok(Self(name)),
            Err(_) => Err(ValueError::Capability(text)),
        }
    }
}

impl From<Capability> for String {
    fn from(capability: Capability) -> Self {
        capability.0
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A resource limit of setrlimit(2), written as systemd writes them: `65536`, `"infinity"` or
/// `"1024:524288"` (soft and hard). `u64::MAX` stands for infinity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "LimitText", into = "LimitText")]
#[schemars(with = "LimitText")]
pub struct Limit {
    /// What a process gets.
    pub soft: u64,
    /// How far a process without CAP_SYS_RESOURCE may raise it.
    pub hard: u64,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
enum LimitText {
    Number(u64),
    Text(String),
}

fn limit_part(text: &str) -> Option<u64> {
    if text == "infinity" {
        Some(u64::MAX)
    } else {
        text.parse().ok()
    }
}

impl TryFrom<LimitText> for Limit {
    type Error = ValueError;

    fn try_from(text: LimitText) -> Result<Self, ValueError> {
        let text = match text {
            LimitText::Number(both) => {
                return Ok(Self {
                    soft: both,
                    hard: both,
                });
            }
            LimitText::Text(text) => text,
        };
        let (soft, hard) = text.split_once(':').unwrap_or((&text, &text));
        match (limit_part(soft), limit_part(hard)) {
            (Some(soft), Some(hard)) if soft <= hard => Ok(Self { soft, hard }),
            _ => Err(ValueError::Limit(text)),
        }
    }
}

impl From<Limit> for LimitText {
    fn from(limit: Limit) -> Self {
        let part = |v: u64| {
            if v == u64::MAX {
                "infinity".to_owned()
            } else {
                v.to_string()
            }
        };
        match limit.soft == limit.hard {
            true if limit.soft != u64::MAX => Self::Number(limit.soft),
            true => Self::Text(part(limit.soft)),
            false => Self::Text(format!("{}:{}", part(limit.soft), part(limit.hard))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: serde::de::DeserializeOwned>(json: &str) -> Result<T, serde_json::Error> {
        serde_json::from_str(json)
    }

    #[test]
    fn modes_are_octal_strings() {
        assert_eq!(read::<Mode>("\"0750\"").unwrap().bits(), 0o750);
        for bad in ["\"0999\"", "\"10000\"", "\"\"", "\"+755\"", "\"u=rwx\"", "493"] {
            assert!(read::<Mode>(bad).is_err(), "{bad}");
        }
        assert_eq!(serde_json::to_string(&Mode::new(0o100_644)).unwrap(), "\"0644\"");
    }

    #[test]
    fn capabilities_have_their_kernel_name() {
        assert_eq!(
            read::<Capability>("\"NET_ADMIN\"").unwrap().name(),
            "CAP_NET_ADMIN"
        );
        assert_eq!(read::<Capability>("\"CAP_BPF\"").unwrap().name(), "CAP_BPF");
        assert!(read::<Capability>("\"CAP_EVERYTHING\"").is_err());
    }

    #[test]
    fn limits_read_and_write_as_systemd_writes_them() {
        let table = [
            ("65536", 65536, 65536),
            ("\"infinity\"", u64::MAX, u64::MAX),
            ("\"1024:524288\"", 1024, 524_288),
            ("\"1024:infinity\"", 1024, u64::MAX),
        ];
        for (json, soft, hard) in table {
            let limit: Limit = read(json).unwrap();
            assert_eq!((limit.soft, limit.hard), (soft, hard), "{json}");
            assert_eq!(serde_json::to_string(&limit).unwrap(), json);
        }
        for bad in ["\"2:1\"", "\"64M\"", "-1", "\"\""] {
            assert!(read::<Limit>(bad).is_err(), "{bad}");
        }
    }
}

//! Values of a definition that are more than a number or a text: time spans, memory limits, signals.

use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

use nix::sys::signal::Signal;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Why a text is not the value it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {wanted}")]
pub struct ValueError {
    text: String,
    wanted: &'static str,
}

/// A time span: a whole number of seconds, or a text such as `500ms`, `90s`, `15min`, `2h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(Duration);

impl Span {
    const WANTED: &'static str =
        "a time span up to 136 years: whole seconds or a number with ms, s, min or h";

    /// systemd counts microseconds in 64 bits, and takes the default for what does not fit; sums of a few must fit, too.
    const LONGEST: Duration = Duration::from_secs(u32::MAX as u64);

    /// A span of whole seconds.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    fn bounded(time: Duration) -> Option<Self> {
        (time <= Self::LONGEST).then_some(Self(time))
    }

    /// As a standard duration.
    #[must_use]
    pub const fn duration(self) -> Duration {
        self.0
    }
}

impl FromStr for Span {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let error = || ValueError {
            text: text.to_owned(),
            wanted: Self::WANTED,
        };
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        let milliseconds: u64 = match unit {
            "ms" => 1,
            "s" => 1000,
            "min" => 60_000,
            "h" => 3_600_000,
            _ => return Err(error()),
        };
        number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(milliseconds))
            .and_then(|total| Self::bounded(Duration::from_millis(total)))
            .ok_or_else(error)
    }
}

/// The shortest form that reads back as the same span; systemd.time(7) reads it too.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.0.as_millis();
        if total.is_multiple_of(1000) {
            write!(f, "{}s", total / 1000)
        } else {
            write!(f, "{total}ms")
        }
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        number_or_text(deserializer, |number| {
            Self::bounded(Duration::from_secs(number)).ok_or_else(|| ValueError {
                text: number.to_string(),
                wanted: Self::WANTED,
            })
        })
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Span".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Time span: whole seconds, or a number with a unit such as \"500ms\" or \"15min\"",
            "oneOf": [
                { "type": "integer", "minimum": 0 },
                { "type": "string", "pattern": "^[0-9]+(ms|s|min|h)$" },
            ],
        })
    }
}

/// A memory limit (systemd.resource-control(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// This many bytes.
    Bytes(u64),
    /// This part of the machine's memory, 1 to 100.
    Percent(u8),
    /// No limit.
    Infinity,
}

impl Memory {
    const WANTED: &'static str =
        "a memory limit: bytes, a number with K, M, G or T, a percentage or \"infinity\"";
}

impl FromStr for Memory {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let error = || ValueError {
            text: text.to_owned(),
            wanted: Self::WANTED,
        };
        if text == "infinity" {
            return Ok(Self::Infinity);
        }
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| error())?;
        let power = match unit {
            "" => 0,
            "K" => 1,
            "M" => 2,
            "G" => 3,
            "T" => 4,
            "%" => {
                return match u8::try_from(number) {
                    Ok(part @ 1..=100) => Ok(Self::Percent(part)),
                    _ => Err(error()),
                };
            }
            _ => return Err(error()),
        };
        number
            .checked_mul(1024_u64.pow(power))
            .map(Self::Bytes)
            .ok_or_else(error)
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "{bytes}"),
            Self::Percent(part) => write!(f, "{part}%"),
            Self::Infinity => f.write_str("infinity"),
        }
    }
}

impl Serialize for Memory {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Memory {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        number_or_text(deserializer, |number| Ok(Self::Bytes(number)))
    }
}

impl JsonSchema for Memory {
    fn schema_name() -> Cow<'static, str> {
        "Memory".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Memory limit: bytes, or a text such as \"512M\", \"25%\" or \"infinity\"",
            "oneOf": [
                { "type": "integer", "minimum": 0 },
                { "type": "string", "pattern": "^([0-9]+[KMGT]?|[0-9]{1,3}%|infinity)$" },
            ],
        })
    }
}

/// A signal by its full name, for example `SIGTERM`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignalName(Signal);

impl FromStr for SignalName {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        text.parse::<Signal>().map(Self).map_err(|_| ValueError {
            text: text.to_owned(),
            wanted: "the name of a signal such as \"SIGTERM\"",
        })
    }
}

impl fmt::Display for SignalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

impl Serialize for SignalName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SignalName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for SignalName {
    fn schema_name() -> Cow<'static, str> {
        "SignalName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "Full name of a signal, for example \"SIGTERM\"",
            "pattern": "^SIG[A-Z0-9]+$",
        })
    }
}

/// Reads a TOML or JSON number, or a text that [`FromStr`] reads.
fn number_or_text<'de, D, T>(
    deserializer: D,
    number: impl FnOnce(u64) -> Result<T, ValueError>,
) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err = ValueError>,
{
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a whole number or a text")]
    enum Either {
        Number(u64),
        Text(String),
    }
    match Either::deserialize(deserializer)? {
        Either::Number(value) => number(value),
        Either::Text(text) => text.parse(),
    }
    .map_err(de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans() {
        for (text, shown) in [
            ("500ms", "500ms"),
            ("90s", "90s"),
            ("15min", "900s"),
            ("2h", "7200s"),
        ] {
            let span: Span = text.parse().expect(text);
            assert_eq!(span.to_string(), shown);
            assert_eq!(span.to_string().parse::<Span>(), Ok(span));
        }
        for text in [
            "",
            "s",
            "-1s",
            "1.5s",
            "1d",
            "90",
            "infinity",
            "1s\nUser=root",
            "99999999999999999999s",
        ] {
            assert!(text.parse::<Span>().is_err(), "{text:?}");
        }
        assert_eq!(serde_json::from_str::<Span>("7").ok(), Some(Span::from_secs(7)));
    }

    #[test]
    fn memory_limits() {
        let cases = [
            ("4096", "4096"),
            ("512M", "536870912"),
            ("25%", "25%"),
            ("infinity", "infinity"),
        ];
        for (text, shown) in cases {
            assert_eq!(text.parse::<Memory>().expect(text).to_string(), shown);
        }
        for text in ["", "0%", "101%", "1X", "-1", "18446744073709551615T"] {
            assert!(text.parse::<Memory>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn signals() {
        assert_eq!(
            "SIGUSR1".parse::<SignalName>().expect("known").to_string(),
            "SIGUSR1"
        );
        for text in ["", "USR1", "SIGNOPE", "15", "SIGTERM\n"] {
            assert!(text.parse::<SignalName>().is_err(), "{text:?}");
        }
    }
}

//! Parameters: typed values that a release declares and a node's configuration sets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A parameter as the release declares it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ParameterSpec {
    /// What values it takes.
    #[serde(rename = "type")]
    pub kind: ParameterType,
    /// Value where the node sets none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// Whether a node has to set it.
    #[serde(default)]
    pub required: bool,
    /// One line for people.
    #[serde(default)]
    pub description: String,
}

/// What values a parameter takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ParameterType {
    /// One line of text.
    String,
    /// A whole number.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// An IPv4 or IPv6 address.
    Ip,
    /// `scheme://…`
    Url,
    /// A list of single lines of text.
    List,
}

impl std::fmt::Display for ParameterType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ParameterType::String => "one line of text",
            ParameterType::Integer => "a whole number",
            ParameterType::Boolean => "true or false",
            ParameterType::Ip => "an IP address",
            ParameterType::Url => "a URL (scheme://…)",
            ParameterType::List => "a list of single lines of text",
        })
    }
}

/// Trouble with a parameter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParameterError {
    /// The release does not declare it.
    #[error("parameter {name} is not known to the release{}", did_you_mean(.closest))]
    Unknown {
        /// Its name.
        name: String,
        /// A declared name that looks like it.
        closest: Option<String>,
    },
    /// The value is of another type.
    #[error("parameter {name} has to be {expected}, not {value}")]
    Type {
        /// Its name.
        name: String,
        /// The declared type.
        expected: ParameterType,
        /// The value as it was given.
        value: String,
    },
    /// The node has to set it and does not.
    #[error("parameter {name} is missing: {description}")]
    Missing {
        /// Its name.
        name: String,
        /// What it is for.
        description: String,
    },
}

fn did_you_mean(name: &Option<String>) -> String {
    name.as_ref()
        .map(|n| format!("; did you mean {n}?"))
        .unwrap_or_default()
}

impl ParameterType {
    /// Whether this value is of this type.
    pub fn accepts(self, value: &Value) -> bool {
        match self {
            ParameterType::String => value.as_str().is_some_and(is_line),
            ParameterType::Integer => value.is_i64(),
            ParameterType::Boolean => value.is_boolean(),
            ParameterType::Ip => value.as_str().is_some_and(|s| s.parse::<IpAddr>().is_ok()),
            ParameterType::Url => value.as_str().is_some_and(is_url),
            ParameterType::List => value
                .as_array()
                .is_some_and(|list| list.iter().all(|v| v.as_str().is_some_and(is_line))),
        }
    }

    /// Reads a value from the command line.
    ///
    /// # Errors
    /// The text is no value of this type; the message is for people.
    pub fn parse(self, name: &str, text: &str) -> Result<Value, ParameterError> {
        let value = match self {
            ParameterType::String | ParameterType::Ip | ParameterType::Url => Value::from(text),
            ParameterType::Integer => text.parse::<i64>().map_or(Value::Null, Value::from),
            ParameterType::Boolean => text.parse::<bool>().map_or(Value::Null, Value::from),
            ParameterType::List => Value::from(
                text.split(',')
                    .map(str::trim)
                    .filter(|s| !s.is_empty())
                    .collect::<Vec<_>>(),
            ),
        };
        if self.accepts(&value) {
            Ok(value)
        } else {
            Err(ParameterError::Type {
                name: name.into(),
                expected: self,
                value: text.into(),
            })
        }
    }
}

fn is_line(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

fn is_url(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else {
        return false;
    };
    let scheme_fine = scheme.chars().next().is_some_and(|c| c.is_ascii_alphabetic())
        && scheme
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    scheme_fine && !rest.is_empty() && text.chars().all(|c| !c.is_control() && !c.is_whitespace())
}

/// The value of every parameter that has one: what the node sets, else the default. A required one has to have one
/// only if it is `used`: services that this node does not run need nothing.
///
/// # Errors
/// Everything that is wrong, in the order of names: unknown, of another type, missing.
pub fn resolve(
    specs: &BTreeMap<String, ParameterSpec>,
    set: &BTreeMap<String, Value>,
    used: &BTreeSet<&str>,
) -> Result<BTreeMap<String, Value>, Vec<ParameterError>> {
    let mut errors = Vec::new();
    let mut values = BTreeMap::new();
    for name in set.keys().filter(|n| !specs.contains_key(*n)) {
        errors.push(ParameterError::Unknown {
            name: name.clone(),
            closest: similar(name, specs.keys()),
        });
    }
    for (name, spec) in specs {
        match set.get(name).or(spec.default.as_ref()) {
            Some(value) if spec.kind.accepts(value) => {
                values.insert(name.clone(), value.clone());
            }
            Some(value) => errors.push(ParameterError::Type {
                name: name.clone(),
                expected: spec.kind,
                value: value.to_string(),
            }),
            None if spec.required && used.contains(name.as_str()) => errors.push(ParameterError::Missing {
                name: name.clone(),
                description: spec.description.clone(),
            }),
            None => {}
        }
    }
    if errors.is_empty() {
        Ok(values)
    } else {
        Err(errors)
    }
}

/// The candidate that differs from `name` in at most two characters.
fn similar<'a>(name: &str, candidates: impl Iterator<Item = &'a String>) -> Option<String> {
    candidates
        .map(|c| (distance(name, c), c))
        .filter(|(d, _)| *d <= 2)
        .min()
        .map(|(_, c)| c.clone())
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn specs() -> BTreeMap<String, ParameterSpec> {
        let spec = |kind, default, required| ParameterSpec {
            kind,
            default,
            required,
            description: "why".into(),
        };
        [
            ("my_ip".to_owned(), spec(ParameterType::Ip, None, true)),
            (
                "debug".to_owned(),
                spec(ParameterType::Boolean, Some(json!(false)), false),
            ),
            ("note".to_owned(), spec(ParameterType::String, None, false)),
        ]
        .into()
    }

    fn used() -> BTreeSet<&'static str> {
        ["my_ip", "debug"].into()
    }

    #[test]
    fn what_no_service_of_the_node_uses_may_be_missing() {
        let values = resolve(&specs(), &BTreeMap::new(), &["debug"].into()).unwrap();
        assert!(!values.contains_key("my_ip"));
    }

    #[test]
    fn types_accept_what_they_say() {
        use ParameterType as T;
        let table = [
            (T::String, json!("a b"), true),
            (T::String, json!("a\nb"), false),
            (T::String, json!(1), false),
            (T::Integer, json!(-1), true),
            (T::Integer, json!(1.5), false),
            (T::Boolean, json!(true), true),
            (T::Boolean, json!("true"), false),
            (T::Ip, json!("::1"), true),
            (T::Ip, json!("1.2.3"), false),
            (T::Url, json!("http://[::1]:5000/v3"), true),
            (T::Url, json!("http://"), false),
            (T::Url, json!("http://a b"), false),
            (T::List, json!(["a", "b"]), true),
            (T::List, json!(["a", 1]), false),
        ];
        for (kind, value, expected) in table {
            assert_eq!(kind.accepts(&value), expected, "{kind:?} {value}");
        }
    }

    #[test]
    fn defaults_fill_in_and_all_errors_are_reported() {
        let set = [("my_ip".to_owned(), json!("192.0.2.1"))].into();
        let values = resolve(&specs(), &set, &used()).unwrap();
        assert_eq!(values["debug"], json!(false));
        assert!(!values.contains_key("note"));

        let set = [
            ("my_pi".to_owned(), json!("x")),
            ("debug".to_owned(), json!("yes")),
        ]
        .into();
        let errors: Vec<String> = resolve(&specs(), &set, &used())
            .unwrap_err()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            errors,
            [
                "parameter my_pi is not known to the release; did you mean my_ip?",
                "parameter debug has to be true or false, not \"yes\"",
                "parameter my_ip is missing: why",
            ]
        );
    }

    #[test]
    fn the_command_line_is_read_by_type() {
        assert_eq!(
            ParameterType::List.parse("l", "a, b,").unwrap(),
            json!(["a", "b"])
        );
        assert_eq!(ParameterType::Integer.parse("i", "7").unwrap(), json!(7));
        assert!(ParameterType::Boolean.parse("b", "yes").is_err());
    }
}

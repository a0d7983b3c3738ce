//! Values of rendered files: literals and references to what differs between nodes.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A value, or a table of values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Content {
    // The first that fits counts, and serde takes a list of one text for a structure with one field.
    /// A list.
    List(Vec<Content>),
    /// The value of a parameter: `{ parameter = "my_ip" }`.
    Parameter(ParameterRef),
    /// Something the node knows about itself: `{ fact = "hostname" }`.
    Fact(FactRef),
    /// A literal.
    Scalar(Scalar),
    /// A table, or a section.
    Table(BTreeMap<String, Content>),
}

/// `{ parameter = "name" }`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ParameterRef {
    /// Name of the parameter, as the release declares it.
    pub parameter: String,
}

/// `{ fact = "name" }`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FactRef {
    /// Which fact.
    pub fact: Fact,
}

/// What a node knows about itself. Only things that stay the same while a deployment lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Fact {
    /// The host name, gethostname(2).
    Hostname,
    /// The content of /etc/machine-id, machine-id(5).
    MachineId,
    /// The machine hardware name, uname(2).
    Architecture,
}

impl Fact {
    /// All facts.
    pub const ALL: [Fact; 3] = [Fact::Hostname, Fact::MachineId, Fact::Architecture];
}

impl std::fmt::Display for Fact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Fact::Hostname => "hostname",
            Fact::MachineId => "machine-id",
            Fact::Architecture => "architecture",
        })
    }
}

/// A literal value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Scalar {
    /// `true` or `false`.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// A number with a fraction.
    Float(f64),
    /// Text.
    String(String),
}

impl Content {
    /// Whether every number in here is one in JSON, too, which a release is.
    pub(super) fn is_finite(&self) -> bool {
        match self {
            Content::Scalar(Scalar::Float(number)) => number.is_finite(),
            Content::Parameter(_) | Content::Fact(_) | Content::Scalar(_) => true,
            Content::List(list) => list.iter().all(Content::is_finite),
            Content::Table(table) => table.values().all(Content::is_finite),
        }
    }

    /// Adds the names of all parameters in here.
    pub(super) fn parameters<'a>(&'a self, names: &mut Vec<&'a str>) {
        match self {
            Content::Parameter(p) => names.push(&p.parameter),
            Content::Fact(_) | Content::Scalar(_) => {}
            Content::List(list) => list.iter().for_each(|c| c.parameters(names)),
            Content::Table(table) => table.values().for_each(|c| c.parameters(names)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_and_literals_are_told_apart() {
        let text = r#"
            a = 1
            b = "x"
            c = { parameter = "p" }
            d = { fact = "hostname" }
            e = [1, { parameter = "q" }]
            g = ["one"]
            h = [["hostname"]]
            [f]
            parameter = "a table with more than one key is a table"
            other = true
        "#;
        let table: BTreeMap<String, Content> = toml::from_str(text).unwrap();
        assert_eq!(table["a"], Content::Scalar(Scalar::Integer(1)));
        assert_eq!(
            table["c"],
            Content::Parameter(ParameterRef {
                parameter: "p".into()
            })
        );
        assert_eq!(table["d"], Content::Fact(FactRef { fact: Fact::Hostname }));
        assert!(matches!(table["f"], Content::Table(_)));
        let text = |text: &str| Content::Scalar(Scalar::String(text.to_owned()));
        assert_eq!(table["g"], Content::List(vec![text("one")]));
        assert_eq!(
            table["h"],
            Content::List(vec![Content::List(vec![text("hostname")])])
        );
        let mut names = Vec::new();
        table.values().for_each(|c| c.parameters(&mut names));
        assert_eq!(names, ["p", "q"]);
    }
}

//! References become values.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::RenderError;
use crate::definition::{Content, Scalar};
use crate::facts::Facts;

/// What references can refer to.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// Resolved parameters by name.
    pub parameters: &'a BTreeMap<String, Value>,
    /// What this node knows about itself.
    pub facts: &'a Facts,
}

/// The content with all references replaced. A parameter without a value leaves its key out, so
/// that the program's own default holds.
///
/// # Errors
/// A fact that this node can't tell.
pub fn resolve(
    content: &BTreeMap<String, Content>,
    inputs: &Inputs<'_>,
) -> Result<Map<String, Value>, RenderError> {
    let mut map = Map::new();
    for (key, value) in content {
        if let Some(value) = value_of(key, value, inputs)? {
            map.insert(key.clone(), value);
        }
    }
    Ok(map)
}

fn value_of(key: &str, content: &Content, inputs: &Inputs<'_>) -> Result<Option<Value>, RenderError> {
    Ok(match content {
        Content::Parameter(p) => inputs.parameters.get(&p.parameter).cloned(),
        Content::Fact(f) => match inputs.facts.get(&f.fact) {
            Some(text) => Some(Value::from(text.as_str())),
            None => {
                return Err(RenderError::Fact {
                    key: key.into(),
                    fact: f.fact,
                });
            }
        },
        Content::Scalar(scalar) => Some(match scalar {
            Scalar::Boolean(b) => Value::from(*b),
            Scalar::Integer(i) => Value::from(*i),
            Scalar::Float(f) => Value::from(*f),
            Scalar::String(s) => Value::from(s.as_str()),
        }),
        Content::List(list) => {
            let mut values = Vec::new();
            for item in list {
                values.extend(value_of(key, item, inputs)?);
            }
            Some(Value::Array(values))
        }
        Content::Table(table) => Some(Value::Object(resolve(table, inputs)?)),
    })
}

/// Lays `over` over `base`: tables are merged, everything else is replaced.
pub fn merge(base: &mut Value, over: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                match base.get_mut(key) {
                    Some(below) => merge(below, value),
                    None => {
                        base.insert(key.clone(), value.clone());
                    }
                }
            }
        }
        (base, over) => *base = over.clone(),
    }
}

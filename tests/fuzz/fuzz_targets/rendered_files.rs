//! Parameter values and an operator's override in a configuration file: what a reader of the format finds are these
//! keys with these values, and nothing else. INI is read as oslo.config does.
//!
//! Fields: `f` format, `s` section, then in that section `v` a literal `key=text`, `n` an integer, `p` a parameter
//! `key=text`, `l` an item of the list `key=text`, `o` an override `key=text`.

use std::collections::BTreeMap;
use std::path::Path;

use node_agent::definition::{Definition, Fact};
use node_agent::parameters::ParameterType;
use node_agent::render::{Inputs, merge, render};
use serde_json::{Map, Value, json};

use super::fields::{fields, tagged};

pub fn run(data: &[u8]) {
    let Some(fields) = fields(data) else { return };
    let Some(input) = Input::new(&fields) else { return };
    let file = json!({"target": "/etc/x", "format": input.format, "content": input.content});
    let definition = json!({"format": 1, "name": "s", "description": "", "image": "i", "files": [file]});
    // Through TOML, as an author writes it.
    let Ok(text) = toml::to_string(&definition) else {
        return;
    };
    let Ok(definition) = Definition::parse(&text, Path::new("s.toml")) else {
        return;
    };
    let facts = BTreeMap::from([(Fact::Hostname, "node1".to_owned())]);
    let inputs = Inputs {
        parameters: &input.parameters,
        facts: &facts,
    };
    let over = (!input.over.is_empty()).then(|| Value::Object(input.over.clone()));
    let Ok(text) = render(&definition.files[0], &inputs, over.as_ref()) else {
        return;
    };
    let mut meant = input.meant();
    if let Some(over) = over {
        merge(&mut meant, &over);
    }
    let found: Value = match input.format {
        "json" => serde_json::from_str(&text).expect("it is JSON"),
        "toml" => toml::from_str(&text).expect("it is TOML"),
        _ => return check_ini(&text, &meant),
    };
    assert_eq!(meant, found, "{text}");
}

#[derive(Default)]
struct Input {
    format: &'static str,
    content: Map<String, Value>,
    parameters: BTreeMap<String, Value>,
    over: Map<String, Value>,
}

impl Input {
    fn new(fields: &[&str]) -> Option<Input> {
        let mut input = Input {
            format: "ini",
            ..Input::default()
        };
        let mut section = "DEFAULT".to_owned();
        for field in fields {
            let (tag, text) = tagged(field)?;
            match tag {
                'f' => input.format = ["ini", "toml", "json"].into_iter().find(|known| *known == text)?,
                's' => section = text.to_owned(),
                _ => input.set(tag, &section, text)?,
            }
        }
        Some(input)
    }

    fn set(&mut self, tag: char, section: &str, text: &str) -> Option<()> {
        let (key, value) = text.split_once('=')?;
        let table = if tag == 'o' {
            &mut self.over
        } else {
            &mut self.content
        };
        let table = table
            .entry(section)
            .or_insert_with(|| json!({}))
            .as_object_mut()?;
        let value = match tag {
            'v' | 'o' => json!(value),
            'n' => json!(value.parse::<i64>().ok()?),
            'p' => {
                let name = format!("p{}", self.parameters.len());
                let kinds = [
                    ParameterType::Boolean,
                    ParameterType::Integer,
                    ParameterType::String,
                ];
                let parsed = kinds.iter().find_map(|kind| kind.parse(&name, value).ok())?;
                self.parameters.insert(name.clone(), parsed);
                json!({"parameter": name})
            }
            'l' => {
                let list = table.entry(key).or_insert_with(|| json!([])).as_array_mut()?;
                list.push(json!(value));
                return Some(());
            }
            _ => return None,
        };
        table.insert(key.to_owned(), value);
        Some(())
    }

    /// The content with the parameters in their places.
    fn meant(&self) -> Value {
        fn put(value: &Value, parameters: &BTreeMap<String, Value>) -> Value {
            if *value == json!({"fact": "hostname"}) {
                return json!("node1");
            }
            match value {
                Value::Object(table) => match table.get("parameter") {
                    Some(Value::String(name)) if table.len() == 1 && parameters.contains_key(name) => {
                        parameters[name].clone()
                    }
                    _ => {
                        let pairs = table.iter().filter(|(_, value)| !is_lost(value, parameters));
                        pairs
                            .map(|(key, value)| (key.clone(), put(value, parameters)))
                            .collect()
                    }
                },
                other => other.clone(),
            }
        }
        put(&Value::Object(self.content.clone()), &self.parameters)
    }
}

/// A section that reads like a reference to a parameter that there is not: its key is left out.
fn is_lost(value: &Value, parameters: &BTreeMap<String, Value>) -> bool {
    let table = value.as_object().filter(|table| table.len() == 1);
    let name = table
        .and_then(|table| table.get("parameter"))
        .and_then(Value::as_str);
    name.is_some_and(|name| !parameters.contains_key(name))
}

fn check_ini(text: &str, meant: &Value) {
    let mut expected = Vec::new();
    for (section, keys) in meant.as_object().expect("a table") {
        for (key, value) in keys.as_object().expect("a section") {
            let values = match value {
                Value::Array(list) => list.clone(),
                one => vec![one.clone()],
            };
            for value in values {
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                expected.push((section.clone(), key.clone(), value));
            }
        }
    }
    let mut found = oslo(text);
    // A list's order counts: the sort is stable.
    let key = |(section, key, _): &(String, String, String)| (section.clone(), key.clone());
    expected.sort_by_key(key);
    found.sort_by_key(key);
    assert_eq!(found, expected, "{text}");
}

/// oslo_config/iniparser.py, written from its description.
fn oslo(text: &str) -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    let mut section = None;
    for line in text.split(['\n', '\r']).map(str::trim_end) {
        assert!(
            !line.starts_with([' ', '\t']),
            "{line:?} goes on with the value before"
        );
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(rest) = line.strip_prefix('[') {
            section = Some(rest.strip_suffix(']').expect("a section has an end").to_owned());
            continue;
        }
        let at = line.find([':', '=']).expect("an assignment");
        let (key, value) = (line[..at].trim(), line[at + 1..].trim());
        let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''));
        let value = match quote {
            Some(quote) if value.ends_with(quote) => value[1..].strip_suffix(quote).unwrap_or_default(),
            _ => value,
        };
        found.push((
            section.clone().expect("a section"),
            key.to_owned(),
            value.to_owned(),
        ));
    }
    found
}

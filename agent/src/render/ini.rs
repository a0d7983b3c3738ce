//! INI as oslo.config reads it: sections, `key = value`, a repeated key for a list.

use serde_json::{Map, Value};

use super::RenderError;
use crate::definition::{check_ini_key, check_ini_word};

/// Writes sections in the order of their names, `DEFAULT` first.
pub(super) fn write(content: &Map<String, Value>) -> Result<String, RenderError> {
    let mut sections: Vec<(&String, &Value)> = content.iter().collect();
    sections.sort_by_key(|(name, _)| (name.as_str() != "DEFAULT", name.as_str()));
    let mut text = String::new();
    for (name, keys) in sections {
        check_ini_word(name).map_err(|reason| RenderError::Value {
            key: name.clone(),
            reason,
        })?;
        let Value::Object(keys) = keys else {
            return Err(RenderError::Value {
                key: name.clone(),
                reason: "has to be a section".into(),
            });
        };
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&format!("[{name}]\n"));
        for (key, value) in keys {
            write_key(&mut text, name, key, value)?;
        }
    }
    Ok(text)
}

fn write_key(text: &mut String, section: &str, key: &str, value: &Value) -> Result<(), RenderError> {
    let wrong = |reason: String| RenderError::Value {
        key: format!("[{section}] {key}"),
        reason,
    };
    check_ini_key(key).map_err(wrong)?;
    if let Value::Array(list) = value {
        return list.iter().try_for_each(|item| match item {
            Value::Array(_) => Err(wrong("a list can't hold a list".into())),
            item => write_key(text, section, key, item),
        });
    }
    let value = match value {
        Value::Bool(b) => b.to_string(),
        Value::Number(n) => n.to_string(),
        Value::String(s) if s.chars().any(char::is_control) => {
            return Err(wrong(
                "a line break or control character can't be in an INI value".into(),
            ));
        }
        Value::String(s) => node_runtime::ini::value(s),
        Value::Null | Value::Array(_) | Value::Object(_) => {
            return Err(wrong(
                "only text, numbers, booleans and lists of them fit here".into(),
            ));
        }
    };
    text.push_str(&format!("{key} = {value}\n"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{Inputs, render};
    use crate::definition::{Definition, Fact};
    use serde_json::{Value, json};
    use std::collections::BTreeMap;
    use std::path::Path;

    fn rendered(content: &str, over: Option<&Value>) -> Result<String, String> {
        let text = format!(
            "format = 1\nname = \"s\"\ndescription = \"\"\nimage = \"i\"\n\
             [[files]]\ntarget = \"/x\"\nformat = \"ini\"\n{content}"
        );
        let definition = Definition::parse(&text, Path::new("s.toml")).unwrap();
        let parameters: BTreeMap<String, Value> = [
            ("ip".to_owned(), json!("192.0.2.1")),
            ("on".to_owned(), json!(true)),
            ("evil".to_owned(), json!("a\nb = c")),
        ]
        .into();
        let facts = [(Fact::Hostname, "node1".to_owned())].into();
        let inputs = Inputs {
            parameters: &parameters,
            facts: &facts,
        };
        render(&definition.files[0], &inputs, over).map_err(|e| e.to_string())
    }

    #[test]
    fn values_come_from_parameters_facts_and_literals() {
        let content = r#"
            [files.content.libvirt]
            on = { parameter = "on" }
            gone = { parameter = "not-set" }
            [files.content.DEFAULT]
            host = { fact = "hostname" }
            ip = { parameter = "ip" }
            many = ["a", 2]
        "#;
        let expected =
            "[DEFAULT]\nhost = node1\nip = 192.0.2.1\nmany = a\nmany = 2\n\n[libvirt]\non = true\n";
        assert_eq!(rendered(content, None).unwrap(), expected);
    }

    #[test]
    fn an_override_is_merged_key_by_key() {
        let content = "[files.content.a]\nx = 1\ny = 2\n";
        let over = json!({"a": {"y": 3}, "b": {"z": "q"}});
        assert_eq!(
            rendered(content, Some(&over)).unwrap(),
            "[a]\nx = 1\ny = 3\n\n[b]\nz = q\n"
        );
    }

    #[test]
    fn no_value_can_add_a_line() {
        let error = rendered("[files.content.a]\nx = { parameter = \"evil\" }\n", None).unwrap_err();
        assert!(error.contains("[a] x"), "{error}");
        for over in [
            json!({"a]\n[b": {}}),
            json!({"a": {"k\nl": 1}}),
            json!({"a": {"k:l": 1}}),
            json!({"a": {"k": {"l": 1}}}),
            json!({"a": 1}),
            json!(1),
        ] {
            assert!(
                rendered("[files.content.a]\nx = 1\n", Some(&over)).is_err(),
                "{over}"
            );
        }
    }

    #[test]
    fn what_a_reader_would_strip_is_put_in_quotes() {
        let over = json!({"a": {"v": "\"b\"", "w": " c ", "x": "it's", "y": "'", "z": ""}});
        assert_eq!(
            rendered("[files.content.a]\n", Some(&over)).unwrap(),
            "[a]\nv = \"\"b\"\"\nw = \" c \"\nx = it's\ny = \"'\"\nz = \n"
        );
    }

    #[test]
    fn a_fact_that_is_unknown_is_named() {
        let error = rendered("[files.content.a]\nx = { fact = \"machine-id\" }\n", None).unwrap_err();
        assert!(error.contains("machine-id"), "{error}");
    }
}

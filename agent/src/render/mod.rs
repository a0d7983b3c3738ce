//! Rendering of configuration files from typed values. Pure.

mod ini;
mod values;

use serde_json::{Map, Value};

pub use values::{Inputs, merge, resolve};

use crate::definition::{FileFormat, RenderedFile};

/// A file that can't be rendered.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RenderError {
    /// A fact that this node can't tell.
    #[error("{key} needs the fact {fact}, which this node can't tell")]
    Fact {
        /// The key whose value it is.
        key: String,
        /// The fact.
        fact: crate::definition::Fact,
    },
    /// A value that the format can't hold.
    #[error("{key}: {reason}")]
    Value {
        /// The key whose value it is.
        key: String,
        /// Why not.
        reason: String,
    },
    /// An override of a file that has no typed content.
    #[error("format text can't be overridden")]
    TextOverride,
}

/// The text of a file: the release's content with this node's values, the operator's override
/// merged over it.
///
/// # Errors
/// A value that the format can't hold; the error names its key.
pub fn render(file: &RenderedFile, inputs: &Inputs<'_>, over: Option<&Value>) -> Result<String, RenderError> {
    let whole = |reason: String| RenderError::Value {
        key: "content".into(),
        reason,
    };
    match (file.format, over) {
        (FileFormat::Text, Some(_)) => Err(RenderError::TextOverride),
        (FileFormat::Text, None) => Ok(file.text.clone().unwrap_or_default()),
        (FileFormat::Ini, over) => ini::write(&content(file, inputs, over)?),
        (FileFormat::Toml, over) => {
            toml::to_string(&content(file, inputs, over)?).map_err(|e| whole(e.to_string()))
        }
        (FileFormat::Json, over) => serde_json::to_string_pretty(&content(file, inputs, over)?)
            .map(|text| text + "\n")
            .map_err(|e| whole(e.to_string())),
    }
}

fn content(
    file: &RenderedFile,
    inputs: &Inputs<'_>,
    over: Option<&Value>,
) -> Result<Map<String, Value>, RenderError> {
    let mut content = Value::Object(resolve(&file.content, inputs)?);
    if let Some(over) = over {
        merge(&mut content, over);
    }
    match content {
        Value::Object(content) => Ok(content),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err(RenderError::Value {
                key: "override".into(),
                reason: "has to be a table".into(),
            })
        }
    }
}

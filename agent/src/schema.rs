//! The published JSON schemas: one for each document that `--json` prints, that crosses D-Bus, or that people write.

use std::path::Path;

use anyhow::Context as _;
use schemars::{JsonSchema, Schema};

use crate::{api, authoring, definition, protocol, release};

/// A schema and the name that it is published under.
#[derive(Debug)]
pub struct Published {
    /// File name without `.json`.
    pub name: &'static str,
    /// The schema, JSON Schema 2020-12.
    pub schema: Schema,
}

/// Every published schema, sorted by name.
pub fn all() -> Vec<Published> {
    vec![
        of::<protocol::Acknowledgement>("acknowledgement"),
        of::<authoring::Bundled>("bundled"),
        of::<api::DoctorReport>("doctor"),
        of::<api::Event>("event"),
        of::<protocol::Failed>("failure"),
        of::<api::FsckReport>("fsck"),
        of::<api::GcReport>("gc"),
        of::<protocol::History>("history"),
        of::<authoring::ImageBuilt>("image-built"),
        of::<authoring::ImageInspected>("image-inspected"),
        of::<api::Outcome>("outcome"),
        of::<api::Plan>("plan"),
        of::<authoring::Pushed>("pushed"),
        of::<authoring::ReleaseBuilt>("release-built"),
        of::<release::ReleaseDefinition>("release-definition"),
        of::<release::ReleaseDocument>("release-document"),
        of::<authoring::ReleaseInspected>("release-inspected"),
        of::<authoring::ReleaseVerified>("release-verified"),
        of::<protocol::Request>("request"),
        of::<definition::Definition>("service-definition"),
        of::<authoring::Signed>("signed"),
        of::<api::Status>("status"),
    ]
}

/// The text of a schema file: pretty-printed, with a final line feed.
///
/// # Errors
///
/// When the schema can't be put into JSON.
pub fn text(published: &Published) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(&published.schema)? + "\n")
}

/// Writes every schema to `NAME.json` in a directory.
///
/// # Errors
///
/// When a file can't be written.
pub fn write_all(directory: &Path) -> anyhow::Result<()> {
    for published in all() {
        let path = directory.join(format!("{}.json", published.name));
        std::fs::write(&path, text(&published)?)
            .with_context(|| format!("can't write {}", path.display()))?;
    }
    Ok(())
}

fn of<T: JsonSchema>(name: &'static str) -> Published {
    Published {
        name,
        schema: schemars::schema_for!(T),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_unique() {
        let names: Vec<_> = all().iter().map(|published| published.name).collect();
        let mut sorted = names.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(names, sorted);
    }

    #[test]
    fn what_is_in_docs_is_what_the_program_writes() {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schema");
        for published in all() {
            let path = docs.join(format!("{}.json", published.name));
            let found =
                std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert!(
                found == text(&published).unwrap(),
                "{} is not current: run nodectl generate --schema docs/schema",
                path.display()
            );
        }
    }
}

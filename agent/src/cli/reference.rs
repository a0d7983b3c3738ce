//! A release reference as typed, made fit for a daemon that has another working directory.

use std::path::{Path, PathBuf};

use node_images::reference::Reference;

/// The same reference with an absolute path where it leads to a file; anything else as it is, for the engine to judge.
pub(super) fn for_the_daemon(text: String) -> String {
    match (text.parse(), std::env::current_dir()) {
        (Ok(reference), Ok(here)) => below(reference, &here).map_or(text, |absolute| absolute.to_string()),
        (Err(_), _) | (_, Err(_)) => text,
    }
}

fn below(reference: Reference, here: &Path) -> Option<Reference> {
    let absolute = |path: PathBuf| here.join(path);
    match reference {
        Reference::Registry(_) => None,
        Reference::Layout { path, name } => Some(Reference::Layout {
            path: absolute(path),
            name,
        }),
        Reference::Archive { path, name } => Some(Reference::Archive {
            path: absolute(path),
            name,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_absolute_and_nothing_else_changes() {
        let table = [
            ("oci:x:1", Some("oci:/here/x:1")),
            ("oci:/x", Some("oci:/x")),
            ("./b.tar", Some("oci-archive:/here/./b.tar")),
            ("/b.tar", Some("oci-archive:/b.tar")),
            ("registry.example/x:1", None),
        ];
        for (text, expected) in table {
            let found = below(text.parse().unwrap(), Path::new("/here")).map(|found| found.to_string());
            assert_eq!(found.as_deref(), expected, "{text}");
        }
        assert_eq!(for_the_daemon("not a reference".into()), "not a reference");
    }
}

//! Which entry of a layout's `index.json` is meant, and how one is put in. Pure.

use super::SourceError;
use crate::manifest::{CONTAINERD_NAME, Descriptor, INDEX, Index, REF_NAME};
use crate::reference::Selector;

/// The names an entry goes by: the tag or full name of the specification's annotation, and the
/// full name that containerd and skopeo write.
fn names(entry: &Descriptor) -> impl Iterator<Item = &str> {
    [REF_NAME, CONTAINERD_NAME]
        .into_iter()
        .filter_map(|key| entry.annotations.get(key).map(String::as_str))
}

/// Finds what is meant. A name matches whole, or as the tag behind the last colon of a full name.
pub(super) fn find<'a>(
    index: &'a Index,
    selector: &Selector,
    place: &str,
) -> Result<&'a Descriptor, SourceError> {
    let entries = &index.manifests;
    let found = match selector {
        Selector::Digest(digest) => entries.iter().find(|entry| entry.digest == *digest),
        Selector::Name(name) => named(entries, name),
        Selector::Only => only(entries, place)?,
    };
    found.ok_or_else(|| SourceError::NotFound {
        place: place.to_owned(),
        what: format!("entry {selector}"),
    })
}

fn named<'a>(entries: &'a [Descriptor], name: &str) -> Option<&'a Descriptor> {
    let whole = entries.iter().find(|entry| names(entry).any(|n| n == name));
    whole.or_else(|| {
        let tag = format!(":{name}");
        let mut tagged = entries
            .iter()
            .filter(|entry| names(entry).any(|n| n.ends_with(&tag)));
        let first = tagged.next()?;
        // Two repositories with the same tag: a guess would be wrong half the time.
        tagged.all(|other| other.digest == first.digest).then_some(first)
    })
}

/// The one entry, or the one release among images and signatures.
fn only<'a>(entries: &'a [Descriptor], place: &str) -> Result<Option<&'a Descriptor>, SourceError> {
    let release = |entry: &&Descriptor| entry.artifact_type.as_deref() == Some(crate::artifact::RELEASE_TYPE);
    let mut releases = entries.iter().filter(release);
    match (entries, releases.next(), releases.next()) {
        ([one], _, _) => Ok(Some(one)),
        (_, Some(one), None) => Ok(Some(one)),
        ([], _, _) => Ok(None),
        (several, _, _) => Err(SourceError::Several {
            place: place.to_owned(),
            names: several
                .iter()
                .map(|e| {
                    names(e)
                        .next()
                        .map_or_else(|| e.digest.to_string(), str::to_owned)
                })
                .collect(),
        }),
    }
}

/// Puts an entry in. A name belongs to one entry: whoever had it loses it; an entry without any
/// name left stays, since something may refer to it by digest.
pub(super) fn put(index: &mut Index, mut entry: Descriptor, name: Option<&str>) {
    index.schema_version = 2;
    index.media_type = Some(INDEX.to_owned());
    match name {
        Some(name) => {
            for other in &mut index.manifests {
                if other.annotations.get(REF_NAME).is_some_and(|n| n == name) {
                    other.annotations.remove(REF_NAME);
                }
            }
            entry.annotations.insert(REF_NAME.to_owned(), name.to_owned());
            index
                .manifests
                .retain(|other| other.digest != entry.digest || !other.annotations.is_empty());
            index.manifests.push(entry);
        }
        None => {
            if !index.manifests.iter().any(|other| other.digest == entry.digest) {
                index.manifests.push(entry);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::manifest::MANIFEST;

    fn entry(content: &str, name: Option<&str>) -> Descriptor {
        let mut entry = Descriptor::of(MANIFEST, content.as_bytes());
        if let Some(name) = name {
            entry.annotations.insert(REF_NAME.to_owned(), name.to_owned());
        }
        entry
    }

    #[test]
    fn entries_are_found_by_name_tag_and_digest() {
        let index = Index::new(vec![
            entry("a", Some("q.example/a:1")),
            entry("b", Some("q.example/b:2")),
            entry("c", Some("q.example/c:2")),
            entry("d", None),
        ]);
        let at = |selector| find(&index, &selector, "x").map(|e| e.digest);
        let name = |text: &str| at(Selector::Name(text.to_owned()));
        assert_eq!(name("q.example/b:2").expect("whole name"), Digest::of(b"b"));
        assert_eq!(name("1").expect("tag"), Digest::of(b"a"));
        assert!(name("2").expect_err("two have it").is_not_found());
        assert!(name("a").expect_err("no part of a name").is_not_found());
        assert_eq!(
            at(Selector::Digest(Digest::of(b"d"))).expect("digest"),
            Digest::of(b"d")
        );
        assert!(matches!(at(Selector::Only), Err(SourceError::Several { .. })));
    }

    #[test]
    fn the_only_entry_or_the_only_release_needs_no_name() {
        let one = Index::new(vec![entry("a", Some("x"))]);
        assert_eq!(
            find(&one, &Selector::Only, "x").expect("one").digest,
            Digest::of(b"a")
        );
        let mut release = entry("r", None);
        release.artifact_type = Some(crate::artifact::RELEASE_TYPE.to_owned());
        let bundle = Index::new(vec![entry("a", None), release.clone(), entry("b", None)]);
        assert_eq!(
            find(&bundle, &Selector::Only, "x").expect("release").digest,
            Digest::of(b"r")
        );
        assert!(find(&Index::new(vec![]), &Selector::Only, "x").is_err());
    }

    #[test]
    fn a_name_moves() {
        let mut index = Index::new(vec![]);
        put(&mut index, entry("a", None), Some("latest"));
        put(&mut index, entry("b", None), Some("latest"));
        put(&mut index, entry("b", None), None);
        let found = find(&index, &Selector::Name("latest".to_owned()), "x").expect("there");
        assert_eq!(found.digest, Digest::of(b"b"));
        assert_eq!(index.manifests.len(), 2);
        put(&mut index, entry("a", None), Some("1"));
        assert_eq!(
            index.manifests.len(),
            2,
            "an entry that lost its name gets a new one in place"
        );
    }
}

//! Which QEMU guests run in, and which one there would be.

use std::collections::{BTreeMap, HashMap};

use node_images::build::facts::PACKAGE;

use super::guest::Guest;
use super::judge::Move;

/// Debian's packages of QEMU: one for each family of processors.
const QEMU: &str = "qemu-system-";

/// Version of QEMU in an image with these labels.
#[must_use]
pub fn version<'a>(labels: impl IntoIterator<Item = (&'a String, &'a String)>) -> Option<String> {
    let is_qemu = |label: &str| label.strip_prefix(PACKAGE).is_some_and(|p| p.starts_with(QEMU));
    let mut found = labels.into_iter().filter(|(label, _)| is_qemu(label));
    found.next().map(|(_, version)| version.clone())
}

/// The same for labels as an image's configuration has them.
#[must_use]
pub fn version_in(labels: Option<&HashMap<String, String>>) -> Option<String> {
    version(labels?)
}

/// Who keeps another QEMU than the one that there would be: an upgrade reaches a guest when it is started anew.
#[must_use]
pub fn kept(moving: Move<'_>, guests: &[Guest]) -> Vec<String> {
    let Some(there) = &moving.to.qemu else {
        return Vec::new();
    };
    let mut others: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for guest in guests {
        if let Some(here) = guest.qemu.as_deref().filter(|here| here != there) {
            others.entry(here).or_default().push(&guest.name);
        }
    }
    let told = others.into_iter().map(|(here, names)| {
        format!(
            "these guests keep QEMU {here} until they are stopped or migrated ({there} is there): {}",
            names.join(", ")
        )
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    use super::super::offer::Offer;
    use super::*;

    #[test]
    fn the_package_of_any_processor_says_it() {
        let labels = |name: &str| HashMap::from([(name.to_owned(), "1:7.2".to_owned())]);
        for name in ["qemu-system-x86", "qemu-system-arm"] {
            let labels = labels(&format!("org.nodectl.package.{name}"));
            assert_eq!(version_in(Some(&labels)).as_deref(), Some("1:7.2"), "{name}");
        }
        for other in ["org.nodectl.package.qemu-utils", "qemu-system-x86"] {
            assert_eq!(version_in(Some(&labels(other))), None, "{other}");
        }
        assert_eq!(version_in(None), None);
    }

    #[test]
    fn guests_with_another_qemu_are_named() {
        let offer = |qemu: Option<&str>| Offer {
            qemu: qemu.map(str::to_owned),
            ..Offer::default()
        };
        let guest = |name: &str, qemu: Option<&str>| Guest {
            name: name.into(),
            qemu: qemu.map(str::to_owned),
            ..Guest::default()
        };
        let guests = [
            guest("a", Some("7")),
            guest("b", Some("8")),
            guest("c", None),
            guest("d", Some("7")),
        ];
        let told = |to: &Offer| kept(Move { from: to, to }, &guests);
        let notes = told(&offer(Some("8")));
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(
            notes[0].contains("QEMU 7 ") && notes[0].ends_with(": a, d"),
            "{notes:?}"
        );
        assert!(told(&offer(None)).is_empty());
    }
}

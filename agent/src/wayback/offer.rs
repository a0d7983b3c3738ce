//! What the images of a release offer to guests and to the control plane, by their labels.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use node_images::build::facts::{
    NOVA_OLDEST_VERSION, NOVA_SERVICE_VERSION, OVS_SCHEMA_VERSION, QEMU_MACHINES,
};

use super::emulator;
use crate::release::ReleaseDocument;

/// The service whose image starts the guests.
pub const LIBVIRTD: &str = "libvirtd";
/// The service that is registered in nova's cell.
pub const NOVA_COMPUTE: &str = "nova-compute";
/// The service that owns Open vSwitch's database.
pub const OVSDB_SERVER: &str = "ovsdb-server";

/// What a set of services offers. What an image does not say, or a service that is not in the set, is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offer {
    /// Machine types of its QEMU.
    pub machines: Option<BTreeSet<String>>,
    /// Version of its QEMU.
    pub qemu: Option<String>,
    /// `SERVICE_VERSION` of its nova-compute.
    pub nova: Option<u32>,
    /// The oldest service version that its nova-compute starts beside.
    pub nova_oldest: Option<u32>,
    /// Version of its Open vSwitch's database schema.
    pub schema: Option<SchemaVersion>,
    /// Images that should say something and do not: `image libvirt has no label …`.
    pub silent: Vec<String>,
}

/// Version of a database schema: `<model>.<revision>.<patch>`, RFC 7047 section 3.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SchemaVersion(u32, u32, u32);

impl fmt::Display for SchemaVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

impl FromStr for SchemaVersion {
    type Err = ();

    fn from_str(text: &str) -> Result<SchemaVersion, ()> {
        let mut parts = text.split('.').map(|part| part.parse().map_err(drop));
        let mut part = || parts.next().unwrap_or(Err(()));
        let version = SchemaVersion(part()?, part()?, part()?);
        parts.next().map_or(Ok(version), |_| Err(()))
    }
}

/// A label that does not say what it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("label {label} of image {image} has to be {wanted}, not {value:?}")]
pub struct LabelError {
    /// Name of the image in the release.
    pub image: String,
    /// The label.
    pub label: &'static str,
    /// What it says.
    pub value: String,
    /// What it should be.
    pub wanted: &'static str,
}

impl Offer {
    /// What these services of a release offer.
    ///
    /// # Errors
    /// A label that is there can't be read.
    pub fn of<'a>(
        release: &ReleaseDocument,
        services: impl IntoIterator<Item = &'a str>,
    ) -> Result<Offer, LabelError> {
        let mut offer = Offer::default();
        for service in services {
            let Some(image) = release.services.get(service).map(|d| d.image.as_str()) else {
                continue;
            };
            let Some(labels) = release.images.get(image).map(|b| Labels {
                image,
                all: &b.labels,
            }) else {
                continue;
            };
            match service {
                LIBVIRTD => {
                    offer.machines = labels.read(QEMU_MACHINES, "a list of names", machines)?;
                    offer.qemu = emulator::version(labels.all);
                    offer.note_silence(&labels, QEMU_MACHINES);
                }
                NOVA_COMPUTE => {
                    offer.nova = labels.read(NOVA_SERVICE_VERSION, "a whole number", number)?;
                    offer.nova_oldest = labels.read(NOVA_OLDEST_VERSION, "a whole number", number)?;
                    offer.note_silence(&labels, NOVA_SERVICE_VERSION);
                }
                OVSDB_SERVER => {
                    offer.schema =
                        labels.read(OVS_SCHEMA_VERSION, "three numbers with dots", |v| v.parse().ok())?;
                    offer.note_silence(&labels, OVS_SCHEMA_VERSION);
                }
                _ => {}
            }
        }
        Ok(offer)
    }

    fn note_silence(&mut self, labels: &Labels<'_>, label: &str) {
        if !labels.all.contains_key(label) {
            self.silent
                .push(format!("image {} has no label {label}", labels.image));
        }
    }
}

struct Labels<'a> {
    image: &'a str,
    all: &'a BTreeMap<String, String>,
}

impl Labels<'_> {
    fn read<T>(
        &self,
        label: &'static str,
        wanted: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, LabelError> {
        let Some(value) = self.all.get(label) else {
            return Ok(None);
        };
        parse(value).map(Some).ok_or_else(|| LabelError {
            image: self.image.to_owned(),
            label,
            value: value.clone(),
            wanted,
        })
    }
}

fn number(text: &str) -> Option<u32> {
    text.parse().ok()
}

fn machines(text: &str) -> Option<BTreeSet<String>> {
    let is_name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_graphic());
    text.split(',')
        .map(|name| is_name(name).then(|| name.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read_strictly() {
        let schema = |text: &str| text.parse::<SchemaVersion>().ok();
        assert_eq!(schema("8.3.1"), Some(SchemaVersion(8, 3, 1)));
        assert!(schema("8.10.0") > schema("8.9.9"), "parts are numbers");
        for bad in ["", "8", "8.3", "8.3.1.0", "8.3.x", "-1.0.0"] {
            assert_eq!(schema(bad), None, "{bad:?}");
        }
        assert_eq!(number("64"), Some(64));
        assert_eq!(number("sixty-four"), None);
        assert_eq!(machines("pc,q35").unwrap().len(), 2);
        assert_eq!(machines("pc,,q35"), None);
        assert_eq!(machines("p c"), None);
    }

    #[test]
    fn a_label_that_makes_no_sense_is_named_with_its_image() {
        let all = [(NOVA_SERVICE_VERSION.to_owned(), "zed".to_owned())].into();
        let labels = Labels {
            image: "nova",
            all: &all,
        };
        let error = labels
            .read(NOVA_SERVICE_VERSION, "a whole number", number)
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "label org.nodectl.nova.service-version of image nova has to be a whole number, not \"zed\""
        );
    }
}

//! The software bill of materials of an image, as SPDX 2.3 JSON.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::dpkg::Installed;
use crate::digest::Digest;

/// Media type of the document, and the artifact type under which it refers to its image.
pub const MEDIA_TYPE: &str = "application/spdx+json";

/// A package of an image, as far as its bill of materials goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Component {
    /// Debian's name of it.
    pub name: String,
    /// Version with epoch and revision.
    pub version: String,
    /// Architecture, or `all`.
    pub architecture: String,
    /// Source package.
    pub source: String,
    /// Who maintains it.
    pub maintainer: String,
    /// Home page.
    pub homepage: Option<String>,
    /// Digest of the .deb file.
    pub digest: Option<Digest>,
    /// Short names of its licences as its copyright file has them.
    pub licenses: BTreeSet<String>,
}

impl Component {
    /// Joins what dpkg, the lock and the copyright file say.
    #[must_use]
    pub fn new(installed: &Installed, digest: Option<Digest>, copyright: &str) -> Self {
        Self {
            name: installed.package.name.clone(),
            version: installed.package.version.clone(),
            architecture: installed.package.architecture.clone(),
            source: installed.source.clone(),
            maintainer: installed.maintainer.clone(),
            homepage: installed.homepage.clone(),
            digest,
            licenses: licenses(copyright),
        }
    }
}

/// Licence short names in a machine-readable Debian copyright file (DEP-5).
#[must_use]
pub fn licenses(copyright: &str) -> BTreeSet<String> {
    let names = copyright.lines().filter_map(|line| line.strip_prefix("License:"));
    let names = names.map(str::trim).filter(|name| !name.is_empty());
    names.map(ToOwned::to_owned).collect()
}

/// The image that a bill of materials is about.
pub struct Subject<'s> {
    /// The definition's name.
    pub name: &'s str,
    /// Manifest digest.
    pub manifest: &'s Digest,
    /// When the image was "built", RFC 3339.
    pub created: &'s str,
    /// Debian's name of the release.
    pub suite: &'s str,
}

/// The document; the same input gives the same bytes.
///
/// # Errors
/// Those of `serde_json`, which this input cannot cause.
pub fn render(subject: &Subject<'_>, components: &[Component]) -> serde_json::Result<Vec<u8>> {
    let mut found = BTreeMap::new();
    let packages: Vec<Value> = components
        .iter()
        .map(|c| package(c, subject.suite, &mut found))
        .collect();
    let image = json!({
        "SPDXID": "SPDXRef-Image",
        "name": subject.name,
        "versionInfo": subject.manifest.to_string(),
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
        "primaryPackagePurpose": "CONTAINER",
        "checksums": [{ "algorithm": "SHA256", "checksumValue": subject.manifest.hex() }],
    });
    let describes = json!({
        "spdxElementId": "SPDXRef-DOCUMENT",
        "relationshipType": "DESCRIBES",
        "relatedSpdxElement": "SPDXRef-Image",
    });
    let contains = components.iter().map(|c| {
        json!({
            "spdxElementId": "SPDXRef-Image",
            "relationshipType": "CONTAINS",
            "relatedSpdxElement": spdx_id(c),
        })
    });
    let document = json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": subject.name,
        "documentNamespace": format!("urn:nodectl:sbom:{}", subject.manifest),
        "creationInfo": { "created": subject.created, "creators": ["Tool: nodectl image build"] },
        "packages": std::iter::once(image).chain(packages).collect::<Vec<_>>(),
        "relationships": std::iter::once(describes).chain(contains).collect::<Vec<_>>(),
        "hasExtractedLicensingInfos": found.values().collect::<Vec<_>>(),
    });
    serde_json::to_vec_pretty(&document)
}

fn package(component: &Component, suite: &str, found: &mut BTreeMap<String, Value>) -> Value {
    let Component {
        name,
        version,
        architecture,
        ..
    } = component;
    let mut terms = BTreeSet::new();
    for license in &component.licenses {
        terms.insert(term(license, found));
    }
    let declared = match terms.len() {
        0 => "NOASSERTION".to_owned(),
        _ => terms.into_iter().collect::<Vec<_>>().join(" AND "),
    };
    let purl = format!(
        "pkg:deb/debian/{}@{}?arch={architecture}&distro={suite}",
        percent(name),
        percent(version)
    );
    let mut package = json!({
        "SPDXID": spdx_id(component),
        "name": name,
        "versionInfo": version,
        "supplier": format!("Person: {}", component.maintainer),
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
        "sourceInfo": format!("built from: {}", component.source),
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": declared,
        "copyrightText": "NOASSERTION",
        "externalRefs": [{
            "referenceCategory": "PACKAGE-MANAGER",
            "referenceType": "purl",
            "referenceLocator": purl,
        }],
    });
    if let Some(homepage) = &component.homepage {
        package["homepage"] = json!(homepage);
    }
    if let Some(digest) = &component.digest {
        package["checksums"] = json!([{ "algorithm": "SHA256", "checksumValue": digest.hex() }]);
    }
    package
}

/// The SPDX name of a Debian short name, or a reference to the text in the image.
fn term(license: &str, found: &mut BTreeMap<String, Value>) -> String {
    let known = match license {
        "Apache-2.0" | "Apache-2" => "Apache-2.0",
        "BSD-2-clause" => "BSD-2-Clause",
        "BSD-3-clause" => "BSD-3-Clause",
        "Expat" => "MIT",
        "GPL-2" | "GPL-2.0" => "GPL-2.0-only",
        "GPL-2+" | "GPL-2.0+" => "GPL-2.0-or-later",
        "GPL-3" | "GPL-3.0" => "GPL-3.0-only",
        "GPL-3+" | "GPL-3.0+" => "GPL-3.0-or-later",
        "ISC" => "ISC",
        "LGPL-2" | "LGPL-2.0" => "LGPL-2.0-only",
        "LGPL-2+" | "LGPL-2.0+" => "LGPL-2.0-or-later",
        "LGPL-2.1" => "LGPL-2.1-only",
        "LGPL-2.1+" => "LGPL-2.1-or-later",
        "LGPL-3" | "LGPL-3.0" => "LGPL-3.0-only",
        "LGPL-3+" | "LGPL-3.0+" => "LGPL-3.0-or-later",
        "MPL-2.0" => "MPL-2.0",
        "Zlib" | "zlib" => "Zlib",
        other => return reference(other, found),
    };
    known.to_owned()
}

fn reference(license: &str, found: &mut BTreeMap<String, Value>) -> String {
    let id = format!("LicenseRef-Debian-{}", id_text(license));
    let info = json!({
        "licenseId": id,
        "name": license,
        "extractedText": "The text is in /usr/share/doc/PACKAGE/copyright of the image.",
    });
    found.entry(id.clone()).or_insert(info);
    id
}

fn spdx_id(component: &Component) -> String {
    format!(
        "SPDXRef-deb-{}-{}",
        id_text(&component.name),
        id_text(&component.architecture)
    )
}

/// Identifiers of SPDX take letters, digits, dots and dashes.
fn id_text(text: &str) -> String {
    let one = |c: char| match c {
        '+' => "plus".to_owned(),
        c if c.is_ascii_alphanumeric() || c == '.' || c == '-' => c.to_string(),
        _ => "-".to_owned(),
    };
    text.chars().map(one).collect()
}

/// As package URLs want it.
fn percent(text: &str) -> String {
    let one = |b: u8| match b {
        b if b.is_ascii_alphanumeric() || b"-._~:".contains(&b) => char::from(b).to_string(),
        b => format!("%{b:02X}"),
    };
    text.bytes().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn component(name: &str, copyright: &str) -> Component {
        Component {
            name: name.to_owned(),
            version: "1:2+3~4".to_owned(),
            architecture: "amd64".to_owned(),
            source: name.to_owned(),
            maintainer: "M <m@x>".to_owned(),
            homepage: None,
            digest: Some(Digest::of(b"deb")),
            licenses: licenses(copyright),
        }
    }

    #[test]
    fn packages_have_purl_checksum_and_licence() {
        let subject = Subject {
            name: "x",
            manifest: &Digest::of(b"manifest"),
            created: "2026-01-01T00:00:00Z",
            suite: "bookworm",
        };
        let components = [
            component(
                "libstdc++6",
                "Files: *\nLicense: GPL-2+\n text\nLicense: odd one\n",
            ),
            component("plain", "no format"),
        ];
        let bytes = render(&subject, &components).expect("renders");
        let document: Value = serde_json::from_slice(&bytes).expect("is JSON");
        let package = &document["packages"][1];
        assert_eq!(package["SPDXID"], "SPDXRef-deb-libstdcplusplus6-amd64");
        assert_eq!(
            package["externalRefs"][0]["referenceLocator"],
            "pkg:deb/debian/libstdc%2B%2B6@1:2%2B3~4?arch=amd64&distro=bookworm"
        );
        assert_eq!(
            package["licenseDeclared"],
            "GPL-2.0-or-later AND LicenseRef-Debian-odd-one"
        );
        assert_eq!(document["packages"][2]["licenseDeclared"], "NOASSERTION");
        assert_eq!(document["hasExtractedLicensingInfos"][0]["name"], "odd one");
        assert_eq!(document["relationships"].as_array().map(Vec::len), Some(3));
        assert_eq!(render(&subject, &components).expect("renders"), bytes);
    }
}

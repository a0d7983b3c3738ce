//! What the authoring commands made or found.

use super::Human;
use super::figures::{bytes, short};
use crate::authoring::{
    Bundled, ImageBuilt, ImageInspected, LayerInfo, Pushed, ReleaseBuilt, ReleaseInspected, ReleaseVerified,
    Signed,
};
use crate::output::Page;

impl Human for ImageBuilt {
    fn human(&self, page: &mut Page) {
        page.field("Image", &self.name);
        page.field("Digest", self.digest.to_string());
        page.field("Layout", format!("oci:{}", self.layout.display()));
        page.field(
            "Packages",
            format!("{}, listed in {}", self.packages, self.lock.display()),
        );
        page.field("Materials", self.sbom.display().to_string());
        page.gap();
        layers(page, &self.layers);
    }
}

impl Human for ImageInspected {
    fn human(&self, page: &mut Page) {
        page.field("Image", &self.reference);
        page.field("Digest", self.digest.to_string());
        page.field("Platform", &self.platform);
        if let Some(created) = &self.created {
            page.field("Created", created);
        }
        page.field("Size", bytes(self.size));
        for (name, value) in &self.labels {
            page.field("Label", format!("{name} = {value}"));
        }
        for (digest, kind) in &self.referrers {
            page.field("Referrer", format!("{} {kind}", short(digest)));
        }
        page.gap();
        layers(page, &self.layers);
    }
}

fn layers(page: &mut Page, layers: &[LayerInfo]) {
    let rows = layers.iter().map(|layer| {
        vec![
            short(&layer.digest.to_string()).to_owned(),
            bytes(layer.size),
            layer.media_type.clone(),
        ]
    });
    page.table(&["layer", "size", "type"], rows);
}

impl Human for Pushed {
    fn human(&self, page: &mut Page) {
        page.field("Pushed", &self.reference);
        page.field("Digest", self.digest.to_string());
        page.field(
            "Sent",
            format!(
                "{} blobs, {}; {} were there",
                self.blobs,
                bytes(self.bytes),
                self.present
            ),
        );
        if let Some(sbom) = &self.sbom {
            page.field("Materials", format!("attached as {sbom}"));
        }
    }
}

impl Human for ReleaseBuilt {
    fn human(&self, page: &mut Page) {
        page.field("Release", format!("{} {}", self.name, self.version));
        page.field("Digest", self.digest.to_string());
        page.field("Layout", format!("oci:{}", self.layout.display()));
        page.field("Services", self.services.join(", "));
        page.gap();
        let rows = self
            .images
            .iter()
            .map(|(name, digest)| vec![name.clone(), digest.to_string()]);
        page.table(&["image", "digest"], rows);
    }
}

impl Human for Signed {
    fn human(&self, page: &mut Page) {
        page.field("Signed", &self.reference);
        page.field("Digest", self.digest.to_string());
        page.field("As", &self.repository);
        page.field("Key", self.key.to_string());
    }
}

impl Human for ReleaseVerified {
    fn human(&self, page: &mut Page) {
        page.field("Release", format!("{} {}", self.name, self.version));
        page.field("From", &self.reference);
        page.field("Digest", self.digest.to_string());
        let when = self.signed.map(|at| format!(", {at}")).unwrap_or_default();
        let verdict = match &self.unchecked {
            Some(rule) => page
                .terminal()
                .red(format!("nobody has to sign it: the policy's rule {rule} says so")),
            None => page
                .terminal()
                .green(format!("signed by {}{when}", self.signed_by.join(", "))),
        };
        page.field("Trust", verdict);
    }
}

impl Human for ReleaseInspected {
    fn human(&self, page: &mut Page) {
        let release = &self.release;
        page.field("Release", format!("{} {}", release.name, release.version));
        page.field("From", &self.reference);
        page.field("Digest", self.digest.to_string());
        page.field(
            "Probation",
            format!(
                "{} s, {} tries",
                release.probation.window_sec, release.probation.tries
            ),
        );
        page.gap();
        let rows = release.services.values().map(|service| {
            vec![
                service.name.clone(),
                service.image.clone(),
                service.disruption.to_string(),
            ]
        });
        page.table(&["service", "image", "disruption"], rows);
        page.gap();
        let rows = release.images.iter().map(|(name, image)| {
            vec![
                name.clone(),
                image.repository.clone(),
                short(&image.digest.to_string()).to_owned(),
            ]
        });
        page.table(&["image", "repository", "digest"], rows);
        page.gap();
        let rows = release.parameters.iter().map(|(name, spec)| {
            let default = match (&spec.default, spec.required) {
                (Some(value), _) => value.to_string(),
                (None, true) => "required".to_owned(),
                (None, false) => "-".to_owned(),
            };
            vec![
                name.clone(),
                spec.kind.to_string(),
                default,
                spec.description.clone(),
            ]
        });
        page.table(&["parameter", "type", "default", "meaning"], rows);
    }
}

impl Human for Bundled {
    fn human(&self, page: &mut Page) {
        page.field(
            "Bundle",
            format!("{} ({})", self.file.display(), bytes(self.size)),
        );
        page.field("Release", self.digest.to_string());
        page.field("Images", self.images.to_string());
    }
}

//! Small images in OCI layouts.

use std::io::Write;
use std::path::Path;

use bytes::Bytes;
use node_images::digest::Digest;
use node_images::manifest::{CONFIG, Descriptor, INDEX, Index, MANIFEST, Manifest, Platform};
use node_images::source::{Layout, Memory, Sink, Source};
use std::sync::Arc;

pub const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
pub const PLAIN: &str = "application/vnd.oci.image.layer.v1.tar";

/// A tar archive of regular files.
pub fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1_700_000_000);
        builder
            .append_data(&mut header, name, *content)
            .expect("appended");
    }
    builder.into_inner().expect("finished")
}

pub fn compress(media_type: &str, bytes: &[u8]) -> Vec<u8> {
    match media_type {
        GZIP => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).expect("compressed");
            encoder.finish().expect("compressed")
        }
        ZSTD => zstd::encode_all(bytes, 3).expect("compressed"),
        _ => bytes.to_vec(),
    }
}

/// Bytes that do not compress and are the same each time.
pub fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(count + 8);
    while bytes.len() < count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(count);
    bytes
}

/// An image in memory: what a lying registry serves.
pub struct Built {
    pub manifest: Vec<u8>,
    pub config: Vec<u8>,
    /// Media type, compressed bytes.
    pub layers: Vec<(String, Vec<u8>)>,
}

impl Built {
    /// An image of these layers: media type and uncompressed tar.
    pub fn new(layers: &[(&str, Vec<u8>)]) -> Self {
        Built::on(&Platform::host().architecture, layers)
    }

    pub fn on(architecture: &str, layers: &[(&str, Vec<u8>)]) -> Self {
        let ids: Vec<Digest> = layers.iter().map(|(_, tar)| Digest::of(tar)).collect();
        let config = serde_json::json!({
            "architecture": architecture, "os": "linux",
            "config": {"Cmd": ["/bin/true"]},
            "rootfs": {"type": "layers", "diff_ids": ids},
        });
        let config = config.to_string().into_bytes();
        let layers: Vec<(String, Vec<u8>)> = layers
            .iter()
            .map(|(media_type, tar)| ((*media_type).to_owned(), compress(media_type, tar)))
            .collect();
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(MANIFEST.to_owned()),
            artifact_type: None,
            config: Descriptor::of(CONFIG, &config),
            layers: layers
                .iter()
                .map(|(kind, bytes)| Descriptor::of(kind, bytes))
                .collect(),
            subject: None,
            annotations: std::collections::BTreeMap::new(),
        };
        let manifest = serde_json::to_vec(&manifest).expect("json");
        Built {
            manifest,
            config,
            layers,
        }
    }

    pub fn digest(&self) -> Digest {
        Digest::of(&self.manifest)
    }

    pub fn blob(&self, layer: usize) -> Digest {
        Digest::of(&self.layers[layer].1)
    }

    /// The answer of an honest registry.
    pub fn answer(&self, asked: &super::liar::Asked) -> super::liar::Answer {
        let name = asked.path.rsplit('/').next().unwrap_or_default();
        let mut known = vec![
            (self.digest(), &self.manifest),
            (Digest::of(&self.config), &self.config),
        ];
        known.extend(self.layers.iter().map(|(_, bytes)| (Digest::of(bytes), bytes)));
        let found = known
            .iter()
            .find(|(digest, _)| digest.to_string() == name || name == "1");
        match found {
            Some((_, bytes)) => super::liar::Answer::range(asked, bytes),
            None => super::liar::Answer::status(404),
        }
    }

    /// Writes the image into a layout.
    pub async fn store(&self, layout: &Layout, name: Option<&str>) -> Digest {
        let mut memory = Memory::default();
        let mut blobs = vec![memory.add(CONFIG, Bytes::from(self.config.clone()))];
        for (kind, bytes) in &self.layers {
            blobs.push(memory.add(kind, Bytes::from(bytes.clone())));
        }
        let memory: Arc<dyn Source> = Arc::new(memory);
        for blob in &blobs {
            layout.put_blob(blob, Arc::clone(&memory)).await.expect("a blob");
        }
        layout
            .put_manifest(&self.manifest, name)
            .await
            .expect("a manifest")
    }
}

/// An index over images of several architectures, in a layout.
pub async fn index(layout: &Layout, images: &[(&str, &Built)], name: &str) -> Digest {
    let mut entries = Vec::new();
    for (architecture, image) in images {
        image.store(layout, None).await;
        let mut entry = Descriptor::of(MANIFEST, &image.manifest);
        entry.platform = Some(Platform {
            architecture: (*architecture).to_owned(),
            os: "linux".to_owned(),
            variant: None,
        });
        entries.push(entry);
    }
    let mut index = Index::new(entries);
    index.media_type = Some(INDEX.to_owned());
    let bytes = serde_json::to_vec(&index).expect("json");
    layout.put_manifest(&bytes, Some(name)).await.expect("an index")
}

/// The content of a file of a stored image.
pub fn file(store: &node_images::store::Store, image: &Digest, name: &str) -> Vec<u8> {
    let path = store.tree_path(image).join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A new layout.
pub fn layout(path: &Path) -> Arc<Layout> {
    Arc::new(Layout::create(path).expect("a layout"))
}

//! An OCI image layout in one archive: layers, a configuration and a manifest for each processor, one index of them all.

use anyhow::Result;
use serde_json::{Value, json};

use super::super::sums::hash;
use crate::architecture::Architecture;
use crate::archive::{Archive, gzip};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// What is said of an image besides its content.
pub(super) struct About {
    /// With its tag.
    pub(super) name: String,
    pub(super) tag: String,
    /// In ISO 8601.
    pub(super) created: String,
    /// The commit that it is made of.
    pub(super) revision: Option<String>,
}

/// An image for one processor.
pub(super) struct Image {
    architecture: Architecture,
    /// Of each layer the SHA-256 of what it unpacks to, and what is stored.
    layers: Vec<(String, Vec<u8>)>,
}

impl Image {
    /// Of layers that are not compressed yet.
    pub(super) fn new(architecture: Architecture, layers: Vec<Vec<u8>>) -> Result<Self> {
        let layers = layers.into_iter().map(|layer| Ok((hash(&layer), gzip(&layer)?)));
        Ok(Self { architecture, layers: layers.collect::<Result<_>>()? })
    }

    /// Bytes of all layers as they are stored and pulled.
    pub(super) fn compressed_size(&self) -> u64 {
        self.layers.iter().map(|(_, stored)| stored.len() as u64).sum()
    }

    fn config(&self, about: &About) -> Value {
        let differences: Vec<_> = self.layers.iter().map(|(hash, _)| format!("sha256:{hash}")).collect();
        json!({
            "created": about.created,
            "architecture": self.architecture.debian(),
            "os": "linux",
            "config": {
                "Entrypoint": ["podtrace"],
                "Env": ["PATH=/usr/sbin:/usr/bin"],
                "Labels": annotations(about),
            },
            "rootfs": {"type": "layers", "diff_ids": differences},
        })
    }
}

fn annotations(about: &About) -> Value {
    let mut annotations = json!({
        "org.opencontainers.image.title": "podtrace",
        "org.opencontainers.image.description": "podtrace's agents: podtrace, nft and iptables-save",
        "org.opencontainers.image.version": about.tag,
        "org.opencontainers.image.created": about.created,
        "org.opencontainers.image.source": env!("CARGO_PKG_REPOSITORY"),
        "org.opencontainers.image.licenses": "MIT OR Apache-2.0",
    });
    if let Some(revision) = &about.revision {
        annotations["org.opencontainers.image.revision"] = json!(revision);
    }
    annotations
}

/// The blobs of an archive.
#[derive(Default)]
struct Blobs(Vec<(String, Vec<u8>)>);

impl Blobs {
    /// Adds one; what names it elsewhere.
    fn add(&mut self, kind: &str, content: Vec<u8>) -> Value {
        let name = hash(&content);
        let descriptor =
            json!({"mediaType": kind, "digest": format!("sha256:{name}"), "size": content.len()});
        if !self.0.iter().any(|(known, _)| *known == name) {
            self.0.push((name, content));
        }
        descriptor
    }
}

/// The archive, and the digest that names the images of all processors together.
pub(super) fn archive(images: &[Image], about: &About, made_at: u64) -> Result<(Vec<u8>, String)> {
    let mut blobs = Blobs::default();
    let mut manifests = Vec::new();
    for image in images {
        let config = blobs.add(CONFIG, image.config(about).to_string().into_bytes());
        let layers: Vec<_> =
            image.layers.iter().map(|(_, stored)| blobs.add(LAYER, stored.clone())).collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers,
            "annotations": annotations(about),
        });
        let mut descriptor = blobs.add(MANIFEST, manifest.to_string().into_bytes());
        descriptor["platform"] = json!({"os": "linux", "architecture": image.architecture.debian()});
        manifests.push(descriptor);
    }
    let index = json!({
        "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests, "annotations": annotations(about),
    });
    let mut descriptor = blobs.add(INDEX, index.to_string().into_bytes());
    let digest = descriptor["digest"].as_str().unwrap_or_default().to_owned();
    // The first is what the layout's own tools look for, the second containerd's name.
    descriptor["annotations"] =
        json!({"org.opencontainers.image.ref.name": about.tag, "io.containerd.image.name": about.name});
    let top = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor]});
    let mut archive = Archive::new(made_at);
    archive.file("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    archive.file("index.json", 0o644, top.to_string().as_bytes())?;
    blobs.0.sort();
    for (name, content) in &blobs.0 {
        archive.file(&format!("blobs/sha256/{name}"), 0o644, content)?;
    }
    Ok((archive.finish()?, digest))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read as _;

    use super::*;

    fn about() -> About {
        About {
            name: "localhost/podtrace:1".to_owned(),
            tag: "1".to_owned(),
            created: "2026-01-01T00:00:00Z".to_owned(),
            revision: Some("c0ffee".to_owned()),
        }
    }

    #[test]
    fn everything_is_named_by_its_content() {
        let layer = |content: &[u8]| {
            let mut archive = Archive::new(0);
            archive.file("f", 0o644, content).unwrap();
            archive.finish().unwrap()
        };
        let images = [
            Image::new(Architecture::X86_64, vec![layer(b"same"), layer(b"x86")]).unwrap(),
            Image::new(Architecture::Aarch64, vec![layer(b"same"), layer(b"arm")]).unwrap(),
        ];
        let (packed, digest) = archive(&images, &about(), 0).unwrap();
        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(&*packed).entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            files.insert(name, content);
        }
        for (name, content) in &files {
            if let Some(name) = name.strip_prefix("blobs/sha256/") {
                assert_eq!(name, hash(content));
            }
        }
        let json = |content: &[u8]| serde_json::from_slice::<Value>(content).unwrap();
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
            let content = &files[&format!("blobs/sha256/{digest}")];
            assert_eq!(descriptor["size"], content.len());
            content
        };
        let top = json(&files["index.json"]);
        assert_eq!(top["manifests"][0]["digest"], digest);
        assert_eq!(top["manifests"][0]["annotations"]["io.containerd.image.name"], "localhost/podtrace:1");
        let index = json(blob(&top["manifests"][0]));
        let names: Vec<_> = index["manifests"]
            .as_array()
            .unwrap()
            .iter()
            .map(|this| &this["platform"]["architecture"])
            .collect();
        assert_eq!(names, ["amd64", "arm64"]);
        let manifest = json(blob(&index["manifests"][1]));
        let config = json(blob(&manifest["config"]));
        assert_eq!(config["architecture"], "arm64");
        for (difference, layer) in config["rootfs"]["diff_ids"]
            .as_array()
            .unwrap()
            .iter()
            .zip(manifest["layers"].as_array().unwrap())
        {
            let mut unpacked = Vec::new();
            flate2::read::GzDecoder::new(&**blob(layer)).read_to_end(&mut unpacked).unwrap();
            assert_eq!(*difference, format!("sha256:{}", hash(&unpacked)));
        }
        // What both have is there once: two configurations, three layers, two manifests, one index.
        assert_eq!(files.len(), 2 + 2 + 3 + 2 + 1);
    }
}

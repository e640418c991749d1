//! Images of containers, made here of files of this machine: nothing is pulled from anywhere.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tar::{Builder, Header};

use super::Parts;
use super::state::State;
use crate::archive::Archive;
use crate::{musl, tools};

/// What pods of the tests run: busybox. Left alone it sleeps, which is what holds a pod's namespaces too.
pub(super) const TEST: &str = "localhost/podtrace-test:1";

/// What agents run, by the name that podtrace gives it.
const AGENT: &str = concat!("localhost/podtrace:", env!("CARGO_PKG_VERSION"));

/// What is used of busybox.
const APPLETS: [&str; 14] = [
    "cat",
    "echo",
    "httpd",
    "ip",
    "ls",
    "nc",
    "nslookup",
    "ping",
    "ps",
    "seq",
    "sh",
    "sleep",
    "wget",
    "traceroute",
];

/// What agents read a node's rules with.
const RULE_READERS: [&str; 4] = ["nft", "iptables-save", "iptables-nft-save", "iptables-legacy-save"];

/// What a listener of the tests answers.
const PAGE: &str = "hello from a pod\n";

/// An archive that containerd imports.
pub(super) struct Image {
    path: PathBuf,
}

impl Image {
    /// Makes all images of a cluster.
    pub(super) fn all(state: &State, parts: &Parts) -> Result<[Self; 2]> {
        Ok([Self::test(state, parts)?, Self::agent(state, parts)?])
    }

    /// Where the archive is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn test(state: &State, parts: &Parts) -> Result<Self> {
        let mut layer = Archive::new(0);
        let busybox = parts.programs.busybox()?;
        layer.file("bin/busybox", 0o755, &read(&busybox)?)?;
        for applet in APPLETS {
            layer.link(&format!("bin/{applet}"), "busybox")?;
        }
        layer.file("www/index.html", 0o644, PAGE.as_bytes())?;
        layer.directory("tmp", 0o1777)?;
        write(state.path("test.tar"), TEST, layer, &["sleep", "2147483647"])
    }

    fn agent(state: &State, parts: &Parts) -> Result<Self> {
        let mut layer = Archive::new(0);
        layer.file("usr/local/bin/podtrace", 0o755, &musl::stripped(&parts.podtrace)?)?;
        for tools::File { at, from } in tools::files(&RULE_READERS)? {
            let at = at.strip_prefix("/").unwrap_or(&at).display().to_string();
            layer.file(&at, 0o755, &read(&from)?)?;
        }
        write(state.path("agent.tar"), AGENT, layer, &["podtrace"])
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Writes an image as `docker save` does, which containerd reads.
fn write(path: PathBuf, name: &str, layer: Archive, entry: &[&str]) -> Result<Image> {
    let layer = layer.finish()?;
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": entry, "Env": ["PATH=/usr/local/bin:/usr/bin:/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", hash(&layer))]},
    });
    let config = config.to_string();
    let file = format!("{}.json", hash(config.as_bytes()));
    let manifest = json!([{"Config": file, "RepoTags": [name], "Layers": ["layer.tar"]}]).to_string();
    let about = || format!("cannot write {}", path.display());
    let mut image = Builder::new(File::create(&path).with_context(about)?);
    for (name, content) in
        [("layer.tar", &layer[..]), (&file, config.as_bytes()), ("manifest.json", manifest.as_bytes())]
    {
        let mut header = Header::new_gnu();
        header.set_size(u64::try_from(content.len())?);
        header.set_mode(0o644);
        image.append_data(&mut header, name, content).with_context(about)?;
    }
    image.finish().with_context(about)?;
    Ok(Image { path })
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read as _;

    use super::*;

    fn files(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(archive).entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            files.insert(name, content);
        }
        files
    }

    #[test]
    fn an_image_names_its_layer_by_its_content() {
        let directory = tempfile::tempdir().unwrap();
        let mut layer = Archive::new(0);
        layer.file("bin/a", 0o755, b"program").unwrap();
        layer.link("bin/b", "a").unwrap();
        let image = write(directory.path().join("i.tar"), "localhost/x:1", layer, &["a"]).unwrap();
        let parts = files(&fs::read(image.path()).unwrap());
        let manifest: serde_json::Value = serde_json::from_slice(&parts["manifest.json"]).unwrap();
        assert_eq!(manifest[0]["RepoTags"][0], "localhost/x:1");
        let config: serde_json::Value =
            serde_json::from_slice(&parts[manifest[0]["Config"].as_str().unwrap()]).unwrap();
        assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{}", hash(&parts["layer.tar"])));
        assert_eq!(files(&parts["layer.tar"])["bin/a"], b"program");
    }
}

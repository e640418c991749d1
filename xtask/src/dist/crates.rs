//! Which crates are part of podtrace's binary on a platform, and what their manifests say of them.
//!
//! cargo's tree says which: normal dependencies without macros, of podtrace for its target and of the eBPF programs, which
//! the binary embeds. cargo's metadata describe them, and Cargo.lock has their checksums.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::architecture::Architecture;
use crate::build::host_cargo;
use crate::{run, toolchain, workspace};

/// Name and version.
pub(crate) type Id = (String, String);

/// A crate.
#[derive(Debug)]
pub(crate) struct Linked {
    pub(crate) name: String,
    pub(crate) version: String,
    /// As SPDX writes it.
    pub(crate) licence: String,
    pub(crate) repository: Option<String>,
    /// Its sources.
    pub(crate) folder: PathBuf,
    /// SHA-256 of its package; nothing for crates of this workspace.
    pub(crate) checksum: Option<String>,
}

/// All crates of the binary for `architecture`, by name and version.
pub(crate) fn linked(architecture: Architecture) -> Result<Vec<Linked>> {
    let mut ids = of_user_space(architecture)?;
    ids.append(&mut tree("tracer-ebpf", toolchain::target())?);
    let mut described = described()?;
    let lock = workspace::root().join("Cargo.lock");
    let lock = fs::read_to_string(&lock).with_context(|| format!("cannot read {}", lock.display()))?;
    let mut checksums = checksums(&lock);
    ids.into_iter()
        .map(|id| {
            let package = described
                .remove(&id)
                .with_context(|| format!("cargo's metadata do not describe {} {}", id.0, id.1))?;
            let manifest = package["manifest_path"].as_str().context("a package without a manifest")?;
            let text = |field: &str| package[field].as_str().map(str::to_owned);
            let checksum = checksums.remove(&id);
            let (name, version) = id;
            let licence = text("license").with_context(|| format!("{name} {version} names no licence"))?;
            Ok(Linked {
                // An older way to write it.
                licence: licence.replace('/', " OR "),
                repository: text("repository"),
                folder: Path::new(manifest).parent().unwrap_or(Path::new("/")).to_owned(),
                checksum,
                name,
                version,
            })
        })
        .collect()
}

/// Names and versions of the crates that are linked, without those of the eBPF programs.
pub(crate) fn of_user_space(architecture: Architecture) -> Result<BTreeSet<Id>> {
    tree("podtrace", architecture.musl())
}

fn tree(package: &str, target: &str) -> Result<BTreeSet<Id>> {
    let mut cargo = host_cargo("tree");
    cargo.args(["--locked", "--package", package, "--target", target, "--edges", "normal,no-proc-macro"]);
    let tree = run::ask(cargo.args(["--prefix", "none", "--format", "{p}"]));
    let ids = ids(&tree.with_context(|| format!("cargo prints no tree of {package} for {target}"))?);
    ensure!(ids.iter().any(|(name, _)| name == package), "{package} is not in its own tree");
    Ok(ids)
}

/// Reads lines such as `bytes v1.12.1 (*)`.
fn ids(tree: &str) -> BTreeSet<Id> {
    let id = |line: &str| {
        let mut words = line.split(' ');
        Some((words.next()?.to_owned(), words.next()?.strip_prefix('v')?.to_owned()))
    };
    tree.lines().filter_map(id).collect()
}

fn described() -> Result<BTreeMap<Id, Value>> {
    let mut cargo = host_cargo("metadata");
    let json =
        run::ask(cargo.args(["--locked", "--format-version", "1"])).context("cargo prints no metadata")?;
    let mut metadata: Value = serde_json::from_str(&json).context("reading cargo's metadata")?;
    let packages: Vec<Value> =
        serde_json::from_value(metadata["packages"].take()).context("cargo's metadata have no packages")?;
    let id = |package: &Value| {
        Some((package["name"].as_str()?.to_owned(), package["version"].as_str()?.to_owned()))
    };
    Ok(packages.into_iter().filter_map(|package| Some((id(&package)?, package))).collect())
}

/// The checksums in a Cargo.lock, which cargo writes one field a line.
fn checksums(lock: &str) -> BTreeMap<Id, String> {
    let checksum = |package: &str| {
        let field = |name: &str| {
            let line = package.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "))?;
            Some(line.trim_matches('"').to_owned())
        };
        Some(((field("name")?, field("version")?), field("checksum")?))
    };
    lock.split("[[package]]").filter_map(checksum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str, version: &str) -> Id {
        (name.to_owned(), version.to_owned())
    }

    #[test]
    fn a_tree_is_read() {
        let tree =
            "podtrace v0.1.0 (/src/tracer)\nbytes v1.12.1\nbytes v1.12.1 (*)\n\n[build-dependencies]\n";
        assert_eq!(ids(tree), [id("podtrace", "0.1.0"), id("bytes", "1.12.1")].into());
    }

    #[test]
    fn checksums_are_read_from_the_lock() {
        let lock = "version = 4\n\n[[package]]\nname = \"bytes\"\nversion = \"1.12.1\"\nsource = \"r\"\n\
                    checksum = \"1f2a\"\n\n[[package]]\nname = \"podtrace\"\nversion = \"0.1.0\"\n";
        assert_eq!(checksums(lock), [(id("bytes", "1.12.1"), "1f2a".to_owned())].into());
    }

    #[test]
    fn what_the_binary_has_is_described_and_what_only_builds_it_is_not() {
        for architecture in Architecture::ALL {
            let linked = linked(architecture).unwrap();
            let named = |name: &str| linked.iter().any(|linked| linked.name == name);
            for name in [
                "podtrace",
                "podtrace-path",
                "tokio",
                "kube-client",
                "aya",
                "ring",
                "aya-ebpf",
                "network-types",
            ] {
                assert!(named(name), "{name} is linked on {architecture:?}");
            }
            for name in ["xtask", "podtrace-tests", "tempfile", "syn", "serde_derive", "criterion"] {
                assert!(!named(name), "{name} is not linked on {architecture:?}");
            }
            for crate_ in &linked {
                let ours = crate_.folder.starts_with(workspace::root());
                assert_eq!(crate_.checksum.is_none(), ours, "{crate_:?}");
            }
        }
    }
}

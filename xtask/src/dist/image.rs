//! The image of agents, as an OCI archive: podtrace, and Debian's programs that read a node's rules with the libraries that
//! they need. No shell, no package manager; an index with an image for each processor.
//!
//! `packages` fetches what Debian has, `closure` picks the files that are needed of it, `oci` packs them, and `check` has
//! skopeo read the archive.

mod check;
mod closure;
mod oci;
mod packages;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::{epoch, stage};
use crate::architecture::Architecture;
use crate::archive::Archive;
use crate::{run, workspace};

/// How many bytes one image may have, compressed.
const LARGEST: u64 = 25_000_000;

/// Its name before the tag, unless a release gives it another. In no registry, so that nobody else's is pulled by accident.
pub(crate) const LOCAL: &str = "localhost/podtrace";

/// What reads a node's rules. Both back ends of iptables; the plain names are what podtrace runs where it does not know
/// which of them a node has.
const READERS: [&str; 7] = [
    "nft",
    "iptables-nft-save",
    "ip6tables-nft-save",
    "iptables-legacy-save",
    "ip6tables-legacy-save",
    "iptables-save",
    "ip6tables-save",
];

/// Folders that a container's runtime mounts on, since the root is read-only, and mounts of `podtrace manifest`.
const FOLDERS: [&str; 6] = ["dev", "etc", "proc", "run/podtrace", "sys", "tmp"];

/// Links of a root that has merged `/usr`, as Debian's has.
const MERGED: [(&str, &str); 4] =
    [("bin", "usr/bin"), ("lib", "usr/lib"), ("lib64", "usr/lib64"), ("sbin", "usr/sbin")];

/// What is shipped for one processor.
pub(crate) struct Shipped {
    pub(crate) architecture: Architecture,
    pub(crate) binary: PathBuf,
}

/// Makes the archive of these into `output`, under this name, and prints what is in it. Returns its digest.
pub(crate) fn make(shipped: &[Shipped], name: &str, made_at: u64, output: &Path) -> Result<String> {
    let images = shipped.iter().map(|shipped| image(shipped, made_at)).collect::<Result<Vec<_>>>()?;
    let version = env!("CARGO_PKG_VERSION");
    let about = oci::About {
        name: format!("{name}:{version}"),
        tag: version.to_owned(),
        created: epoch::iso(made_at)?,
        revision: revision(),
    };
    let (archive, digest) = oci::archive(&images, &about, made_at)?;
    let path = output.join(format!("podtrace-{version}-image.tar"));
    fs::write(&path, archive).with_context(|| format!("cannot write {}", path.display()))?;
    let note = output.join(format!("podtrace-{version}-image.digest"));
    fs::write(&note, format!("{digest}\n")).with_context(|| format!("cannot write {}", note.display()))?;
    println!("image {name}:{version}, {digest}");
    check::read(&path, version, &digest, shipped.iter().map(|shipped| shipped.architecture))?;
    Ok(digest)
}

/// Which sources it is made of.
fn revision() -> Option<String> {
    let mut git = Command::new("git");
    let commit = run::ask(git.current_dir(workspace::root()).args(["rev-parse", "HEAD"]))?;
    Some(commit.trim().to_owned())
}

fn image(shipped: &Shipped, made_at: u64) -> Result<oci::Image> {
    let architecture = shipped.architecture;
    let packages = packages::provide(architecture)?;
    let mut debian = Archive::new(made_at);
    // In one order, whatever was found in which.
    let mut entries = BTreeMap::new();
    for folder in FOLDERS {
        entries.insert(folder.to_owned(), Entry::Folder);
    }
    for (link, to) in MERGED {
        entries.insert(link.to_owned(), Entry::Link(to.to_owned()));
    }
    let mut names = Vec::new();
    for package in &packages.all {
        if closure::take(&packages.root, package, &packages.needed, &mut entries)? {
            names.push(format!("{} {}", package.name, package.version));
        }
    }
    for (path, entry) in &entries {
        match entry {
            Entry::Folder => debian.directory(path, 0o755)?,
            Entry::Link(to) => debian.link(path, to)?,
            Entry::File(content, mode) => debian.file(path, *mode, content)?,
        }
    }
    let mut own = Archive::new(made_at);
    own.file("usr/bin/podtrace", 0o755, &read(&shipped.binary)?)?;
    let staged = stage::folder(architecture);
    for name in [stage::LICENCES, stage::SBOM, "LICENSE-APACHE", "LICENSE-MIT"] {
        own.file(&format!("usr/share/doc/podtrace/{name}"), 0o644, &read(&staged.join(name))?)?;
    }
    let image = oci::Image::new(architecture, vec![debian.finish()?, own.finish()?])?;
    let size = image.compressed_size();
    println!(
        "image for {}: {:.1} MB, of Debian: {}",
        architecture.debian(),
        size as f64 / 1e6,
        names.join(", ")
    );
    ensure!(size <= LARGEST, "the image has {size} bytes, and {LARGEST} are allowed");
    Ok(image)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Something in a layer.
#[derive(Debug, PartialEq, Eq)]
enum Entry {
    Folder,
    Link(String),
    /// Content and mode.
    File(Vec<u8>, u32),
}

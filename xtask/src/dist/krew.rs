//! The manifest of `kubectl krew`, with the checksums of the tarballs that were made.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::{sums, tarball};
use crate::architecture::Architecture;

/// The manifest with placeholders.
const TEMPLATE: &str = include_str!("../../../packaging/krew/podtrace.yaml");

/// Its name: krew wants that of the plugin.
const NAME: &str = "podtrace.yaml";

/// Writes it beside the tarballs.
pub(crate) fn write(output: &Path) -> Result<()> {
    let mut hashes = Vec::new();
    for architecture in Architecture::ALL {
        let path = output.join(format!("{}.tar.gz", tarball::name(architecture)));
        let content = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        hashes.push((architecture, sums::hash(&content)));
    }
    let path = output.join(NAME);
    fs::write(&path, filled_in(&hashes)?).with_context(|| format!("cannot write {}", path.display()))
}

fn filled_in(hashes: &[(Architecture, String)]) -> Result<String> {
    // The comment is about the template.
    let body = TEMPLATE.lines().skip_while(|line| line.starts_with('#'));
    let mut text: String = body.map(|line| format!("{line}\n")).collect();
    text = text.replace("PODTRACE_VERSION", env!("CARGO_PKG_VERSION"));
    for (architecture, hash) in hashes {
        let archive = format!("/{}.tar.gz", tarball::name(*architecture));
        ensure!(text.contains(&archive), "packaging/krew/{NAME} does not name {archive}");
        text = text.replace(&format!("SHA256_OF_{}", architecture.name().to_uppercase()), hash);
    }
    ensure!(
        !text.contains("SHA256_OF_"),
        "packaging/krew/{NAME} names a processor that podtrace is not built for"
    );
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_archive_stands_beside_its_checksum() {
        let hashes = Architecture::ALL.map(|this| (this, format!("{}-sum", this.name())));
        let text = filled_in(&hashes).unwrap();
        assert!(text.starts_with("apiVersion: krew.googlecontainertools.github.com/v1alpha2\n"), "{text}");
        for (architecture, sum) in hashes {
            let lines: Vec<_> = text.lines().map(str::trim).collect();
            let at = lines
                .iter()
                .position(|line| line.ends_with(&format!("-linux-{}.tar.gz", architecture.name())));
            assert_eq!(lines[at.unwrap() + 1], format!("sha256: {sum}"));
            assert_eq!(lines[at.unwrap() - 1], format!("arch: {}", architecture.debian()));
        }
    }
}

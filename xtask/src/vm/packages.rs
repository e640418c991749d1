//! Which of Debian's packages hold the newest kernel of a series.

use std::process::Command;

use anyhow::{Context as _, Result};

use super::series::Series;
use crate::debian::{PrivateApt, Repository};
use crate::run;

/// Where kernels come from. Between them these suites have every series from 5.10 on.
pub(super) const SUITES: [(Repository, &str); 5] = [
    (Repository::Security, "bullseye-security"),
    (Repository::Security, "bookworm-security"),
    (Repository::Security, "trixie-security"),
    (Repository::Main, "bookworm-backports"),
    (Repository::Main, "trixie-backports"),
];

/// The flavour for virtual machines, the smaller one.
const FLAVOUR: &str = "-cloud-amd64";

/// Packages that hold the image and modules of kernels whose own package is empty.
const PARTS: [&str; 2] = ["linux-binary-", "linux-modules-"];

/// A package and all that belongs to it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct KernelPackage {
    /// What `uname -r` will say.
    pub(super) release: String,
    /// Debian's version.
    pub(super) version: String,
    /// The packages that hold image and modules.
    pub(super) packages: Vec<String>,
}

/// The newest kernel of a series; nothing if no suite has one.
pub(super) fn newest(apt: &PrivateApt, series: Series) -> Result<Option<KernelPackage>> {
    let prefix = format!("linux-image-{series}.");
    let names = run::ask(apt.command("apt-cache").arg("pkgnames").arg(&prefix)).unwrap_or_default();
    let names: Vec<_> = names.lines().filter(|name| name.ends_with(FLAVOUR)).collect();
    if names.is_empty() {
        return Ok(None);
    }
    let shown = run::ask(apt.command("apt-cache").args(["show", "--no-all-versions"]).args(&names))
        .context("apt-cache cannot show the kernels it has just listed")?;
    let mut newest: Option<KernelPackage> = None;
    for kernel in kernels(&shown) {
        if newest.as_ref().is_none_or(|newest| is_newer(&kernel.version, &newest.version)) {
            newest = Some(kernel);
        }
    }
    Ok(newest)
}

/// The kernels in the output of `apt-cache show`.
fn kernels(shown: &str) -> Vec<KernelPackage> {
    let kernel = |paragraph: &str| {
        let field = |name: &str| {
            paragraph.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::trim)
        };
        let package = field("Package")?;
        let release = package.strip_prefix("linux-image-")?;
        let mut packages = vec![package.to_owned()];
        // Since 7.x the image's package is empty and depends on those that hold image and modules.
        let depends = field("Depends").unwrap_or_default().split([',', '|']);
        let names = depends.filter_map(|dependency| dependency.split_whitespace().next());
        let parts = names
            .filter(|name| PARTS.iter().any(|part| name.strip_prefix(part).is_some_and(|of| of == release)));
        packages.extend(parts.map(str::to_owned));
        Some(KernelPackage { release: release.to_owned(), version: field("Version")?.to_owned(), packages })
    };
    shown.split("\n\n").filter_map(kernel).collect()
}

/// Whether one Debian version is newer than the other.
fn is_newer(version: &str, than: &str) -> bool {
    Command::new("dpkg")
        .args(["--compare-versions", version, "gt", than])
        .status()
        .is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_may_be_one_package_or_several() {
        let shown = "\
Package: linux-image-6.1.0-56-cloud-amd64
Version: 6.1.192-2
Depends: kmod, linux-base (>= 4.3~), initramfs-tools (>= 0.120+deb8u2) | linux-initramfs-tool

Package: linux-image-7.3.4+deb13-cloud-amd64
Version: 7.3.4-1~bpo13+1
Pre-Depends: linux-base (>= 4.17~)
Depends: dracut | linux-initramfs-tool, linux-base-7.3.4+deb13-cloud-amd64 (= 7.3.4-1~bpo13+1), linux-binary-7.3.4+deb13-cloud-amd64 (= 7.3.4-1~bpo13+1), linux-modules-7.3.4+deb13-cloud-amd64 (= 7.3.4-1~bpo13+1)
";
        let found = kernels(shown);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].release, "6.1.0-56-cloud-amd64");
        assert_eq!(found[0].packages, ["linux-image-6.1.0-56-cloud-amd64"]);
        assert_eq!(found[1].version, "7.3.4-1~bpo13+1");
        assert_eq!(
            found[1].packages,
            [
                "linux-image-7.3.4+deb13-cloud-amd64",
                "linux-binary-7.3.4+deb13-cloud-amd64",
                "linux-modules-7.3.4+deb13-cloud-amd64"
            ]
        );
    }
}

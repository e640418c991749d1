//! Debian's packages for another processor than perhaps this machine's: fetched with all that they depend on, unpacked into
//! a folder, and not installed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::READERS;
use super::closure;
use crate::architecture::Architecture;
use crate::debian::{PrivateApt, Repository, unpack};
use crate::{run, workspace};

/// The release that they are of.
const SUITES: [(Repository, &str); 2] =
    [(Repository::Main, "trixie"), (Repository::Security, "trixie-security")];

/// What is asked for.
const PACKAGES: [&str; 2] = ["iptables", "nftables"];

/// A package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) version: String,
    /// Its paragraph, as dpkg keeps it of what is installed.
    pub(super) control: String,
    /// Its files, below `/`.
    pub(super) files: BTreeSet<PathBuf>,
}

/// Everything unpacked.
pub(super) struct Packages {
    /// What would be `/`.
    pub(super) root: PathBuf,
    pub(super) all: Vec<Package>,
    /// The files that the programs need, themselves among them.
    pub(super) needed: BTreeSet<PathBuf>,
}

/// Fetches and unpacks them.
pub(super) fn provide(architecture: Architecture) -> Result<Packages> {
    let folder = workspace::cache_dir()?.join("image").join(architecture.debian());
    let apt = PrivateApt::open_for(architecture.debian(), folder.join("apt"), SUITES)?;
    apt.update(&format!("Debian trixie, {}", architecture.debian()))?;
    let mut simulated = apt.command("apt-get");
    simulated.args(["-q", "--simulate", "--no-install-recommends", "install"]).args(PACKAGES);
    let simulated =
        run::ask(&mut simulated).context("apt cannot say what nftables and iptables depend on")?;
    let wanted = installed(&simulated);
    ensure!(!wanted.is_empty(), "apt would install nothing for nftables and iptables");
    let (archives, root) = (folder.join("archives"), folder.join("root"));
    for stale in [&archives, &root] {
        if stale.exists() {
            fs::remove_dir_all(stale).with_context(|| format!("cannot remove {}", stale.display()))?;
        }
    }
    let exact: Vec<_> = wanted.iter().map(|(name, version)| format!("{name}={version}")).collect();
    apt.download(&format!("Debian's packages for {}", architecture.debian()), &exact, &archives)?;
    fs::create_dir_all(&root).with_context(|| format!("cannot create {}", root.display()))?;
    // As base-files would have it: packages may still name the old places.
    for (link, to) in super::MERGED {
        let to_path = root.join(to);
        fs::create_dir_all(&to_path).with_context(|| format!("cannot create {}", to_path.display()))?;
        let link = root.join(link);
        std::os::unix::fs::symlink(to, &link).with_context(|| format!("cannot create {}", link.display()))?;
    }
    let mut all = Vec::new();
    let about = || format!("cannot read {}", archives.display());
    for archive in fs::read_dir(&archives).with_context(about)? {
        let archive = archive.with_context(about)?.path();
        unpack(&archive, &root)?;
        all.push(describe(&archive)?);
    }
    all.sort();
    provide_alternatives(&root)?;
    let needed = closure::of(&root, &READERS)?;
    Ok(Packages { root, all, needed })
}

/// The links that iptables' maintainer scripts would make: the plain names mean the nft back end, as on Debian.
fn provide_alternatives(root: &Path) -> Result<()> {
    for name in ["iptables-save", "ip6tables-save"] {
        let link = root.join("usr/sbin").join(name);
        let to = name.replace("-save", "-nft-save");
        if link.symlink_metadata().is_err() {
            std::os::unix::fs::symlink(to, &link)
                .with_context(|| format!("cannot create {}", link.display()))?;
        }
    }
    Ok(())
}

fn describe(archive: &Path) -> Result<Package> {
    let about = || format!("dpkg-deb cannot read {}", archive.display());
    let control = run::ask(Command::new("dpkg-deb").arg("--field").arg(archive)).with_context(about)?;
    let listing = run::ask(Command::new("dpkg-deb").arg("--contents").arg(archive)).with_context(about)?;
    let field = |name: &str| {
        let line = control.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        Ok::<_, anyhow::Error>(line.with_context(about)?.trim().to_owned())
    };
    Ok(Package { name: field("Package")?, version: field("Version")?, files: files(&listing), control })
}

/// The paths in the output of `dpkg-deb --contents`: the sixth column, before the target of a link.
fn files(listing: &str) -> BTreeSet<PathBuf> {
    let path = |line: &str| {
        let path = line.split_whitespace().nth(5)?.strip_prefix("./")?;
        (!path.is_empty() && !path.ends_with('/')).then(|| PathBuf::from(path))
    };
    listing.lines().filter_map(path).collect()
}

/// Names and versions in the output of `apt-get --simulate install`.
fn installed(simulated: &str) -> BTreeSet<(String, String)> {
    let package = |line: &str| {
        let (name, rest) = line.strip_prefix("Inst ")?.split_once(" (")?;
        Some((name.to_owned(), rest.split_whitespace().next()?.to_owned()))
    };
    simulated.lines().filter_map(package).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_read_from_what_apt_would_do() {
        let simulated = "Inst gcc-14-base (14.2.0-19 Debian:13.1/stable [arm64])\n\
                         Inst libc6 (2.41-12 Debian:13.1/stable [arm64])\nConf libc6 (2.41-12 Debian:13.1/stable [arm64])\n";
        let expected = [("gcc-14-base", "14.2.0-19"), ("libc6", "2.41-12")];
        assert_eq!(installed(simulated), expected.map(|(n, v)| (n.to_owned(), v.to_owned())).into());
    }

    #[test]
    fn files_are_read_from_a_listing() {
        let listing = "drwxr-xr-x root/root         0 2024-12-01 10:00 ./usr/lib/\n\
                       -rw-r--r-- root/root     22592 2024-12-01 10:00 ./usr/lib/libmnl.so.0.2.0\n\
                       lrwxrwxrwx root/root         0 2024-12-01 10:00 ./usr/lib/libmnl.so.0 -> libmnl.so.0.2.0\n";
        let expected = ["usr/lib/libmnl.so.0", "usr/lib/libmnl.so.0.2.0"].map(PathBuf::from);
        assert_eq!(files(listing), expected.into());
    }
}

//! Packages for this machine's own use: QEMU, and busybox for the guests.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::private_apt::{PrivateApt, Repository, debian_release, unpack};

/// The release whose busybox is taken where this machine is not Debian.
const OTHERWISE: &str = "trixie";

/// The suites of this machine's release, backports too.
pub(crate) struct Host {
    pub(crate) apt: PrivateApt,
    release: Option<String>,
}

impl Host {
    /// Sets up apt for this machine's release and fetches its lists.
    pub(crate) fn open(directory: PathBuf) -> Result<Self> {
        let release = debian_release();
        let name = release.as_deref().unwrap_or(OTHERWISE);
        let suites = [
            (Repository::Main, name.to_owned()),
            (Repository::Main, format!("{name}-backports")),
            (Repository::Security, format!("{name}-security")),
        ];
        let suites = suites.iter().map(|(repository, suite)| (*repository, suite.as_str()));
        let apt = PrivateApt::open(directory, suites)?;
        apt.update(&format!("Debian {name}"))?;
        Ok(Self { apt, release })
    }

    /// Name of this release's backports; nothing where this is not Debian.
    pub(crate) fn backports(&self) -> Option<String> {
        self.release.as_ref().map(|release| format!("{release}-backports"))
    }

    /// Fetches a static busybox.
    pub(crate) fn busybox(&self, into: &Path) -> Result<()> {
        let scratch = into.with_extension("scratch");
        self.apt.download("busybox for the guests", &["busybox-static"], &scratch)?;
        let about = || format!("cannot take busybox out of its package in {}", scratch.display());
        let deb = fs::read_dir(&scratch).with_context(about)?.next().with_context(about)?;
        unpack(&deb.with_context(about)?.path(), &scratch)?;
        let places = ["bin/busybox", "usr/bin/busybox"].map(|place| scratch.join(place));
        let place = places.iter().find(|place| place.is_file()).with_context(about)?;
        fs::rename(place, into).with_context(about)?;
        fs::remove_dir_all(&scratch).with_context(|| format!("cannot remove {}", scratch.display()))
    }
}

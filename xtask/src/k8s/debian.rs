//! What a cluster takes from Debian: the sources of Kubernetes, their compiler, and what nodes run besides. Nothing of
//! it is installed: etcd and containerd would be started on this machine.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::debian::{PrivateApt, Repository, unpack};

/// The release whose Kubernetes is taken. Its other programs run on every later release too.
const SUITES: [(Repository, &str); 2] =
    [(Repository::Main, "bookworm"), (Repository::Security, "bookworm-security")];

/// Packages of what nodes run.
const PROGRAMS: [&str; 5] =
    ["etcd-server", "containerd", "runc", "containernetworking-plugins", "busybox-static"];

/// The compiler's.
const GO: [&str; 2] = ["golang-1.19-go", "golang-1.19-src"];

/// Debian's packages.
pub(super) struct Debian {
    cache: PathBuf,
    apt: PrivateApt,
}

impl Debian {
    /// Fetches the lists.
    pub(super) fn open(cache: &Path) -> Result<Self> {
        let apt = PrivateApt::open_with_sources(cache.join("apt"), SUITES)?;
        apt.update("Debian bookworm")?;
        Ok(Self { cache: cache.to_owned(), apt })
    }

    /// The compiler; where it is.
    pub(super) fn go(&self) -> Result<PathBuf> {
        let directory = self.cache.join("go");
        if !directory.exists() {
            self.provide("the Go compiler", &GO, &directory)?;
        }
        let root = directory.join("usr/lib/go-1.19");
        ensure!(root.join("bin/go").is_file(), "there is no Go compiler in {}", directory.display());
        Ok(root)
    }

    /// The archive of Kubernetes' sources.
    pub(super) fn kubernetes(&self) -> Result<PathBuf> {
        let find = || -> Option<PathBuf> {
            let entries = fs::read_dir(&self.cache).ok()?.flatten();
            let named = |name: &str| name.starts_with("kubernetes_") && name.contains(".orig.tar.");
            entries
                .map(|entry| entry.path())
                .find(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(named))
        };
        if let Some(found) = find() {
            return Ok(found);
        }
        self.apt.download_source("the sources of Kubernetes", "kubernetes", &self.cache)?;
        find().with_context(|| format!("apt has left no sources of Kubernetes in {}", self.cache.display()))
    }

    /// Unpacks packages into a directory, which is there only once it is whole.
    fn provide(&self, what: &str, packages: &[&str], directory: &Path) -> Result<()> {
        let half = directory.with_extension("half");
        if half.exists() {
            fs::remove_dir_all(&half).with_context(|| format!("cannot remove {}", half.display()))?;
        }
        let archives = half.join("archives");
        self.apt.download(what, packages, &archives)?;
        let about = || format!("cannot read {}", archives.display());
        for archive in fs::read_dir(&archives).with_context(about)? {
            unpack(&archive.with_context(about)?.path(), &half)?;
        }
        fs::remove_dir_all(&archives).with_context(|| format!("cannot remove {}", archives.display()))?;
        fs::rename(&half, directory).with_context(|| format!("cannot write {}", directory.display()))
    }
}

/// What nodes run besides Kubernetes.
pub(super) struct Programs {
    directory: PathBuf,
}

impl Programs {
    /// Fetches them, unless that was done once.
    pub(super) fn provide(cache: &Path) -> Result<Self> {
        let directory = cache.join("debian");
        if !directory.exists() {
            Debian::open(cache)?.provide("etcd, containerd and busybox", &PROGRAMS, &directory)?;
        }
        Ok(Self { directory })
    }

    /// The directories of programs.
    pub(super) fn path(&self) -> [PathBuf; 2] {
        ["usr/bin", "usr/sbin"].map(|part| self.directory.join(part))
    }

    /// The plugins of pods' networks.
    pub(super) fn cni(&self) -> PathBuf {
        self.directory.join("usr/lib/cni")
    }

    /// The static busybox.
    pub(super) fn busybox(&self) -> Result<PathBuf> {
        let places = ["bin/busybox", "usr/bin/busybox"].map(|place| self.directory.join(place));
        let found = places.into_iter().find(|place| place.is_file());
        found.with_context(|| format!("there is no busybox in {}", self.directory.display()))
    }
}

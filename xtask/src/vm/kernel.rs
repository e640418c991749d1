//! Kernels ready to boot, kept in the cache: fetched once, then used until asked for newer ones.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::cpio::Cpio;
use super::series::Series;
use super::{bzimage, modules, packages};
use crate::debian::{PrivateApt, unpack};

/// Where modules are in the guest, and the file that says in which order to load them.
pub(super) const MODULES: &str = "/lib/modules";
pub(super) const ORDER: &str = "/lib/modules/order";

/// A kernel ready to boot.
#[derive(Debug)]
pub(super) struct Kernel {
    /// Debian's version, which has the upstream one in front.
    pub(super) version: String,
    /// The uncompressed kernel.
    pub(super) vmlinux: PathBuf,
    /// An archive with its modules.
    pub(super) modules: PathBuf,
}

impl Kernel {
    /// The cached kernel of a series, if it is as this xtask makes them.
    pub(super) fn cached(cache: &Path, series: Series) -> Option<Self> {
        let directory = cache.join(series.to_string());
        let stamp = fs::read_to_string(directory.join("stamp")).ok()?;
        let (version, contents) = stamp.split_once('\n')?;
        let kernel = Self::at(&directory, version);
        (contents == made_of() && kernel.vmlinux.is_file() && kernel.modules.is_file()).then_some(kernel)
    }

    /// Fetches and prepares the newest kernel of a series.
    pub(super) fn fetch(cache: &Path, series: Series, apt: &PrivateApt) -> Result<Self> {
        let Some(package) = packages::newest(apt, series)? else {
            bail!("no suite of Debian's that can be reached has a kernel {series}");
        };
        let directory = cache.join(series.to_string());
        let debs = directory.join("debs");
        let unpacked = directory.join("unpacked");
        // What an older kernel, or an interrupted run, left there.
        if directory.exists() {
            fs::remove_dir_all(&directory)
                .with_context(|| format!("cannot remove {}", directory.display()))?;
        }
        apt.download(&format!("kernel {}", package.version), &package.packages, &debs)?;
        for deb in fs::read_dir(&debs).with_context(|| format!("cannot read {}", debs.display()))? {
            unpack(&deb?.path(), &unpacked)?;
        }
        let kernel = Self::at(&directory, &package.version);
        kernel.prepare(&unpacked, &package.release)?;
        for done in [debs, unpacked] {
            fs::remove_dir_all(&done).with_context(|| format!("cannot remove {}", done.display()))?;
        }
        // Written last: without it the kernel is not taken for complete.
        write(&directory.join("stamp"), format!("{}\n{}", kernel.version, made_of()).as_bytes())?;
        Ok(kernel)
    }

    fn at(directory: &Path, version: &str) -> Self {
        Self {
            version: version.to_owned(),
            vmlinux: directory.join("vmlinux"),
            modules: directory.join("modules.cpio"),
        }
    }

    /// Makes of an unpacked package what is booted.
    fn prepare(&self, unpacked: &Path, release: &str) -> Result<()> {
        let places = [unpacked.join("lib/modules"), unpacked.join("usr/lib/modules")];
        let place = places.iter().map(|place| place.join(release)).find(|place| place.is_dir());
        let place = place.with_context(|| format!("the package of kernel {release} has no modules"))?;
        // Since 7.x the image is beside the modules.
        let images = [unpacked.join("boot").join(format!("vmlinuz-{release}")), place.join("vmlinuz")];
        let image = images.iter().find(|image| image.is_file());
        let image = image.with_context(|| format!("the package of kernel {release} has no image"))?;
        let image = fs::read(image).with_context(|| format!("cannot read {}", image.display()))?;
        write(&self.vmlinux, &bzimage::vmlinux(&image)?)?;

        let mut cpio = Cpio::default();
        let mut order = String::new();
        for modules::Module { file, content } in modules::closure(&place, &modules::WANTED)? {
            cpio.file(&Path::new(MODULES).join(&file), 0o644, &content)?;
            order += &format!("{file}\n");
        }
        cpio.file(Path::new(ORDER), 0o644, order.as_bytes())?;
        write(&self.modules, &cpio.finish()?)
    }

    /// The version without Debian's revision.
    pub(super) fn upstream(&self) -> &str {
        self.version.split('-').next().unwrap_or(&self.version)
    }
}

/// What goes into a cached kernel besides the package: one that was made of something else is made anew.
fn made_of() -> String {
    modules::WANTED.join(" ")
}

fn write(path: &Path, content: &[u8]) -> Result<()> {
    fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))
}

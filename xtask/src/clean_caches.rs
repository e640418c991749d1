//! `cargo xtask clean-caches`: removes podtrace's cache directory.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::workspace;

pub(crate) fn run() -> Result<ExitCode> {
    let cache = workspace::cache_dir()?;
    if !cache.exists() {
        println!("nothing to remove: {} does not exist", cache.display());
        return Ok(ExitCode::SUCCESS);
    }
    let bytes = size(&cache)?;
    fs::remove_dir_all(&cache).with_context(|| format!("cannot remove {}", cache.display()))?;
    println!("removed {}: freed {:.1} MiB", cache.display(), bytes as f64 / f64::from(1 << 20));
    Ok(ExitCode::SUCCESS)
}

/// The bytes of all files below `path`, symbolic links not followed.
fn size(path: &Path) -> Result<u64> {
    let about = || format!("cannot read {}", path.display());
    let found = fs::symlink_metadata(path).with_context(about)?;
    if !found.is_dir() {
        return Ok(found.len());
    }
    let mut total = 0;
    for entry in fs::read_dir(path).with_context(about)? {
        total += size(&entry.with_context(about)?.path())?;
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_adds_up_files_and_follows_no_link() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("bin")).unwrap();
        fs::write(dir.path().join("bin/tool"), [0; 1000]).unwrap();
        fs::write(dir.path().join("note"), [0; 24]).unwrap();
        let before = size(dir.path()).unwrap();
        assert_eq!(before, 1024);
        std::os::unix::fs::symlink("/", dir.path().join("everything")).unwrap();
        assert_eq!(size(dir.path()).unwrap(), before + 1, "the link counts, what it points to does not");
    }
}

//! podtrace's own directory, `/run/podtrace`: what must outlive a process, for root alone.
//!
//! Other users must not open a file in it: whoever can may lock it, and hold up everybody else.

use std::fs::{DirBuilder, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use nix::unistd::geteuid;

/// Path of the directory.
pub const ROOT: &str = "/run/podtrace";

/// Only the owner gets in.
const PRIVATE: u32 = 0o700;

/// Makes sure that the directory and a directory in it exist and are private. Returns the latter's path.
///
/// # Errors
///
/// If one cannot be created, or is somebody else's.
pub fn prepare(name: &str) -> Result<PathBuf> {
    let path = Path::new(ROOT).join(name);
    loop {
        private(Path::new(ROOT))?;
        match private(&path) {
            // Its last user has removed both in between.
            Err(error) if is_not_found(&error) => {}
            done => return done.map(|()| path),
        }
    }
}

fn is_not_found(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == ErrorKind::NotFound)
}

fn private(directory: &Path) -> Result<()> {
    match DirBuilder::new().mode(PRIVATE).create(directory) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(error)
                .with_context(|| format!("creating {} (podtrace needs root)", directory.display()));
        }
        _ => {}
    }
    let metadata = directory
        .symlink_metadata()
        .with_context(|| format!("looking at the directory {}", directory.display()))?;
    ensure!(metadata.is_dir(), "{} is no directory: remove it", directory.display());
    ensure!(
        metadata.uid() == geteuid().as_raw(),
        "{} belongs to another user (id {}): remove it",
        directory.display(),
        metadata.uid()
    );
    if metadata.mode() & 0o7777 & !PRIVATE != 0 {
        std::fs::set_permissions(directory, Permissions::from_mode(PRIVATE))
            .with_context(|| format!("making {} private", directory.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_made_private_and_must_be_ones_own() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("podtrace");
        std::fs::create_dir(&directory).unwrap();
        std::fs::set_permissions(&directory, Permissions::from_mode(0o1777)).unwrap();
        private(&directory).unwrap();
        assert_eq!(directory.metadata().unwrap().mode() & 0o7777, PRIVATE);

        let link = parent.path().join("link");
        std::os::unix::fs::symlink(&directory, &link).unwrap();
        assert!(private(&link).unwrap_err().to_string().contains("is no directory"));

        let absent = private(&parent.path().join("absent/podtrace")).unwrap_err();
        assert!(is_not_found(&absent), "{absent:#}");
    }
}

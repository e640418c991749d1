//! The archive for machines without a package manager of ours, and for krew: everything in one folder.

use anyhow::Result;

use super::stage::Staged;
use crate::architecture::Architecture;
use crate::archive::{Archive, gzip};

/// What the folder in the archive, and before its ending the archive itself, are called.
pub(crate) fn name(architecture: Architecture) -> String {
    format!("podtrace-{}-linux-{}", env!("CARGO_PKG_VERSION"), architecture.name())
}

/// The compressed archive.
pub(crate) fn pack(
    architecture: Architecture,
    made_at: u64,
    binary: &[u8],
    files: &[Staged],
) -> Result<Vec<u8>> {
    let folder = name(architecture);
    let mut archive = Archive::new(made_at);
    archive.directory(&folder, 0o755)?;
    archive.file(&format!("{folder}/podtrace"), 0o755, binary)?;
    for Staged { path, content } in files {
        archive.file(&format!("{folder}/{path}"), 0o644, content)?;
    }
    gzip(&archive.finish()?)
}

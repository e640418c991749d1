//! What goes beside the binary into every package: manual, completions, licences, the bill of materials, documents.
//!
//! cargo-deb and cargo-generate-rpm take them from the folder [`folder`], as the metadata in `tracer/Cargo.toml` say.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};

use super::{compile, crates, epoch, licences, sbom};
use crate::architecture::Architecture;
use crate::workspace;

/// A shell, and what its completions are called in a folder of completions.
const SHELLS: [(&str, &str); 3] = [("bash", "podtrace"), ("zsh", "_podtrace"), ("fish", "podtrace.fish")];

/// Files of the checkout that go along.
const DOCUMENTS: [&str; 5] = ["README.md", "CHANGELOG.md", "SECURITY.md", "LICENSE-APACHE", "LICENSE-MIT"];

/// What [`licences`] and [`sbom`] are called.
pub(crate) const LICENCES: &str = "THIRD-PARTY-LICENSES";
pub(crate) const SBOM: &str = "podtrace.cdx.json";

/// A file beside the binary.
#[derive(Debug)]
pub(crate) struct Staged {
    /// Relative to the folder.
    pub(crate) path: String,
    pub(crate) content: Vec<u8>,
}

/// Where they are put, for the tools that make packages.
pub(crate) fn folder(architecture: Architecture) -> PathBuf {
    compile::folder(architecture).join("dist")
}

/// Makes all files for `architecture` and writes them into their folder, with a copy of the binary. `speaker` is a podtrace
/// that runs on this machine: manual and completions are the same for all.
pub(crate) fn files(
    architecture: Architecture,
    binary: &[u8],
    speaker: &Path,
    made_at: u64,
) -> Result<Vec<Staged>> {
    let linked = crates::linked(architecture)?;
    let bill = sbom::cyclonedx(&linked, architecture, &compile::rustc_version()?, &epoch::iso(made_at)?);
    let mut files = vec![
        staged("man/podtrace.1", printed(speaker, &["man"])?),
        staged(LICENCES, licences::third_party(&linked)?.into_bytes()),
        staged(SBOM, bill.into_bytes()),
    ];
    for (shell, name) in SHELLS {
        files
            .push(staged(&format!("completions/{shell}/{name}"), printed(speaker, &["completions", shell])?));
    }
    for name in DOCUMENTS {
        let path = workspace::root().join(name);
        files.push(staged(name, fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?));
    }
    files.sort_by(|one, other| one.path.cmp(&other.path));
    let folder = folder(architecture);
    for Staged { path, content } in &files {
        write(&folder.join(path), content, made_at)?;
    }
    write(&folder.join("podtrace"), binary, made_at)?;
    Ok(files)
}

/// Writes a file that is of this time: an RPM package keeps times that are earlier than that of the sources.
fn write(path: &Path, content: &[u8], made_at: u64) -> Result<()> {
    let about = || format!("cannot write {}", path.display());
    fs::create_dir_all(path.parent().unwrap_or(path)).with_context(about)?;
    fs::write(path, content).with_context(about)?;
    let file = fs::File::options().write(true).open(path).with_context(about)?;
    file.set_modified(UNIX_EPOCH + Duration::from_secs(made_at)).with_context(about)
}

fn staged(path: &str, content: Vec<u8>) -> Staged {
    Staged { path: path.to_owned(), content }
}

/// What podtrace prints with these arguments.
pub(crate) fn printed(program: &Path, arguments: &[&str]) -> Result<Vec<u8>> {
    let about = || format!("{} {}", program.display(), arguments.join(" "));
    // Nothing of the user's surroundings, which the manual would give as values.
    let output = Command::new(program).args(arguments).env_clear().output().with_context(about)?;
    ensure!(output.status.success() && !output.stdout.is_empty(), "{} prints nothing", about());
    Ok(output.stdout)
}

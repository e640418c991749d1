//! Whether everything comes out the same in another folder: a clone of the checkout, in which all is compiled anew.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use super::{Options, epoch, sums};
use crate::{run, workspace};

/// Of another length than any checkout's name.
const ELSEWHERE: &str = "dist-verify/a-clone-in-another-folder";

/// Fails if the checkout has changes: a clone has only what is committed.
pub(crate) fn ensure_unchanged() -> Result<()> {
    let mut git = Command::new("git");
    git.current_dir(workspace::root()).args(["status", "--porcelain", "--untracked-files=no"]);
    let changes = run::ask(&mut git).context("git does not say whether there are changes")?;
    ensure!(
        changes.is_empty(),
        "--verify compares with a clone of what is committed: commit your changes first"
    );
    Ok(())
}

/// Makes everything a second time, and compares it with what is in `output`.
pub(crate) fn again(options: &Options, made_at: u64, output: &Path) -> Result<()> {
    let clone = workspace::target_dir().join(ELSEWHERE);
    if clone.exists() {
        fs::remove_dir_all(&clone).with_context(|| format!("cannot remove {}", clone.display()))?;
    }
    let mut git = Command::new("git");
    git.args(["clone", "--quiet", "--local"]).args([&workspace::root(), &clone]);
    run::step("cloning the checkout", &mut git)?;
    let mut command = Command::new(std::env::current_exe().context("finding xtask's own binary")?);
    command.arg("dist").current_dir(&clone);
    command.args(options.arguments());
    // By this xtask knows its checkout.
    command.env("CARGO_MANIFEST_DIR", clone.join("xtask")).env_remove("CARGO_TARGET_DIR");
    command.env(epoch::VARIABLE, made_at.to_string()).env("TZ", "Pacific/Auckland").env("LC_ALL", "C");
    run::step("building everything again in another folder (some minutes)", &mut command)?;
    compare(output, &clone.join("target/dist"))?;
    fs::remove_dir_all(&clone).with_context(|| format!("cannot remove {}", clone.display()))
}

/// Compares two folders by their checksums.
fn compare(one: &Path, other: &Path) -> Result<()> {
    let (first, second) = (sums::of(one)?, sums::of(other)?);
    let names: std::collections::BTreeSet<_> = first.keys().chain(second.keys()).collect();
    let different: Vec<_> = names.into_iter().filter(|name| first.get(*name) != second.get(*name)).collect();
    if !different.is_empty() {
        bail!("not the same in {} and {}: {different:?}", one.display(), other.display());
    }
    println!("all {} files came out the same, to the byte, in another folder", first.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_or_a_file_makes_a_difference() {
        let [one, other] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let write = |folder: &tempfile::TempDir, name: &str, content: &str| {
            fs::write(folder.path().join(name), content).unwrap();
        };
        write(&one, "a", "same");
        write(&other, "a", "same");
        compare(one.path(), other.path()).unwrap();
        write(&other, "b", "only there");
        let error = compare(one.path(), other.path()).unwrap_err().to_string();
        assert!(error.contains("[\"b\"]"), "{error}");
        write(&one, "b", "only Here ");
        assert!(compare(one.path(), other.path()).is_err());
    }
}

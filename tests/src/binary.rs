//! Finds the podtrace binary under test.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::command::{SHORT, succeed};

/// Environment variable with the path of the binary under test.
pub const VARIABLE: &str = "PODTRACE_BIN";

/// The path of the podtrace under test.
///
/// # Errors
///
/// If there is none; the message says how to build it.
pub fn podtrace() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os(VARIABLE) {
        let path = PathBuf::from(named);
        if !path.is_file() {
            bail!("{VARIABLE} names {}, which does not exist", path.display());
        }
        return std::path::absolute(path).context("finding the binary under test");
    }
    let candidates = candidates()?;
    candidates.iter().find(|path| path.is_file()).cloned().with_context(|| {
        let looked: Vec<_> = candidates.iter().map(|path| path.display().to_string()).collect();
        format!("there is no podtrace to test at {}: `cargo xtask build` makes one", looked.join(" or "))
    })
}

/// Copies the podtrace under test to where users other than root can run it.
///
/// # Errors
///
/// If it cannot be copied.
pub fn copy_to(path: &Path) -> Result<()> {
    // By a process of its own: while this one has the copy open for writing, a process that another test starts has it
    // too, and the kernel refuses to execute it ("Text file busy").
    succeed(Command::new("cp").arg(podtrace()?).arg(path), SHORT).context("copying podtrace").map(drop)
}

/// `target/release/podtrace`, then the one beside the test's own executable.
fn candidates() -> Result<Vec<PathBuf>> {
    let own = std::env::current_exe().context("finding the test's own executable")?;
    // target/PROFILE/deps/TEST
    let profile = own.parent().and_then(Path::parent).context("the test is not in a target directory")?;
    let target = profile.parent().context("the test is not in a target directory")?;
    Ok(vec![target.join("release/podtrace"), profile.join("podtrace")])
}

//! Commands that say nothing unless they fail.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// Runs a command to its end; its stdout if it succeeds.
pub(super) fn quietly(command: &mut Command) -> Result<String> {
    told(command, "")
}

/// The same with something on its stdin.
pub(super) fn told(command: &mut Command, input: &str) -> Result<String> {
    let about = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {about}"))?;
    let mut stdin = child.stdin.take().context("the child's stdin was not piped")?;
    // What it has not read tells by how it ends.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().with_context(|| format!("cannot wait for {about}"))?;
    if !output.status.success() {
        bail!("{about} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A command line whose words have no spaces in them.
pub(super) fn words(line: &str) -> Command {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words);
    command
}

//! Whether we are root, and how to become root for one command.

use std::os::unix::fs::MetadataExt as _;
use std::process::Command;

use anyhow::{Result, bail};

use crate::run;

/// Whether this process runs with user id 0.
pub(crate) fn is_root() -> bool {
    // /proc/self belongs to the effective user: this spares a libc binding.
    std::fs::metadata("/proc/self").is_ok_and(|this| this.uid() == 0)
}

/// `program` as root: as it is, or through sudo.
pub(crate) fn command(program: impl AsRef<std::ffi::OsStr>) -> Result<Command> {
    let program = program.as_ref();
    if is_root() {
        return Ok(Command::new(program));
    }
    if run::find_program("sudo").is_none() {
        bail!("`{}` must run as root and there is no sudo: run this command as root", program.display());
    }
    let mut command = Command::new("sudo");
    command.arg("-E").arg(program);
    Ok(command)
}

/// Has cargo run test programs as root. cargo itself under sudo would leave files of root's in the checkout.
pub(crate) fn runner(cargo: &mut Command) {
    if is_root() {
        return;
    }
    let libc = if cfg!(target_env = "musl") { "musl" } else { "gnu" };
    let host = format!("{}_unknown_linux_{libc}", std::env::consts::ARCH);
    cargo.env(format!("CARGO_TARGET_{}_RUNNER", host.to_uppercase()), "sudo -E");
}

/// Lets sudo ask for its password now, before a progress line or a test's output hides the question.
pub(crate) fn authenticate() -> Result<()> {
    if is_root() {
        return Ok(());
    }
    eprintln!("the next step needs root: asking sudo");
    let status = command("true")?.status()?;
    if !status.success() {
        bail!("sudo did not let us run a command as root: run this command as root");
    }
    Ok(())
}

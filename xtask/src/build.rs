//! `cargo xtask build`: the kernel programs, then the release binary that embeds them.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::toolchain::{Route, Toolchain};
use crate::{ebpf, run, workspace};

pub(crate) fn run(route: Option<Route>) -> Result<ExitCode> {
    let binary = release(&Toolchain::provide(route)?)?;
    println!("{}", binary.display());
    Ok(ExitCode::SUCCESS)
}

/// Builds everything and returns where the binary is.
pub(crate) fn release(toolchain: &Toolchain) -> Result<PathBuf> {
    ebpf::build(toolchain)?;
    let mut cargo = host_cargo("build");
    run::step("compiling podtrace", cargo.args(["--release", "--package", "podtrace", "--bin", "podtrace"]))?;
    Ok(workspace::binary())
}

/// The cargo that runs xtask, about to run `subcommand` in the checkout.
pub(crate) fn host_cargo(subcommand: &str) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace::root()).arg(subcommand);
    command
}

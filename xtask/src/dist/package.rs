//! Packages for Debian and Fedora and what descends from them, made by cargo-deb and cargo-generate-rpm of what
//! `tracer/Cargo.toml` says, the staged files and the binary.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::epoch;
use crate::architecture::Architecture;
use crate::cargo_tool::CargoTool;
use crate::{run, workspace};

const DEB: CargoTool = CargoTool { name: "cargo-deb", version: "3.8.0", why: "it makes the Debian package" };
const RPM: CargoTool =
    CargoTool { name: "cargo-generate-rpm", version: "0.21.1", why: "it makes the RPM package" };

/// Debian's name for the package's file.
pub(crate) fn deb_name(architecture: Architecture) -> String {
    format!("podtrace_{}-1_{}.deb", env!("CARGO_PKG_VERSION"), architecture.debian())
}

/// RPM's.
pub(crate) fn rpm_name(architecture: Architecture) -> String {
    format!("podtrace-{}-1.{}.rpm", env!("CARGO_PKG_VERSION"), architecture.name())
}

/// Makes the Debian package.
pub(crate) fn deb(architecture: Architecture, made_at: u64, at: &Path) -> Result<()> {
    let mut command = tool(&DEB, made_at)?;
    // The binary is stripped already, by the compiler.
    command.args(["deb", "--no-build", "--no-strip", "--locked", "--package", "podtrace"]);
    command.args(["--target", architecture.musl(), "--output"]).arg(at);
    run::step(&format!("making the .deb for {}", architecture.debian()), &mut command)
}

/// Makes the RPM package.
pub(crate) fn rpm(architecture: Architecture, made_at: u64, at: &Path) -> Result<()> {
    let mut command = tool(&RPM, made_at)?;
    command.args(["generate-rpm", "--package", "tracer", "--target", architecture.musl(), "--target-dir"]);
    command.arg(workspace::target_dir()).args(["--payload-compress", "gzip", "--output"]).arg(at);
    run::step(&format!("making the .rpm for {}", architecture.name()), &mut command)
}

fn tool(tool: &CargoTool, made_at: u64) -> Result<Command> {
    let mut command = Command::new(tool.provide_pinned()?);
    command.current_dir(workspace::root()).env(epoch::VARIABLE, made_at.to_string());
    Ok(command)
}

//! Building podtrace: `cargo xtask build` the binary that is shipped, other commands one that compiles quickly.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::toolchain::{Route, Toolchain};
use crate::{ebpf, run, workspace};

/// What cargo builds of the programs of user space, always podtrace among them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum What {
    /// What is shipped: small and fast, and long in the making.
    Release,
    /// The same for trying it out: compiled quickly.
    Trial,
    /// That with all tests.
    Tests,
}

impl What {
    fn cargo(self) -> Command {
        let mut cargo = host_cargo("build");
        match self {
            Self::Release => cargo.args(["--release", "--package", "podtrace", "--bin", "podtrace"]),
            Self::Trial => cargo.args(USER_SPACE).args(["--bin", "podtrace"]),
            Self::Tests => cargo.args(USER_SPACE).args(["--lib", "--bins", "--tests"]),
        };
        cargo
    }

    /// Where podtrace is once it is built.
    fn binary(self) -> PathBuf {
        let profile = match self {
            Self::Release => "release",
            Self::Trial | Self::Tests => "debug",
        };
        workspace::target_dir().join(profile).join("podtrace")
    }

    fn named(self) -> &'static str {
        match self {
            Self::Release | Self::Trial => "podtrace",
            Self::Tests => "podtrace and its tests",
        }
    }
}

/// The packages that compile for this machine. Always all of them where several are wanted: with fewer, their common
/// dependencies may have other features, and all that uses these would be compiled once more.
pub(crate) const USER_SPACE: [&str; 3] = ["--workspace", "--exclude", "tracer-ebpf"];

pub(crate) fn run(route: Option<Route>) -> Result<ExitCode> {
    let (_, binary) = provide(What::Release, route)?;
    println!("{}", binary.display());
    Ok(ExitCode::SUCCESS)
}

/// Provides what compiles the eBPF programs and builds everything; returns where the binary is.
///
/// The programs of user space need none of what may have to be installed, and compile beside that. Only the last step,
/// which embeds the eBPF programs, waits for both.
pub(crate) fn provide(what: What, route: Option<Route>) -> Result<(Toolchain, PathBuf)> {
    let name = format!("compiling {}, beside that", what.named());
    let beside = run::Beside::start(&name, what.cargo())?;
    let toolchain = Toolchain::provide(route)?;
    ebpf::build(&toolchain)?;
    beside.finish()?;
    run::step("embedding the eBPF programs", &mut what.cargo())?;
    Ok((toolchain, what.binary()))
}

/// The cargo that runs xtask, about to run `subcommand` in the checkout.
pub(crate) fn host_cargo(subcommand: &str) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace::root()).arg(subcommand);
    command
}

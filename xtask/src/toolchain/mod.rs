//! What compiles the eBPF programs: a compiler with `core` for the BPF target, and bpf-linker.
//!
//! `choice` decides from facts alone, `probe` gathers the facts, `install` carries out what was decided.

mod choice;
mod install;
mod probe;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

pub(crate) use self::choice::Route;
use self::choice::{Compiler, Linker, Plan, decide};
use crate::{apt, run};

/// The BPF target of this machine's byte order.
pub(crate) fn target() -> &'static str {
    if cfg!(target_endian = "big") { "bpfeb-unknown-none" } else { "bpfel-unknown-none" }
}

/// A complete toolchain for the eBPF programs.
pub(crate) struct Toolchain {
    /// Where the compiler comes from.
    pub(crate) route: Route,
    compiler: Compiler,
    linker: Linker,
}

impl Toolchain {
    /// The toolchain that is here without anything being installed.
    pub(crate) fn installed(forced: Option<Route>) -> Option<Self> {
        match decide(&probe::installed(), forced).ok()? {
            Plan { route, compiler: Some(compiler), linker: Some(linker), installs }
                if installs.is_empty() =>
            {
                Some(Self { route, compiler, linker })
            }
            _ => None,
        }
    }

    /// Finds a toolchain; installs what is missing, saying what and why.
    pub(crate) fn provide(forced: Option<Route>) -> Result<Self> {
        let mut machine = probe::installed();
        // What is there may suffice, and then apt need not be asked: it takes its time.
        if !decide(&machine, forced).is_ok_and(|plan| plan.installs.is_empty()) && apt::is_here() {
            machine.packages = probe::packages();
        }
        loop {
            let Plan { route, compiler, linker, installs } = match decide(&machine, forced) {
                Ok(plan) => plan,
                Err(reasons) => bail!(
                    "nothing here can compile the eBPF programs:\n  {}\n  what works: \
                     `rustup toolchain install nightly --component rust-src`, and bpf-linker {} in PATH",
                    reasons.join("\n  "),
                    choice::LINKER_VERSION,
                ),
            };
            if let (Some(compiler), Some(linker), true) = (compiler, linker, installs.is_empty()) {
                return Ok(Self { route, compiler, linker });
            }
            for (install, why) in installs {
                if let Err(error) = install::run(install, &why) {
                    eprintln!("warning: {error:#}");
                    machine.refused.insert(install);
                    break;
                }
                if !probe::shows(install) {
                    bail!("{install} was installed, but is not found afterwards");
                }
            }
            machine = choice::Machine {
                packages: machine.packages,
                refused: machine.refused,
                ..probe::installed()
            };
        }
    }

    /// The cargo of this toolchain, about to run `subcommand` for the BPF target.
    pub(crate) fn cargo(&self, subcommand: &str) -> Result<Command> {
        let mut command = match self.route {
            Route::Rustup => {
                let mut command = Command::new("rustup");
                command.args(["run", "nightly", "cargo"]);
                command
            }
            Route::Debian => Command::new(probe::DEBIAN_CARGO),
        };
        run::without_outer_cargo(&mut command);
        command.arg(subcommand);
        if let Some(dir) = self.linker.path.parent() {
            command.env("PATH", run::path_with(dir)?);
        }
        match self.route {
            Route::Rustup => {
                command.args(["-Z", "build-std=core"]);
            }
            // A released compiler takes the unstable features that BPF needs only so.
            Route::Debian => {
                command.env("RUSTC_BOOTSTRAP", "1").env("RUSTC", probe::DEBIAN_RUSTC);
            }
        }
        Ok(command)
    }

    /// Where the compiler has the sources of its library, if it compiles that too.
    pub(crate) fn sysroot(&self) -> Option<PathBuf> {
        (self.route == Route::Rustup).then(probe::nightly_sysroot).flatten()
    }

    /// Whether this toolchain can run clippy; rustup is asked to add it.
    pub(crate) fn has_clippy(&self) -> bool {
        match self.route {
            Route::Rustup => {
                let here =
                    || probe::nightly_sysroot().is_some_and(|root| root.join("bin/cargo-clippy").is_file());
                here() || (install::nightly_clippy().is_ok() && here())
            }
            Route::Debian => Path::new("/usr/bin/cargo-clippy").is_file(),
        }
    }

    /// One phrase for a progress line.
    pub(crate) fn describe(&self) -> String {
        format!("{} 1.{}, LLVM {}", self.route.whose(), self.compiler.minor, self.compiler.llvm)
    }
}

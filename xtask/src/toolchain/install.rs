//! Carries out what `choice` decided to install.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::choice::{DEBIAN_COMPILER, Install, LINKER_VERSION, llvm_packages};
use crate::{apt, run, workspace};

/// Installs one thing, saying what it is and why.
pub(super) fn run(install: Install, why: &str) -> Result<()> {
    match install {
        Install::Nightly => {
            eprintln!("installing {install}: {why}");
            let arguments =
                ["toolchain", "install", "nightly", "--profile", "minimal", "--component", "rust-src"];
            rustup("rustup toolchain install nightly", &arguments)
        }
        Install::RustSrc => {
            eprintln!("installing {install}: {why}");
            rustup(
                "rustup component add rust-src",
                &["component", "add", "rust-src", "--toolchain", "nightly"],
            )
        }
        Install::DebianCompiler => apt::install(&DEBIAN_COMPILER, why),
        Install::BpfLinker { llvm } => bpf_linker(llvm, why),
    }
}

/// Adds clippy to the nightly toolchain.
pub(super) fn nightly_clippy() -> Result<()> {
    eprintln!("installing rustup's component clippy of the nightly toolchain: it checks the eBPF programs");
    rustup("rustup component add clippy", &["component", "add", "clippy", "--toolchain", "nightly"])
}

fn rustup(what: &str, arguments: &[&str]) -> Result<()> {
    run::step(what, run::without_outer_cargo(&mut Command::new("rustup")).args(arguments))
}

fn bpf_linker(llvm: u32, why: &str) -> Result<()> {
    let tools = workspace::tools_dir()?;
    let prefix = format!("/usr/lib/llvm-{llvm}");
    eprintln!("installing {} into {}: {why}", Install::BpfLinker { llvm }, tools.display());
    apt::install(&llvm_packages(llvm).each_ref().map(String::as_str), "bpf-linker is built on this LLVM")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // The toolchain that runs xtask builds the linker too; only the settings for its builds are kept off.
    let toolchain = std::env::var_os("RUSTUP_TOOLCHAIN");
    let mut command = Command::new(cargo);
    run::without_outer_cargo(&mut command)
        .args(["install", "bpf-linker", "--version", LINKER_VERSION, "--locked", "--force"])
        .args(["--no-default-features", "--features", &format!("llvm-{llvm}")])
        .args([OsStr::new("--root"), tools.as_os_str()])
        .env("LLVM_PREFIX", &prefix)
        .env("PATH", run::path_with(&Path::new(&prefix).join("bin"))?);
    if let Some(toolchain) = toolchain {
        command.env("RUSTUP_TOOLCHAIN", toolchain);
    }
    run::step(&format!("cargo install bpf-linker {LINKER_VERSION} (a minute or two)"), &mut command)
}

//! Compiles podtrace as it is shipped: without shared libraries, with its eBPF programs, with the list of its crates in it
//! (cargo-auditable), and with nothing of the machine that it was made on.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::architecture::Architecture;
use crate::cargo_tool::CargoTool;
use crate::toolchain::Toolchain;
use crate::{apt, ebpf, remap, run, rustup, workspace};

const AUDITABLE: CargoTool = CargoTool {
    name: "cargo-auditable",
    version: "0.7.7",
    why: "it notes in the binary which crates it has",
};

/// The first Rust whose musl starts programs with packed relocations (musl 1.2.4 and later).
const OLDEST_RUST: u32 = 93;

/// What Rust's own linker makes the program smaller by, a tenth in all: equal functions are one, and relocations are packed.
const SMALLER: [&str; 3] = ["-fuse-ld=lld", "-Wl,--icf=all", "-Wl,--pack-dyn-relocs=relr"];

/// Where what is compiled for `architecture` goes.
pub(crate) fn folder(architecture: Architecture) -> PathBuf {
    workspace::target_dir().join(architecture.musl()).join("release")
}

/// Compiles for `architecture`; where the binary is.
pub(crate) fn binary(architecture: Architecture, toolchain: &Toolchain) -> Result<PathBuf> {
    let (compiler, package) = architecture.compiler();
    if run::find_program(compiler).is_none() {
        apt::install(&[package], &format!("it compiles and links for {}", architecture.name()))?;
    }
    rustup::target(architecture.musl(), "what is shipped needs no C library")?;
    let version = rustc_version()?;
    let minor = version.split('.').nth(1).and_then(|minor| minor.parse::<u32>().ok());
    ensure!(
        minor.is_some_and(|minor| minor >= OLDEST_RUST),
        "Rust {version} is too old for what is shipped: 1.{OLDEST_RUST} or newer has the C library for it"
    );
    let auditable = AUDITABLE.provide_pinned()?;
    let object = ebpf::build_for(toolchain, architecture)?;
    // So that the folders of the registries are known.
    fetch()?;
    let mut command = Command::new(auditable);
    command.current_dir(workspace::root()).args(["auditable", "rustc", "--locked", "--release"]);
    command.args(["--package", "podtrace", "--bin", "podtrace", "--target", architecture.musl()]);
    command.env("PODTRACE_EBPF_OBJECT", object);
    let sysroot = sysroot()?;
    command.env("CARGO_ENCODED_RUSTFLAGS", remap::flags(Some(&sysroot)).join("\x1f"));
    let target = architecture.musl().replace('-', "_");
    // What is C among the dependencies wants nothing of the C library, so a compiler for glibc does.
    command.env(format!("CC_{target}"), compiler);
    command.env(format!("CARGO_TARGET_{}_LINKER", target.to_uppercase()), compiler);
    // For the program alone: the flags of crates would have all of them compiled anew.
    command.arg("--").args(SMALLER.map(|flag| format!("-Clink-arg={flag}")));
    command.arg(format!("-Clink-arg=-B{}", linkers(&sysroot)?.display()));
    run::step(&format!("compiling podtrace for {} (some minutes)", architecture.name()), &mut command)?;
    let binary = folder(architecture).join("podtrace");
    ensure!(binary.is_file(), "cargo has left no {}", binary.display());
    Ok(binary)
}

fn fetch() -> Result<()> {
    run::step("fetching the sources of crates", crate::build::host_cargo("fetch").arg("--locked"))
}

fn sysroot() -> Result<PathBuf> {
    let sysroot = run::ask(rustc().args(["--print", "sysroot"])).context("rustc does not say where it is")?;
    Ok(PathBuf::from(sysroot.trim()))
}

/// Where the C compiler finds Rust's own linker by the name that it knows.
fn linkers(sysroot: &Path) -> Result<PathBuf> {
    let text = run::ask(rustc().arg("-vV")).context("rustc does not say what it runs on")?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    let folder = sysroot.join("lib/rustlib").join(host).join("bin/gcc-ld");
    if !folder.join("ld.lld").is_file() {
        bail!("{} has no linker: rustup's toolchains have one", folder.display());
    }
    Ok(folder)
}

/// The compiler's version.
pub(crate) fn rustc_version() -> Result<String> {
    let text = run::ask(rustc().arg("--version")).context("rustc does not say its version")?;
    Ok(text.split_whitespace().nth(1).context("rustc's version is empty")?.to_owned())
}

fn rustc() -> Command {
    Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
}

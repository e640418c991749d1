//! Compiles the kernel programs into one object, and checks them with clippy.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::toolchain::Toolchain;
use crate::{run, workspace};

/// The BPF target of this machine's byte order.
pub(crate) fn target() -> &'static str {
    if cfg!(target_endian = "big") { "bpfeb-unknown-none" } else { "bpfel-unknown-none" }
}

/// Compiles the kernel programs; the object's file is touched only if its content changes, since the release
/// binary embeds it and would be built anew.
pub(crate) fn build(toolchain: &Toolchain) -> Result<PathBuf> {
    let what = format!("compiling the kernel programs ({})", toolchain.describe());
    run::step(&what, &mut cargo(toolchain, "build")?)?;
    let built = workspace::bpf_target_dir().join(target()).join("release/podtrace-ebpf");
    let object = workspace::ebpf_object();
    let content =
        fs::read(&built).with_context(|| format!("cannot read what cargo built: {}", built.display()))?;
    if fs::read(&object).ok().as_ref() != Some(&content) {
        fs::write(&object, content).with_context(|| format!("cannot write {}", object.display()))?;
    }
    Ok(object)
}

/// Checks the kernel programs with clippy.
pub(crate) fn clippy(toolchain: &Toolchain) -> Result<()> {
    let what = format!("clippy for the kernel programs ({})", toolchain.describe());
    run::step(&what, cargo(toolchain, "clippy")?.args(["--", "-D", "warnings"]))
}

fn cargo(toolchain: &Toolchain, subcommand: &str) -> Result<Command> {
    let mut command = toolchain.cargo(subcommand)?;
    let flags = [
        "-Clinker=bpf-linker",
        // The BTF of programs and maps is made of debug information.
        "-Cdebuginfo=2",
        "-Clink-arg=--btf",
        &format!("--cfg=bpf_target_arch=\"{}\"", std::env::consts::ARCH),
    ];
    command
        .current_dir(workspace::root())
        .args(["--package", "tracer-ebpf", "--bin", "podtrace-ebpf", "--release"])
        .args(["--target", target(), "--target-dir"])
        .arg(workspace::bpf_target_dir())
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    Ok(command)
}

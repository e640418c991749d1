//! Programs without shared libraries, for guests and images that have none.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::build::host_cargo;
use crate::run::Beside;
use crate::toolchain::Toolchain;
use crate::{ebpf, run, rustup};

/// What is compiled for.
const TARGET: &str = "x86_64-unknown-linux-musl";

/// Variable that names a C compiler for [`TARGET`].
const C_COMPILER: &str = "CC_x86_64_unknown_linux_musl";

/// A profile of cargo's for this.
const PROFILE: &str = "guest";

/// Compiles podtrace, the programs that tests run, and these test suites; where each is, by name.
pub(crate) fn programs(toolchain: &Toolchain, suites: &[String]) -> Result<BTreeMap<String, PathBuf>> {
    prepare(toolchain)?;
    run::step("compiling for guests and images", &mut cargo(suites))?;
    find(suites)
}

/// Begins to compile what [`programs`] needs, beside something that leaves the processors idle.
pub(crate) fn begin(toolchain: &Toolchain, suites: &[String]) -> Result<Beside<'static>> {
    prepare(toolchain)?;
    Beside::start("compiling for guests and images, beside that", cargo(suites))
}

fn prepare(toolchain: &Toolchain) -> Result<()> {
    ebpf::build(toolchain)?;
    // Without rustup, whether the target is there shows when it is compiled for.
    rustup::target(TARGET, "guests and images have no C library")?;
    Ok(())
}

fn cargo(suites: &[String]) -> Command {
    let mut cargo = host_cargo("build");
    // What is C among the dependencies wants nothing of the C library, so the host's compiler does.
    if std::env::var_os(C_COMPILER).is_none() {
        cargo.env(C_COMPILER, "cc");
    }
    // Always both packages: with one alone their common dependencies may have other features, and all would be
    // compiled once more.
    let packages = ["--package", "podtrace", "--package", "podtrace-tests"];
    cargo.args(["--profile", PROFILE, "--target", TARGET]).args(packages);
    cargo.arg("--bins");
    cargo.args(suites.iter().flat_map(|suite| ["--test", suite]));
    cargo
}

/// Where cargo put the programs, by name.
fn find(suites: &[String]) -> Result<BTreeMap<String, PathBuf>> {
    let messages = run::ask(cargo(suites).args(["--quiet", "--message-format", "json"]));
    let messages = messages.context("cargo does not say where its programs are")?;
    let mut found = BTreeMap::new();
    for line in messages.lines() {
        let message: Value = serde_json::from_str(line).context("reading cargo's messages")?;
        let (path, name) = (message["executable"].as_str(), message["target"]["name"].as_str());
        if let (Some(path), Some(name)) = (path, name) {
            found.insert(name.to_owned(), PathBuf::from(path));
        }
    }
    ensure!(found.contains_key("podtrace"), "cargo has not compiled podtrace statically");
    Ok(found)
}

/// A program without its debugging information, which would fill a guest's memory.
pub(crate) fn stripped(program: &Path) -> Result<Vec<u8>> {
    let small = program.with_extension("stripped");
    let mut strip = Command::new("strip");
    strip.arg("-o").args([&small, program]);
    let from = if run::ask(&mut strip).is_some() { &small } else { program };
    let content = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    // Not there if it could not be made.
    let _ = fs::remove_file(&small);
    Ok(content)
}

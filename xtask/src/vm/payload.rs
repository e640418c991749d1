//! What a guest is given: podtrace and its test programs, linked statically, and the files they read.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::cpio::Cpio;
use super::{pair, tools};
use crate::build::host_cargo;
use crate::toolchain::Toolchain;
use crate::{ebpf, run, workspace};

/// The guests have no C library.
const TARGET: &str = "x86_64-unknown-linux-musl";

/// Variable that names a C compiler for [`TARGET`].
const C_COMPILER: &str = "CC_x86_64_unknown_linux_musl";

/// The guests' own profile of cargo's.
const PROFILE: &str = "guest";

/// Where podtrace is in the guest.
pub(super) const PODTRACE: &str = "/bin/podtrace";

/// Test programs that run in guests. The others need no kernel.
pub(super) const SUITES: [&str; 2] = ["scenarios", "behaviour"];

/// Those of them that have something to show on every kernel.
pub(super) const COMPACT: [&str; 1] = ["scenarios"];

/// What the tests read at run time, below `tests/`.
const DATA: [&str; 2] = ["scenarios", "instructions.yaml"];

/// A test program that was compiled.
pub(super) struct Suite {
    pub(super) name: String,
    /// Where it is, in the guest as on this machine.
    pub(super) path: PathBuf,
}

/// What a guest is given.
pub(super) struct Payload {
    pub(super) archive: Vec<u8>,
    pub(super) suites: Vec<Suite>,
    /// All programs that were compiled, by name, where they are on this machine.
    pub(super) programs: BTreeMap<String, PathBuf>,
}

impl Payload {
    /// Compiles podtrace and these test suites.
    pub(super) fn build(toolchain: &Toolchain, wanted: &[String]) -> Result<Self> {
        ebpf::build(toolchain)?;
        target()?;
        let programs = programs(wanted)?;
        let mut archive = Cpio::default();
        tools::add(&mut archive)?;
        let mut suites = Vec::new();
        for (name, path) in &programs {
            if name == pair::SUITE {
                continue;
            }
            let content = stripped(path)?;
            if name == "podtrace" {
                archive.file(Path::new(PODTRACE), 0o755, &content)?;
                continue;
            }
            // Tests know their other programs and their data by the paths they were compiled with.
            archive.file(path, 0o755, &content)?;
            if wanted.contains(name) {
                suites.push(Suite { name: name.clone(), path: path.clone() });
            }
        }
        for data in DATA {
            add(&mut archive, &workspace::root().join("tests").join(data))?;
        }
        let in_guests = wanted.iter().filter(|name| *name != pair::SUITE).count();
        ensure!(suites.len() == in_guests, "cargo has not compiled all tests for the guests");
        // In the order they were asked for.
        suites.sort_by_key(|suite: &Suite| wanted.iter().position(|name| *name == suite.name));
        Ok(Self { archive: archive.finish()?, suites, programs })
    }

    /// Where a program is on this machine, and but for podtrace in the guest.
    pub(super) fn program(&self, name: &str) -> Result<&Path> {
        let path = self.programs.get(name).map(PathBuf::as_path);
        path.with_context(|| format!("cargo has not compiled {name} for the guests"))
    }
}

/// Provides the compiler's target.
fn target() -> Result<()> {
    if run::find_program("rustup").is_none() {
        // Whether the target is there shows when it is compiled for.
        return Ok(());
    }
    let installed = run::ask(Command::new("rustup").args(["target", "list", "--installed"]));
    if installed.is_some_and(|list| list.lines().any(|line| line.trim() == TARGET)) {
        return Ok(());
    }
    eprintln!("installing rustup's target {TARGET}: the guests have no C library");
    run::step(&format!("rustup target add {TARGET}"), Command::new("rustup").args(["target", "add", TARGET]))
}

/// Compiles what the guests run; the programs by name.
fn programs(wanted: &[String]) -> Result<BTreeMap<String, PathBuf>> {
    let cargo = || {
        let mut cargo = host_cargo("build");
        // What is C among the dependencies wants nothing of the C library, so the host's compiler does.
        if std::env::var_os(C_COMPILER).is_none() {
            cargo.env(C_COMPILER, "cc");
        }
        // Always both packages: with one alone their common dependencies may have other features, and all would be
        // compiled once more.
        cargo.args([
            "--profile",
            PROFILE,
            "--target",
            TARGET,
            "--package",
            "podtrace",
            "--package",
            "podtrace-tests",
        ]);
        cargo.args(["--bin", "podtrace"]);
        // What tests run besides podtrace is compiled with them.
        cargo.args(wanted.iter().flat_map(|suite| ["--test", suite]));
        cargo
    };
    run::step("compiling for the guests", &mut cargo())?;
    let messages = run::ask(cargo().args(["--quiet", "--message-format", "json"]));
    let messages = messages.context("cargo does not say where its programs are")?;
    let mut found = BTreeMap::new();
    for line in messages.lines() {
        let message: Value = serde_json::from_str(line).context("reading cargo's messages")?;
        let (path, name) = (message["executable"].as_str(), message["target"]["name"].as_str());
        if let (Some(path), Some(name)) = (path, name) {
            found.insert(name.to_owned(), PathBuf::from(path));
        }
    }
    ensure!(found.contains_key("podtrace"), "cargo has not compiled podtrace for the guests");
    Ok(found)
}

/// A program without its debugging information, which would fill the guest's memory.
fn stripped(program: &Path) -> Result<Vec<u8>> {
    let small = program.with_extension("stripped");
    let mut strip = Command::new("strip");
    strip.arg("-o").args([&small, program]);
    let from = if run::ask(&mut strip).is_some() { &small } else { program };
    let content = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    // Not there if it could not be made.
    let _ = fs::remove_file(&small);
    Ok(content)
}

/// Adds a file, or all below a directory, at the same paths as here.
fn add(archive: &mut Cpio, path: &Path) -> Result<()> {
    let about = || format!("cannot read {}", path.display());
    if !path.is_dir() {
        return archive.file(path, 0o644, &fs::read(path).with_context(about)?);
    }
    let mut entries: Vec<_> =
        fs::read_dir(path).and_then(Iterator::collect::<Result<_, _>>).with_context(about)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    entries.iter().try_for_each(|entry| add(archive, &entry.path()))
}

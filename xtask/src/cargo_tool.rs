//! Programs from crates.io that xtask runs, installed into podtrace's cache if the machine has none.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::build::host_cargo;
use crate::{run, workspace};

/// A program, the version of its package (of the same name) to install, and what it does here.
pub(crate) struct CargoTool {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    pub(crate) why: &'static str,
}

impl CargoTool {
    /// The program in PATH or in podtrace's cache, installed if it is missing.
    pub(crate) fn provide(&self) -> Result<PathBuf> {
        match run::find_program(self.name) {
            Some(program) => Ok(program),
            None => self.provide_pinned(),
        }
    }

    /// The program of just this version, from podtrace's cache: for what has to come out the same everywhere.
    pub(crate) fn provide_pinned(&self) -> Result<PathBuf> {
        let Self { name, version, why } = self;
        let tools = workspace::tools_dir()?;
        let own = tools.join("bin").join(name);
        let installed = std::fs::read_to_string(tools.join(".crates.toml")).unwrap_or_default();
        if own.is_file() && installed.contains(&format!("\"{name} {version} (")) {
            return Ok(own);
        }
        eprintln!("installing {name} {version} into {}: {why}", tools.display());
        let mut cargo = host_cargo("install");
        cargo.args([name, "--version", version, "--locked", "--root"]).arg(&tools);
        // Unoptimized it is compiled in a third of the time and quick enough.
        cargo.args(["--debug", "--config", "profile.dev.debug=false"]);
        run::step(&format!("cargo install {name} {version} (some minutes)"), &mut cargo)
            .with_context(|| format!("{name} could not be installed"))?;
        Ok(own)
    }
}

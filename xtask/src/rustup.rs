//! Parts of the toolchain that runs xtask, which rustup's minimal profile lacks.

use std::process::Command;

use anyhow::{Result, bail};

use crate::run;

/// Provides a component, which has this program.
pub(crate) fn component(name: &str, program: &str) -> Result<()> {
    if run::ask(Command::new(program).arg("--version")).is_some() {
        return Ok(());
    }
    if !is_here() {
        bail!("`{program}` is missing, and there is no rustup to add it: please install it");
    }
    add("component", name, "it checks the code")
}

/// Provides the libraries of a target; whether that could be done. Without rustup it shows when it is compiled for.
pub(crate) fn target(name: &str, why: &str) -> Result<bool> {
    if !is_here() {
        return Ok(false);
    }
    let installed = run::ask(Command::new("rustup").args(["target", "list", "--installed"]));
    if !installed.is_some_and(|list| list.lines().any(|line| line.trim() == name)) {
        add("target", name, why)?;
    }
    Ok(true)
}

fn is_here() -> bool {
    run::find_program("rustup").is_some()
}

fn add(what: &str, name: &str, why: &str) -> Result<()> {
    eprintln!("installing rustup's {what} {name}: {why}");
    run::step(&format!("rustup {what} add {name}"), Command::new("rustup").args([what, "add", name]))
}

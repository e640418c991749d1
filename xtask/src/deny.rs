//! cargo-deny: licences, sources and known vulnerabilities of what we depend on.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::build::host_cargo;
use crate::report::Report;
use crate::{run, workspace};

const PROGRAM: &str = "cargo-deny";
const VERSION: &str = "0.20.2";

/// Checks them. What cannot be had here is skipped: the program, and the list of vulnerabilities, which is a repository
/// elsewhere.
pub(crate) fn check(report: &mut Report) {
    let program = match provide() {
        Ok(program) => program,
        Err(error) => return report.skip("licences and advisories", &format!("{error:#}")),
    };
    report.step("licences", || {
        let mut deny = deny(&program);
        run::step("checking licences and sources", deny.args(["check", "bans", "licenses", "sources"]))
    });
    if run::ask(deny(&program).args(["fetch", "db"])).is_none() {
        return report.skip("advisories", "their database cannot be reached");
    }
    report.step("advisories", || {
        run::step("checking advisories", deny(&program).args(["check", "--disable-fetch", "advisories"]))
    });
}

fn deny(program: &PathBuf) -> Command {
    let mut command = Command::new(program);
    // As cargo runs its subcommands.
    command.current_dir(workspace::root()).args(["--workspace"]);
    command
}

/// The program, installed if it is missing.
fn provide() -> Result<PathBuf> {
    let tools = workspace::tools_dir()?;
    let own = tools.join("bin").join(PROGRAM);
    if let Some(program) = run::find_program(PROGRAM).or_else(|| own.is_file().then(|| own.clone())) {
        return Ok(program);
    }
    eprintln!("installing {PROGRAM} {VERSION} into {}: it checks licences and advisories", tools.display());
    let mut cargo = host_cargo("install");
    cargo.args([PROGRAM, "--version", VERSION, "--locked", "--root"]).arg(&tools);
    // Unoptimized it is compiled in a third of the time and quick enough.
    cargo.args(["--debug", "--config", "profile.dev.debug=false"]);
    run::step(&format!("cargo install {PROGRAM} {VERSION} (some minutes)"), &mut cargo)
        .with_context(|| format!("{PROGRAM} could not be installed"))?;
    Ok(own)
}

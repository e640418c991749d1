//! cargo-deny: licences, sources and known vulnerabilities of what we depend on.

use std::path::PathBuf;
use std::process::Command;

use crate::cargo_tool::CargoTool;
use crate::report::Report;
use crate::{run, workspace};

const PROGRAM: CargoTool =
    CargoTool { name: "cargo-deny", version: "0.20.2", why: "it checks licences and advisories" };

/// Checks them. What cannot be had here is skipped: the program, and the list of vulnerabilities, which is a repository
/// elsewhere.
pub(crate) fn check(report: &mut Report) {
    let program = match PROGRAM.provide() {
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
